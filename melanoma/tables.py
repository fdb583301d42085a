"""Tables 1 to 7 as rows of finished runs (`common.report.tables` compares and writes them); one folder per kind of run.

Localisation tables have a block per indicator and a score per image, the continuous Dice of images that have the indicator; beside the
methods stand maps that look at no image. The "melanoma" columns are tables of their own, since the paper calls them accuracy once and AUC
once (DEVIATIONS row 13).
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.report.markup import Printed, markdown, number
from common.report.tables import TableRow, write_table
from common.runs.finished import FoundRun, by_recipe, differences, finished_runs
from melanoma import figures, paper
from melanoma.counts import table_1, table_7
from melanoma.experiments.base import STUDY, THRESHOLDS
from melanoma.experiments.table import variant
from melanoma.experiments.tables import TablesSettings
from melanoma.folds import pooled

log = logging.getLogger(__name__)

DICE = "continuous_dice"
CUT = ", cut at 0.5"
TRIVIAL = ("whole image", "centred blob", "mean training mask")
DIAGNOSIS = ("auc", "balanced_accuracy", "sensitivity_at_80", "sensitivity_at_90", "accuracy")
# What the rows of one table may differ in; runs that differ in anything else stand in different folders.
_ROWS = {
    "simclr", "segmentation", "encoders", "repeats", "tasks", "order", "target", "watch", "segment_on", "segmentation_batch",
    "segmentation_epochs", "head_epochs", "dataset_b", "pretraining", "cam_stage", "lime_samples", "lime_images", "vat_epsilon", "vat_xi",
    "vat_weight", "indicator_heads", "weighting", "decoder_width", "calibrated_drawing",
}  # fmt: skip


def tables_command(settings: TablesSettings) -> None:
    """`melanoma tables`: every table and sheet from the runs below a folder."""
    for path in write_all(settings.runs, settings.output):
        print(path)


def write_all(folder: Path, output: Path | None = None) -> list[Path]:
    """All tables that the runs below `folder` can fill; returns the tables' paths. UsageError where no run is finished."""
    written: list[Path] = []
    output = output or folder / "tables"
    found = [run for run in finished_runs(folder, STUDY) if not run.path.is_relative_to(output)]  # what was written the last time
    for name, runs in families(pooled(found, output / "pooled")).items():
        target = output / name
        makers = (table_1, table_2, table_3, table_4, table_5, table_6, table_shared, table_7)
        written += [path for make in makers if (path := make(target, runs)) is not None]
        kinds = {run.path: (run.experiment, variant(run.recipe)) for run in runs if run.number is None}
        written += figures.sheets(target / "figures", kinds)
    for path in written:
        log.info("written: %s", path)
    return written


Names = Mapping[str, Sequence[FoundRun]]  # of a row: name -> seeds of one recipe


def families(runs: Sequence[FoundRun]) -> dict[str, list[FoundRun]]:
    """Folder's name -> the runs that may stand in one table: the same data and settings but for what rows vary."""
    found: dict[str, list[FoundRun]] = {}
    for run in runs:
        recipe = run.recipe
        if run.experiment == "pretrain":  # localises nothing
            continue
        same = [run.experiment == "shared", run.fingerprint, {key: value for key, value in recipe.items() if key not in _ROWS}]
        digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:4]
        name = f"{recipe['dataset']}-{recipe['backbone']}-{recipe['image_size']}px-{recipe['reading']}-{recipe['split']}-{digest}"
        found.setdefault(f"shared-{name}" if run.experiment == "shared" else name, []).append(run)
    return found


def indicators_of(runs: Sequence[FoundRun]) -> list[str]:
    """What the maps of these runs are scored against."""
    return list(dict.fromkeys(name for run in runs for entry in run.metrics().get("localisation", {}).values() for name in entry))


def dice(run: FoundRun, method: str, indicator: str, threshold: float = 0.0) -> pd.DataFrame:
    """Continuous Dice of the images that have the indicator: image, score, and the lesion as group where the run names it."""
    table = run.table("localisation.csv")
    chosen = (table["method"] == method) & (table["indicator"] == indicator) & np.isclose(table["threshold"], threshold) & ~table["empty"]
    found = table[chosen][["image", "dice"]].rename(columns={"dice": "score"}).reset_index(drop=True)
    if (run.path / "manifest.csv").is_file():
        manifest = run.table("manifest.csv", dtype=str, keep_default_na=False).set_index("image")
        found["group"] = manifest["group"].reindex(found["image"]).to_numpy()
    return found


def has(run: FoundRun, method: str, indicator: str) -> bool:
    """Whether the run scored this map on some image that has the indicator."""
    entry = run.metrics().get("localisation", {}).get(method, {}).get(indicator, {})
    return any(each["n"] for each in entry.values())


def _row(
    name: str, indicator: str, runs: Sequence[FoundRun], method: str, threshold: float, printed: Printed | None = None, fixed: bool = False
) -> TableRow:
    """The score of `method`'s maps of an indicator (the block)."""
    scored = [run for run in runs if has(run, method, indicator)]
    score = partial(dice, method=method, indicator=indicator, threshold=threshold)
    beside = {} if printed is None else {DICE: printed}
    return TableRow(name, paper.TITLES.get(indicator, indicator), scored, beside, _document(scored), score, fixed)


def _document(runs: Sequence[FoundRun]) -> dict[str, Any]:
    return paper.document(runs[0].recipe) if runs else {}


def map_rows(
    named: Names, method: str, indicators: Iterable[str], number: int = 0, printed_row: str = "", threshold: float = 0.0
) -> list[TableRow]:
    """A row per name and indicator: `method`'s maps of these runs, beside `number`'s printed row."""
    rows = []
    for name, runs in named.items():
        for indicator in indicators:
            value = paper.dice(number, printed_row, indicator) if printed_row else None
            unlike = "the masks are of lesions" if runs and indicator in runs[0].metrics().get("lesion_masks_for", ()) else ""
            printed = None if value is None else Printed(value, f"Table {number}", differs=unlike)
            rows.append(_row(name, indicator, runs, method, threshold, printed))
    return rows


def trivial_rows(runs: Sequence[FoundRun], indicators: Iterable[str], threshold: float = 0.0) -> list[TableRow]:
    """Maps that look at no image, as one run scored them; with the same test images they stand beside every seed."""
    fixed, rows = not repeated(runs), []
    for indicator in indicators:
        for method in TRIVIAL:
            scored = [run for run in runs if has(run, method, indicator)]
            kept = scored[:1] if fixed else list({run.seed: run for run in scored}.values())
            rows += [_row(_at(method, threshold), indicator, kept, method, threshold, fixed=fixed)] if kept else []
    return rows


def repeated(runs: Sequence[FoundRun]) -> bool:
    """Whether seeds have test images of their own: runs of before `split_seed` split by their seed."""
    return any(run.value("split_seed") is None for run in runs) or len({run.value("split_seed") for run in runs}) > 1


def named(title: str, runs: Sequence[FoundRun]) -> dict[str, list[FoundRun]]:
    """Name -> seeds of one recipe; what several recipes of one row differ in stands behind the title."""
    groups = list(by_recipe(runs).values())
    if len(groups) < 2:
        return {title: groups[0]} if groups else {}
    differ = differences([group[0].recipe for group in groups])
    return {
        ", ".join([title, *(f"{key} {values[place]}" for key, values in differ.items() if values[place] is not None)]): group
        for place, group in enumerate(groups)
    }


def trained(runs: Sequence[FoundRun], row: str, **wanted: object) -> list[FoundRun]:
    """Runs of a row of Table 3: one repeat, one indicator an encoder, phase by phase, unless asked otherwise."""
    asked = {"repeats": 1, "tasks": "one", "order": "phases", **wanted}
    own = [run for run in runs if run.experiment == "train" and variant(run.recipe) == row]
    return [run for run in own if all(run.value(key) in (None, value) for key, value in asked.items())]


def _dice_table(
    target: Path, number: int | str, title: str, rows: Sequence[TableRow], runs: Sequence[FoundRun], **more: object
) -> Path | None:
    if all(row.empty for row in rows):
        return None
    notes = [
        "Continuous Dice of the images that have the indicator. `whole image`, `centred blob` and `mean training mask` look at no image: a "
        "map that is not above them shows nothing.",
    ]
    if any(row.printed for row in rows):
        notes.append("Printed numbers are whole multiples of 1/19, 1/9 and 1/6: they rest on about 19, 9 and 6 images (DEVIATIONS row 24).")
    stands = [name for run in runs[:1] for name in run.metrics().get("lesion_masks_for", ()) if name in indicators_of(runs)]
    if stands:
        names = ", ".join(paper.TITLES[name] for name in stands)
        notes.append(f"Masks of {names} are not there: the lesion's stands for them, in training and in this score.")
    folder, split = target / (f"table_{number}" if isinstance(number, int) else number), repeated(runs)
    unshown = None if number == 6 else r"localisation\..*\.t(?!00|05)\d\d"  # thresholds
    return write_table(folder, title, rows, metrics=(DICE,), compared=DICE, repeated_splits=split, notes=notes, left_out=unshown, **more)  # type: ignore[arg-type]


def _against(subjects: Iterable[str], rows: Sequence[TableRow]) -> list[tuple[str, str]]:
    """The questions of a table: is each method above the centred blob, and are the `subjects` above every other one?"""
    every = list(dict.fromkeys(row.name for row in rows if not row.empty))
    trivial = [_at(name, cut) for name in TRIVIAL for cut in (0.0, 0.5)]
    methods = [name for name in every if name not in trivial]
    pairs = [(_at("centred blob", cut), name) for name in methods for cut in (0.0, 0.5)]
    pairs += [(other, subject) for subject in subjects if subject in methods for other in (*methods, *trivial) if other != subject]
    return list(dict.fromkeys(pairs))


def _diagnosis_table(target: Path, name: str, title: str, rows: Sequence[TableRow], runs: Sequence[FoundRun]) -> None:
    rows = [row for row in rows if row.runs]
    if not rows:
        return
    note = (
        "Sensitivity at the specificity of 0.8 and 0.9 is that of one threshold on the test images. The paper's column is accuracy in "
        "section 5.2 and AUC in 5.3."
    )
    shares = sorted({round(run.metrics().get("majority_class_accuracy", 0), 4) for row in rows for run in row.runs} - {0})
    said = [f"Calling every test image by the majority class has an accuracy of {' to '.join(map(str, shares))}."] if shares else []
    write_table(
        target / name, title, rows, metrics=DIAGNOSIS, compared=DIAGNOSIS[:2], repeated_splits=repeated(runs), notes=[note, *said],
        left_out="localisation",
    )  # fmt: skip


def _diagnosis_rows(names: Names, number: int, printed_row: str) -> list[TableRow]:
    value = paper.melanoma(number, printed_row) if printed_row else None
    printed = {} if value is None else {metric: Printed(value, f"Table {number}") for metric in ("accuracy", "auc")}
    return [TableRow(name, "", runs, printed, _document(runs)) for name, runs in names.items()]


def table_2(target: Path, runs: Sequence[FoundRun]) -> Path | None:
    """The methods, on the same test images."""
    whole, indicators = trained(runs, "bio_u_net"), indicators_of(runs)
    rows: list[TableRow] = []
    for method in ("gradcam", "gradcam++", "layercam", "lime", "vat", "unet"):
        own = [run for run in runs if run.experiment in ("cams", method) and method in run.metrics().get("localisation", {})]
        rows += map_rows(named(paper.ROW_TITLES[method], own), method, indicators, 2, method)
    if not rows:
        return None
    rows += map_rows(named("Bio-U-Net", whole), "gradcam", indicators, 2, "bio_u_net")
    rows += map_rows(named(paper.ROW_TITLES["unet_mask"], whole), "unet_mask", indicators)
    rows += trivial_rows(runs, indicators)
    subjects = ("Bio-U-Net", paper.ROW_TITLES["unet_mask"])
    return _dice_table(target, 2, "Table 2: localisation by method, continuous Dice", rows, runs, pairs=_against(subjects, rows))


def table_3(target: Path, runs: Sequence[FoundRun]) -> Path | None:
    """The ablation, and the interleaved order where it was run."""
    groups = []
    for row in paper.tables()["table_3"]:
        # The paper does not say which order its numbers come from, so they stand beside the one of A.3 only.
        groups.append((row, named(paper.ROW_TITLES[row], trained(runs, row))))
        groups.append(("", named(f"{paper.ROW_TITLES[row]}, interleaved (Algorithm 1)", trained(runs, row, order="interleaved"))))
    return _rows_table(target, 3, "Table 3: ablation", runs, groups, ("Bio-U-Net",))


def table_4(target: Path, runs: Sequence[FoundRun]) -> Path | None:
    """Repeats of the segmentation update."""
    counts = {str(count): f"{count} repeat{'s' * (count > 1)}" for count in range(1, 6)}
    groups = [(count, named(title, trained(runs, "bio_u_net", repeats=int(count)))) for count, title in counts.items()]
    return _varied(target, 4, "Table 4: segmentation updates an iteration", runs, groups)


def table_5(target: Path, runs: Sequence[FoundRun]) -> Path | None:
    """Multi-task encoders."""
    groups = [(tasks, named(paper.ROW_TITLES[tasks], trained(runs, "bio_u_net", tasks=tasks))) for tasks in ("one", "two", "five", "six")]
    return _varied(target, 5, "Table 5: separate encoders and multi-task learning", runs, groups)


def _varied(target: Path, number: int, title: str, runs: Sequence[FoundRun], groups: Sequence[tuple[str, Names]]) -> Path | None:
    if sum(bool(names) for _, names in groups) < 2:
        return None
    return _rows_table(target, number, title, runs, [("f_res", named(paper.ROW_TITLES["f_res"], trained(runs, "f_res"))), *groups])


def _rows_table(
    target: Path, number: int, title: str, runs: Sequence[FoundRun], groups: Sequence[tuple[str, Names]], subjects: Sequence[str] = ()
) -> Path | None:
    """Localisation and diagnosis of (printed row, its runs) pairs; None without any run."""
    rows, diagnoses, indicators = [], [], indicators_of(runs)
    for printed, names in groups:
        rows += map_rows(names, "gradcam", indicators, number, printed)
        diagnoses += _diagnosis_rows(names, number, printed)
    if not rows:
        return None
    rows += trivial_rows(runs, indicators)
    _diagnosis_table(target, f"table_{number}_melanoma", f"{title}, melanoma", diagnoses, runs)
    text = _indicator_text({name: found for _, names in groups for name, found in names.items()})
    return _dice_table(target, number, f"{title}, continuous Dice", rows, runs, text=text, pairs=_against(subjects, rows))


def table_6(target: Path, runs: Sequence[FoundRun]) -> Path | None:
    """Continuous Dice by threshold."""
    seeds = next(iter(by_recipe(trained(runs, "bio_u_net")).values()), [])
    rows = []
    for name in indicators_of(seeds):
        for value in THRESHOLDS:
            known = paper.threshold(name, value)
            printed = None if known is None else Printed(known, "Table 6")
            rows.append(_row(f"{value:.1f}", name, seeds, "gradcam", value, printed))
        rows += trivial_rows(seeds, [name])
    pairs = [("0.0", f"{value:.1f}") for value in THRESHOLDS[1:]]
    return _dice_table(target, 6, "Table 6: Bio-U-Net's map by threshold, continuous Dice", rows, seeds, pairs=pairs)


def table_shared(target: Path, runs: Sequence[FoundRun]) -> Path | None:
    """The design of reading `corrected`: what each head and the drawing add, with the same steps; its drawing against maps."""
    own = [run for run in runs if run.experiment == "shared"]
    if not own:
        return None
    titled: dict[str, list[FoundRun]] = {}
    for run in own:
        title = paper.ROW_TITLES[variant(run.recipe)] + (", from SimCLR" if run.value("pretraining") else "")
        titled.setdefault(title, []).append(run)
    names = {name: group for title, alike in titled.items() for name, group in named(title, alike).items()}
    indicators, rows = indicators_of(own), []
    # At 0 a map counts with all its small values; at 0.5, where `predict` cuts its masks, as what a reader is shown.
    for cut in (0.0, 0.5):
        for name, group in names.items():
            rows += map_rows({_at(f"Grad-CAM, {name}", cut): group}, "gradcam", indicators, threshold=cut)
            drawn = [run for run in group if "unet_mask" in run.metrics().get("localisation", {})]
            rows += map_rows({_at(f"drawing, {name}", cut): drawn}, "unet_mask", indicators, threshold=cut) if drawn else []
        rows += trivial_rows(own, indicators, cut)
    _diagnosis_table(target, "shared_melanoma", "One encoder, several heads and a drawing: melanoma", _diagnosis_rows(names, 0, ""), own)
    subjects = [row.name for row in rows if row.name.startswith("drawing")]
    pairs = [pair for pair in _against(subjects, rows) if (CUT in pair[0]) == (CUT in pair[1])]
    title = "One encoder, several heads and a drawing: continuous Dice"
    return _dice_table(target, "shared", title, rows, own, text=_indicator_text(names), pairs=pairs)


def _at(name: str, cut: float) -> str:
    return f"{name}{CUT}" if cut else name


def _indicator_text(names: Names) -> str:
    """Markdown: AUC and average precision of each indicator, mean over seeds, of rows that predict them."""
    lines = []
    for name, group in names.items():
        scores = [run.metrics().get("indicator_scores") or {} for run in group]
        for indicator in dict.fromkeys(key for each in scores for key in each):
            known = [each[indicator] for each in scores if each.get(indicator, {}).get("auc") is not None]
            if known:
                means = [number(np.mean([entry[key] for entry in known]), 3) for key in ("auc", "average_precision")]
                share = number(known[0]["positives"] / known[0]["n"], 3)
                lines.append((name, paper.TITLES.get(indicator, indicator), *means, share, len(known)))
    header = ("row", "indicator", "AUC", "average precision", "share of positives", "seeds")
    return f"## Indicators\n\n{markdown(header, lines, left=2)}" if lines else ""
