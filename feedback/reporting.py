"""report.md of a base classifier and of a simulation: measured beside printed, leakage, and what needs no network at all."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.report.report import find_metric, write_model_card, write_report
from common.report.report import report_command as common_report
from common.report.tables import Printed, Row, comparison_table, interval_text, markdown, number
from common.runs.files import read_json
from common.runs.folder import Run
from feedback import faithfulness, figures, paper
from feedback.experiments.simulate import LAMBDA, SimulateSettings, stored
from feedback.isic import CLASSES

BALANCE_TITLES = {
    "none": "unbalanced data", "reduced": "reduced balanced data", "upsampled": "up-sampled data", "batches": "balanced batches",
}  # fmt: skip
TRIVIAL_TITLES = {
    "whole_image": "map of the whole image", "centred_blob": "centred circle of the average area", "mean_mask": "mean training mask",
    "ellipse": "centred circle of each mask's own area",
}  # fmt: skip
MEASURES = {
    "accuracy": "accuracy", "average_sensitivity": "average sensitivity (balanced accuracy)", "auc": "AUC, one against the rest",
    "jaccard": "average Jaccard index",
}  # fmt: skip


def baseline_report(run: Run) -> None:
    """Tables 3.1 and 4.1 beside ours, one-vs-rest, for the classes that occur in the test set; without them where the data are others."""
    metrics, settings = read_json(run.path / "metrics.json"), run.config["settings"]
    classes = tuple(run.config["classes"])
    limits = [
        *limit_notes(settings.get("limit")),
        f"{100 * metrics['shared_lesions']['test']:.1f} % of the test images show a lesion that is also in the training set "
        "(of the lesions that are known).",
    ]
    empty = [name for name in classes if not metrics["per_class"][name]["support"]]
    if empty:
        limits.append(f"No image of {', '.join(empty)}: weight 0 in the loss, left out of the averages.")
    if settings["class_weights"] == "printed":
        limits.append("**Class weights as printed in Table 3.1: they are the class frequencies, so frequent classes were weighted up.**")
    notes = [
        "The thesis trained on ISIC 2019 with ImageNet weights; it does not state optimiser, learning rate, batch size and dropout rate."
    ]
    if paper.differences(run.config, "base") is None and settings.get("limit") is None:
        notes.append(f"No printed number stands beside these: the thesis's are of ISIC 2019, these of {run.config['dataset']}.")
    title = f"Base classifier ({settings['backbone']}) on {run.config['dataset']}"
    printed, section = base_printed(run.config, metrics, classes)
    write_report(run, title, printed, [*notes, *limits], section=section)
    write_model_card(run, title, intended="Starting point for tuning from feedback.", limits=limits)


def base_printed(config: Mapping[str, Any], metrics: Mapping[str, Any], classes: Sequence[str]) -> tuple[dict[str, Printed], str]:
    """Table 4.1 and Table 5.3's first row under the names of metrics.json, and Table 3.1 beside ours as Markdown (it prints the same
    measures of the same network, before it was made to explain itself): for a base of all of ISIC 2019's eight classes only."""
    differs = paper.differences(config, "base")
    if differs is None or tuple(classes) != CLASSES:
        return {}, ""
    printed: dict[str, Printed] = {}
    rows: list[Row] = []
    for measure in ("accuracy", "specificity", "sensitivity", "f1", "auc"):
        for name, value in paper.skin_care(measure).items():
            if metrics["per_class"][name]["support"]:
                printed[f"one_vs_rest.{name}.{measure}"] = Printed(value, "thesis, Table 4.1", differs)
    for measure in ("accuracy", "sensitivity"):
        for name, value in paper.skin_care(f"test_{measure}_per_class").items():
            if metrics["per_class"][name]["support"]:
                _, ours, interval = find_metric(metrics, f"one_vs_rest.{name}.{measure}")
                beside = Printed(value, "thesis, Table 3.1", differs)
                rows.append(Row(f"{name}: {measure}", ours, interval, beside, synthetic=bool(metrics.get("synthetic"))))
    whole, source = paper.base_on_isic2019(), "thesis, Table 5.3, row 1"
    printed["accuracy"] = Printed(whole["accuracy"], source, differs)
    printed["balanced_accuracy"] = Printed(whole["average_sensitivity"], f"{source}, over eight classes", differs)
    theirs = paper.tables()["table_3_1_skin_care_vgg16"]["train_accuracy_global"]
    seen = f"\nAccuracy while training, augmented images: {number(metrics.get('training_accuracy'))} (thesis, Table 3.1: {theirs}).\n"
    return printed, "## Table 3.1: one class against the rest\n\n" + comparison_table(rows) + seen


def simulation_report(run: Run) -> None:
    """One cell of Tables 5.1 to 5.3: before and after, cases, overlap, trivial maps, the printed numbers, figures."""
    metrics, settings = read_json(run.path / "metrics.json"), stored(run.config["settings"])
    limit, differs = run.config["settings"].get("limit"), paper.differences(run.config, "simulation")
    how = f" in {len(metrics['slices'])} slices" if metrics.get("slices") else ""
    title = f"Tuning from feedback{how}: {method_title(settings)}, {BALANCE_TITLES[settings.balance]}"
    notes = [*leakage_notes(run.config, metrics), *limit_notes(limit), *method_notes(settings, metrics)]
    printed: dict[str, Printed] = {}
    if differs is not None and not set(metrics["after"]["sensitivity"]) - set(paper.SENSITIVITY_ORDER):
        table = "slices" if metrics.get("slices") else settings.balance
        printed = printed_cells(settings, table, differs, limit)
    figures.simulation_figures(run.path)  # first: the report shows what is there
    write_report(run, title, printed, notes, section=simulation_section(metrics))
    write_model_card(run, title, intended="A classifier tuned so that its Grad-CAM map covers the marked region.", limits=notes[:3])


def method_title(settings: SimulateSettings) -> str:
    """Such as "combined, lambda 0.3", or "balanced-combined, weight 0.5"."""
    if not settings.epochs:
        return "adapted base"
    if settings.objective != "combined":
        return settings.objective
    if settings.gradient_scaling == "normalised":
        return f"balanced-combined, weight {settings.explanation_weight:g}"
    return f"combined, lambda {settings.explanation_weight:g}"


def printed_cells(settings: SimulateSettings, table: str, differs: str = "", limit: int | None = None) -> dict[str, Printed]:
    """Printed numbers of a cell under the names of metrics.json; `table`: a balance (Tables 5.1 to 5.3) or "slices" (5.4, its last slice).

    None for another lambda than the thesis's, for a part of the images (`limit`), and for slices of data that are not up-sampled: the
    thesis has no such cell.
    """
    sliced = table == "slices"
    other_lambda = settings.objective == "combined" and settings.explanation_weight != LAMBDA
    if limit is not None or other_lambda or settings.balance == "batches" or (sliced and settings.balance != "upsampled"):
        return {}
    row = paper.slice_rows(settings.objective)[19] if sliced else paper.simulation_row(table, settings.objective)
    source = "thesis, Table 5.4, slice 19" if sliced else f"thesis, {paper.table_title(table)}"
    names = {"accuracy": "accuracy", "jaccard": "jaccard", "average_sensitivity": "balanced_accuracy"}
    names |= {f"sensitivity_{name}": f"per_class.{name}.recall" for name in paper.SENSITIVITY_ORDER}
    return {ours: Printed(row[theirs], source, differs) for theirs, ours in names.items() if theirs in row}


def simulation_section(metrics: Mapping[str, Any]) -> str:
    """Before and after on the test images, the four cases, and the maps that need no network."""
    base, before, after, change = (metrics[name] for name in ("base", "before", "after", "change"))
    adapted = base["predicted"] != before["predicted"] or base["jaccard"] != before["jaccard"]
    sides = {"base": base, "adapted": before, "after": after} if adapted else {"before": before, "after": after}
    lines = []
    for name, title in MEASURES.items():
        gap = change.get(name, {"value": None, "interval": None})
        values = [side[name]["mean"] if name == "jaccard" else side[name] for side in sides.values()]
        lines.append([title, *map(number, values), number(gap["value"], sign=True), interval_text(gap["interval"])])
    further = {
        "accuracy, choosing among the classes that occur": [side["accuracy_among_present"] for side in sides.values()],
        "Jaccard index, map of the true class": [side["jaccard_truth"]["mean"] for side in sides.values()],
        "deviation of the Jaccard index over images": [side["jaccard"]["deviation"] for side in sides.values()],
    }
    for title, values in further.items():
        gap = None if None in values[-2:] else values[-1] - values[-2]
        lines.append([title, *map(number, values), number(gap, sign=True), "–"])
    names = [name for name in after["predicted"] if any(side["predicted"][name] for side in sides.values())]
    counts = [[f"predicted {name}", *(side["predicted"][name] for side in sides.values())] for name in names]
    counts += [[title, *(side["cases"][name] for side in sides.values())] for name, title in paper.CASE_TITLES.items()]
    whole = metrics["before_whole_set"]
    text = (
        f"## Before and after\n\n{markdown(('test set', *sides, 'change', '95 % interval (paired bootstrap)'), lines)}\n"
        f"{markdown(('test images', *sides), counts)}\nMaps that look at no image:\n\n{trivial_table(metrics)}\n"
        f"{after['unmarked']} of {after['images']} test images have no mask and do not count.\n\n"
        f"Before the feedback on the whole simulation set ({whole['images']} images): accuracy {number(whole['accuracy'])}, "
        f"average Jaccard index {number(whole['jaccard']['mean'])} ± {number(whole['jaccard']['deviation'])}"
        f"{' (thesis, VGG16, base of ISIC 2019, attribute masks: 0.73, 0.10)' if metrics.get('dataset') == 'isic2018' else ''}.\n"
    )
    if metrics.get("slices"):
        columns = ("slice", "images", "accuracy", "average_sensitivity", "jaccard", "jaccard_deviation", "validation_jaccard")
        shown = [[line[c] if c in ("slice", "images") else number(line[c]) for c in columns] for line in metrics["slices"]]
        text += "\nTest set after each slice:\n\n" + markdown([c.replace("_", " ") for c in columns], shown)
    if "faithfulness" in metrics:
        found, rows = metrics["faithfulness"], []
        for name, title in faithfulness.ROWS.items():
            if name in found["change"]:
                gap = found["change"][name]
                rows.append([title, *faithful_cells(found, name), number(gap["value"], sign=True), interval_text(gap["interval"])])
        text += f"\nFaithfulness of the maps, {found['after']['images']} test images. {faithfulness.READING}\n"
        text += markdown(("", "before", "after", "change", "95 % interval (paired bootstrap)"), rows)
    return text


def faithful_cells(found: Mapping[str, Any], name: str) -> list[str]:
    """An area before and after, with its interval where it has one."""
    sides = [(found[when][name], found[when].get(f"{name}_interval")) for when in ("before", "after")]
    return [number(value) + (f" {interval_text(interval)}" if interval else "") for value, interval in sides]


def trivial_table(metrics: Mapping[str, Any]) -> str:
    """Jaccard index of the maps that look at no image."""
    cells = {title: metrics["trivial"][name] for name, title in TRIVIAL_TITLES.items()}
    lines = [[title, number(cell["mean"]), interval_text(cell["interval"])] for title, cell in cells.items()]
    return markdown(("map", "average Jaccard index", "95 % interval"), lines)


def leakage_notes(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Stated in every report: what the base was trained on among the simulation images, and which of them ISIC 2019 holds.

    Counts that were not taken are said to be not known; a zero is always a counted one.
    """
    overlap, seen, counted = metrics["overlap"], metrics.get("seen_by_base"), metrics["training_images"]
    said, held = "not known (its run folder holds no manifest.csv)", f"not known for {config['settings']['dataset']}"
    if seen is not None:
        said = ", ".join(f"{name} {count} of {overlap[name]['images']}" for name, count in seen.items())
    if not any(one["same_id"] is None for one in overlap.values()):
        held = ", ".join(f"{name} {one['same_id']} + {one['renamed']} of {one['images']}" for name, one in overlap.items())
    return [
        f"Simulation images that the base was trained on ({config['settings']['base_dataset']}; the same id, `_downsampled` taken off): "
        f"{said}.",
        f"Simulation images that ISIC 2019 holds too (same id + renamed `_downsampled`): {held}. The thesis found 627.",
        f"Training images by class: {', '.join(f'{name} {count}' for name, count in counted.items() if count)}; "
        f"left out: {', '.join(f'{count} {name}' for name, count in metrics['left_out'].items()) or 'none'}.",
    ]


def limit_notes(limit: int | None) -> list[str]:
    """Said of a run on a part of the images."""
    return [] if limit is None else [f"**A part of the images only (--limit {limit}): no printed number stands beside these.**"]


def method_notes(settings: SimulateSettings, metrics: Mapping[str, Any]) -> list[str]:
    """How this run differs from, or settles, what the thesis says."""
    kept = f" with a balanced accuracy at most {settings.allowed_drop:g} below the start's" if settings.allowed_drop < 1 else ""
    spoilt = "; **no epoch did: the least spoilt one**" if metrics["validation"].get("selection", 0) < 0 else ""
    notes = [
        f"Reported maps: predicted class, cut at {settings.threshold:g} of their maximum; training looks at the true class's map.",
        "The four cases are judged by the map that is looked at: while training (history.csv, --feedback wrong) the true class's, in "
        "validation and in this report the predicted class's, as a user sees it.",
        f"Channel weights of the map in the loss: {settings.channel_weights}. Gradient norm: "
        + (f"clipped at {settings.clip_norm:g}." if settings.clip_norm else "not clipped."),
        f"Kept: epoch {metrics['validation']['epoch']} (highest validation Jaccard index{kept}){spoilt}.",
    ]
    if settings.feedback == "wrong":
        notes.append("Feedback only where class or region is wrong; both_right, region_wrong, … in history.csv count the cases.")
    if settings.balance == "reduced":
        notes.append("Test and validation hold the two kept classes only, as in Table 5.2; an answer outside them counts as wrong.")
    return notes


def report_command(options: Any) -> None:
    """`report RUN`: report, model card and figures again, from the run's files or from those of a published table."""
    if (options.run / "report.json").is_file():  # which printed numbers belong beside the run is decided anew
        run = Run(options.run, read_json(options.run / "config.json"))
        (baseline_report if run.config.get("experiment") == "baseline" else simulation_report)(run)
    common_report(options)
