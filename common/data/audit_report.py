"""An audit's result in sentences and as the Markdown page that a person reads."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from common.data.splits import SPLITS
from common.report import tables

_MASK_WORDS = {"unreadable": "cannot be read", "other_size": "have another size than their image", "empty": "are empty"}
_SHOWN = 20  # names listed of each kind of odd file; audit.json has them all


def findings(result: dict) -> list[str]:
    """One sentence a fact that matters, for the log and the head of the page: first what is used, what is not, and why."""
    drawn = ", drawn by this project (synthetic)" if result["synthetic"] else ""
    lines = [f"{result['images']} images in {len(result['classes'])} classes{drawn}."]
    left_out = ", ".join(f"{number} {what}" for what, number in result["left_out"].items())
    lines.append(f"Passed over: {left_out}." if left_out else "No file was passed over.")
    lines.append(_unreadable(result["unreadable"]))
    for column, mask in result["masks"].items():
        odd = "".join(f"; {mask[key]} {words}" for key, words in _MASK_WORDS.items() if mask[key])
        odd += f" (first: {next(iter(mask['problems'].values()))})" if mask["problems"] else ""
        lines.append(f"{mask['present']} of {result['images']} images have a {column.removeprefix('mask_')} mask{odd}.")
    if not result["masks"]:
        lines.append("No masks.")
    lines.append(f"Labels: {result['unlabelled']} images have none." if result["unlabelled"] else "Labels: none refused, none missing.")
    if result["official"] is True:
        lines.append("Every class has the official number of images.")
    elif result["official"] is False:
        wrong = [
            f"{label} {row['images']} of {row['official']}" for label, row in result["classes"].items() if row["images"] != row["official"]
        ]
        lines.append(f"Not the official numbers: {', '.join(wrong)}.")
    if result["turned"]:
        lines.append(_count(result["turned"], "are stored turned (EXIF or TIFF orientation) and read upright"))
    if result["flat"]:
        lines.append(_count(result["flat"], "are nearly of one colour, so perhaps show nothing"))
    if result["wrong_suffix"]:
        lines.append(_count(result["wrong_suffix"], "have a suffix that does not name their format"))
    if result["odd_modes"]:
        lines.append(_count(result["odd_modes"], "are neither 8-bit RGB nor 8-bit grey"))
    copies = sum(len(same) for same in result["identical"])
    sets = len(result["identical"])
    lines.append(f"{copies} images are byte-identical copies, in {sets} sets." if copies else "No two images are byte-identical.")
    if result["near_copies"]:
        pairs = result["near_copies"]
        first = f"first: {pairs[0][0]} and {pairs[0][1]}; at most {result['near_bits']} of 256 bits differ"
        lines.append(f"{len(pairs)} pairs of images are nearly the same picture ({first}); see audit.json.")
    if result["contradictions"]:
        pairs = result["contradictions"]
        lines.append(f"{len(pairs)} pairs of the same or nearly the same picture have two labels (first: {pairs[0][0]} and {pairs[0][1]}).")
    lines += _group_sentences(result)
    for name, split in result["splits"].items():
        lines += _split_sentences(name, split)
    return lines


def _count(names: Collection[str], verb: str) -> str:
    more = ", …" if len(names) > 3 else ""
    return f"{len(names)} images {verb}: {', '.join(list(names)[:3])}{more}."


def _unreadable(errors: dict[str, str]) -> str:
    if not errors:
        return "Every image can be decoded whole."
    kinds = []
    for reason, number in Counter(errors.values()).items():
        names = [name for name in errors if errors[name] == reason]
        kinds.append(f"{number} {reason} ({', '.join(names[:3])}{', …' if number > 3 else ''})")
    return f"{len(errors)} images cannot be read: {'; '.join(kinds[:5])}{'; …' if len(kinds) > 5 else ''}."


def _group_sentences(result: dict) -> list[str]:
    groups = result["groups"]
    if not groups["images_sharing"]:
        return ["No two images share a group (slide, lesion, patient), or the groups are not known."]
    lines = [
        f"{groups['images_sharing']} images share their group (slide, lesion, patient) with another; {groups['number']} groups, so"
        f" {result['images'] - groups['number']} images more than groups; the largest has {groups['largest']}."
    ]
    several = groups["with_several_labels"]
    if several:
        named = ", ".join(several[:3]) + (", …" if len(several) > 3 else "")
        lines.append(
            f"{len(several)} groups hold images of several classes ({named}): each counts as one slide, lesion or patient, which a grouped"
            " split keeps whole."
            + (" If each class numbers its own anew, let --group-pattern take the class too." if result["name"] == "folders" else "")
        )
    return lines


def _split_sentences(name: str, split: dict) -> Iterable[str]:
    for part in ("test", "validation"):
        leak = split["leakage"][part]
        if leak["images"]:
            share = f"{leak['shared']} of {leak['images']} {part} images ({leak['fraction']:.0%})"
            yield f"Split {name}: {share} share their group with a training image."
    if split["test_images_identical_to_train"]:
        yield f"Split {name}: test images that are byte-identical to a training image: {split['test_images_identical_to_train']}."
    if split["test_images_near_train"]:
        yield f"Split {name}: test images that are nearly the same picture as a training image: {split['test_images_near_train']}."


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table and the empty line after it."""
    return tables.markdown(head, rows).splitlines() + [""]


def markdown(result: dict) -> str:
    """The whole page: findings first, then the tables behind them."""
    lines = [f"# Audit of {result['name']}", ""]
    if result["synthetic"]:
        lines += ["**Synthetic images, drawn by this project; nothing here describes real patients.**", ""]
    lines += [f"- {line}" for line in result["findings"]] + ["", "## Classes", ""]
    lines += _class_table(result)
    asked = "At random, each of another group as far as there are groups: do they show what the class is named for?"
    lines += ["![Pictures of each class](pictures.png)", "", asked, ""]
    for name, split in result["splits"].items():
        lines += [f"## Split: {name}", ""]
        leak = split["leakage"]["test"]["per_class"]
        rows = [
            [label or "(unlabelled)", *(row[part] for part in SPLITS), leak.get(label, {}).get("shared", 0)]
            for label, row in split["classes"].items()
        ]
        rows.append(["all", *(split["totals"][part] for part in SPLITS), split["leakage"]["test"]["shared"]])
        lines += table(["class", *SPLITS, "test images whose group is also in train"], rows)
    if result["sizes"]:
        lines += ["## Sizes", "", f"Different sizes (width x height): {result['sizes']['different']}.", ""]
        rows = [
            [key, *(round(result["sizes"][key][stat], 1) for stat in ("min", "median", "mean", "max"))]
            for key in ("width", "height", "bytes")
        ]
        lines += table(["", "smallest", "median", "mean", "largest"], rows)
    lines += ["## Files", ""]
    lines += table(["format", "images"], result["formats"].items())
    lines += table(["pixels", "images"], result["modes"].items())
    for title, key in (
        ("Cannot be read", "unreadable"),
        ("Suffix does not name the format", "wrong_suffix"),
        ("Unusual pixels", "odd_modes"),
    ):
        names = list(result[key].items())
        if names:
            lines += [f"## {title} ({len(names)})", "", *(f"- {name}: {what}" for name, what in names[:_SHOWN])]
            lines += [f"- … {len(names) - _SHOWN} more in audit.json"] * (len(names) > _SHOWN) + [""]
    if result["identical"]:
        lines += [
            f"## Byte-identical ({len(result['identical'])} sets)",
            "",
            *(f"- {' = '.join(same)}" for same in result["identical"][:_SHOWN]),
        ]
        lines += [f"- … {len(result['identical']) - _SHOWN} more in audit.json"] * (len(result["identical"]) > _SHOWN) + [""]
    return "\n".join(lines).rstrip() + "\n"


def _class_table(result: dict) -> list[str]:
    known = result["official"] is not None
    rows = []
    for label, row in result["classes"].items():
        rows.append([label, row["images"], *([row["official"], row["images"] - row["official"]] if known else []), row["groups"]])
    return table(["class", "images", *(["official", "difference"] if known else []), "groups"], rows)
