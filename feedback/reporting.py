"""report.md of a base classifier and of a simulation: measured beside printed, leakage, and what needs no network at all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.report.plots import save
from common.report.report import find_metric, write_model_card, write_report
from common.report.tables import Printed, Row, comparison_table, interval_text, markdown, number
from common.runs.files import atomic, read_json, write_json
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


def baseline_report(run: Run) -> None:
    """Tables 3.1 and 4.1 beside ours, one-vs-rest, for the classes that occur in the test set; without them where the data are others."""
    metrics, settings = read_json(run.path / "metrics.json"), run.config["settings"]
    classes = tuple(run.config["classes"])
    notes = [
        *limit_notes(settings.get("limit")),
        "The thesis trained on ISIC 2019 with ImageNet weights; it does not state optimiser, learning rate, batch size and dropout rate.",
        f"{100 * metrics['shared_lesions']['test']:.1f} % of the test images show a lesion that is also in the training set "
        "(of the lesions that are known).",
    ]
    if paper.differences(run.config, "base") is None and settings.get("limit") is None:
        notes.insert(0, f"No printed number stands beside these: the thesis's are of ISIC 2019, these of {run.config['dataset']}.")
    empty = [name for name in classes if not metrics["per_class"][name]["support"]]
    if empty:
        notes.append(f"No image of {', '.join(empty)}: weight 0 in the loss, left out of the averages.")
    if settings["class_weights"] == "printed":
        notes.append("**Class weights as printed in Table 3.1: they are the class frequencies, so frequent classes were weighted up.**")
    title = f"Base classifier ({settings['backbone']}) on {run.config['dataset']}"
    write_report(run, title, base_printed(run.config, metrics, classes), notes)
    if section := skin_care_section(run.config, metrics):
        insert_section(run.path / "report.md", section)
    write_model_card(
        run,
        title,
        intended="Starting point for tuning from feedback.",
        limits=[note for note in notes if not note.startswith(("The thesis", "No printed"))],
    )


def base_printed(config: Mapping[str, Any], metrics: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Printed]:
    """Table 4.1 and Table 5.3's first row under the names of metrics.json: beside a base of all of ISIC 2019's eight classes only."""
    differs = paper.differences(config, "base")
    if differs is None or tuple(classes) != CLASSES:
        return {}
    printed = {}
    for measure in ("accuracy", "specificity", "sensitivity", "f1", "auc"):
        for name, value in paper.skin_care(measure).items():
            if metrics["per_class"][name]["support"]:
                printed[f"one_vs_rest.{name}.{measure}"] = Printed(value, "thesis, Table 4.1", differs)
    whole, source = paper.base_on_isic2019(), "thesis, Table 5.3, row 1"
    printed["accuracy"] = Printed(whole["accuracy"], source, differs)
    printed["sensitivity.average"] = Printed(whole["average_sensitivity"], f"{source}, over eight classes", differs)
    return printed


def skin_care_section(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Table 3.1 beside ours, one class against the rest; "" where the data are others (`base_printed`).

    A table of its own: Table 4.1 prints the same measures of the same network, made to explain itself.
    """
    differs = paper.differences(config, "base")
    if differs is None or tuple(metrics["per_class"]) != CLASSES:
        return ""
    rows = []
    for measure in ("accuracy", "sensitivity"):
        for name, value in paper.skin_care(f"test_{measure}_per_class").items():
            if metrics["per_class"][name]["support"]:
                _, ours, interval = find_metric(metrics, f"one_vs_rest.{name}.{measure}")
                beside = Printed(value, "thesis, Table 3.1", differs)
                rows.append(Row(f"{name}: {measure}", ours, interval, beside, synthetic=bool(metrics.get("synthetic"))))
    known = metrics.get("training_accuracy")
    printed = paper.tables()["table_3_1_skin_care_vgg16"]["train_accuracy_global"]
    seen = "" if known is None else f"\nAccuracy while training, augmented images: {number(known)} (thesis, Table 3.1: {printed}).\n"
    return "## Table 3.1: one class against the rest\n\n" + comparison_table(rows) + seen


def simulation_report(run: Run) -> None:
    """One cell of Tables 5.1 to 5.3: before and after, cases, overlap, trivial maps, the printed numbers, figures."""
    metrics, settings = read_json(run.path / "metrics.json"), stored(run.config["settings"])
    printed = simulation_printed(run.config, settings, metrics)
    how = f" in {len(metrics['slices'])} slices" if metrics.get("slices") else ""
    title = f"Tuning from feedback{how}: {method_title(settings)}, {BALANCE_TITLES[settings.balance]}"
    limit = run.config["settings"].get("limit")
    notes = [*leakage_notes(run.config, metrics), *limit_notes(limit), *method_notes(settings, metrics)]
    figures.simulation_figures(run.path)  # first: the report shows what is there
    write_report(run, title, printed, notes)
    insert_section(run.path / "report.md", simulation_section(metrics))
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


def simulation_printed(config: Mapping[str, Any], settings: SimulateSettings, metrics: Mapping[str, Any]) -> dict[str, Printed]:
    """The printed cell of a run on the thesis's images and with its method (`paper.differences`); empty for any other."""
    differs = paper.differences(config, "simulation")
    if differs is None:
        return {}
    source = "thesis, Table 5.4, slice 19" if metrics.get("slices") else f"thesis, {paper.table_title(settings.balance)}"
    cells = printed_cells(settings, metrics, config["settings"].get("limit"))
    return {name: Printed(value, source, differs) for name, value in cells.items()}


def printed_cells(settings: SimulateSettings, metrics: Mapping[str, Any], limit: int | None = None) -> dict[str, float]:
    """Printed numbers of this cell under the names of metrics.json.

    None for another lambda than the thesis's, for a part of the images (`limit`), and for slices of data that are not up-sampled: the
    thesis has no such cell.
    """
    if limit is not None or settings.balance == "batches" or (metrics.get("slices") and settings.balance != "upsampled"):
        return {}
    if settings.objective == "combined" and settings.explanation_weight != LAMBDA:
        return {}
    if set(metrics["after"]["sensitivity"]) - set(paper.SENSITIVITY_ORDER):
        return {}
    if metrics.get("slices"):
        row = paper.slice_rows(settings.objective)[19]
        return {"accuracy": row["accuracy"], "jaccard": row["jaccard"], "sensitivity.average": row["average_sensitivity"]}
    row = paper.simulation_row(settings.balance, settings.objective)
    found = {"accuracy": row["accuracy"], "jaccard": row["jaccard"]}
    for name in metrics["after"]["sensitivity"]:
        if f"sensitivity_{name}" in row:
            found[f"sensitivity.{name}"] = row[f"sensitivity_{name}"]
    if "average_sensitivity" in row:
        found["sensitivity.average"] = row["average_sensitivity"]
    return found


def simulation_section(metrics: Mapping[str, Any]) -> str:
    """Before and after on the test images, the four cases, and the maps that need no network."""
    base, before, after, change = (metrics[name] for name in ("base", "before", "after", "change"))
    adapted = base["predicted"] != before["predicted"] or base["jaccard"] != before["jaccard"]
    sides = ([base] if adapted else []) + [before, after]
    header = (
        "test set",
        *(["base"] if adapted else []),
        "adapted" if adapted else "before",
        "after",
        "change",
        "95 % interval (paired bootstrap)",
    )
    titles = {
        "accuracy": "accuracy", "average_sensitivity": "average sensitivity (balanced accuracy)", "auc": "AUC, one against the rest",
        "jaccard": "average Jaccard index",
    }  # fmt: skip
    lines = []
    for name, title in titles.items():
        values = [side[name]["mean"] if name == "jaccard" else side[name] for side in sides]
        gap = change.get(name, {"value": None, "interval": None})
        lines.append([title, *map(number, values), number(gap["value"], sign=True), interval_text(gap["interval"])])
    further = {
        "accuracy, choosing among the classes that occur": [side["accuracy_among_present"] for side in sides],
        "Jaccard index, map of the true class": [side["jaccard_truth"]["mean"] for side in sides],
        "deviation of the Jaccard index over images": [side["jaccard"]["deviation"] for side in sides],
    }
    for title, values in further.items():
        gap = None if None in values[-2:] else values[-1] - values[-2]
        lines.append([title, *map(number, values), number(gap, sign=True), "–"])
    table = markdown(header, lines)
    names = [name for name in after["predicted"] if any(side["predicted"][name] for side in sides)]
    counts = [[f"predicted {name}", *(side["predicted"][name] for side in sides)] for name in names]
    counts += [[title, *(side["cases"][name] for side in sides)] for name, title in paper.CASE_TITLES.items()]
    counted = markdown(("test images", *header[1 : 1 + len(sides)]), counts)
    maps = [[title, number(metrics["trivial"][name]["mean"]), interval_text(metrics["trivial"][name]["interval"])]
            for name, title in TRIVIAL_TITLES.items()]  # fmt: skip
    whole = metrics["before_whole_set"]
    text = (
        f"## Before and after\n\n{table}\n{counted}\n"
        f"Maps that look at no image:\n\n{markdown(('map', 'average Jaccard index', '95 % interval'), maps)}\n"
        f"{after['unmarked']} of {after['images']} test images have no mask and do not count.\n\n"
        f"Before the feedback on the whole simulation set ({whole['images']} images): accuracy {number(whole['accuracy'])}, "
        f"average Jaccard index {number(whole['jaccard']['mean'])} ± {number(whole['jaccard']['deviation'])}"
        f"{' (thesis, VGG16, base of ISIC 2019, attribute masks: 0.73, 0.10)' if metrics.get('dataset') == 'isic2018' else ''}.\n"
    )
    if metrics.get("slices"):
        columns = ("slice", "images", "accuracy", "average_sensitivity", "jaccard", "jaccard_deviation", "validation_jaccard", "minutes")
        shown = [[line[c] if c in ("slice", "images") else number(line[c]) for c in columns] for line in metrics["slices"]]
        text += "\nTest set after each slice:\n\n" + markdown([c.replace("_", " ") for c in columns], shown)
    if "faithfulness" in metrics:
        text += "\n" + faithfulness_section(metrics["faithfulness"])
    return text


def faithfulness_section(found: Mapping[str, Any]) -> str:
    """metrics.json's `faithfulness` as a table."""
    rows = []
    for name, title in faithfulness.ROWS.items():
        if name not in found["change"]:
            continue
        cells = []
        for when in ("before", "after"):
            interval = found[when].get(f"{name}_interval")
            cells.append(number(found[when][name]) + (f" {interval_text(interval)}" if interval else ""))
        gap = found["change"][name]
        rows.append([title, *cells, number(gap["value"], sign=True), interval_text(gap["interval"])])
    text = f"Faithfulness of the maps, {found['after']['images']} test images. {faithfulness.READING}"
    return text + "\n" + markdown(("", "before", "after", "change", "95 % interval (paired bootstrap)"), rows)


def leakage_notes(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[str]:
    """Stated in every report: what the base was trained on among the simulation images, and which of them ISIC 2019 holds.

    Counts that were not taken are said to be not known; a zero is always a counted one.
    """
    overlap, seen = metrics["overlap"], metrics.get("seen_by_base")
    base = str(config["settings"]["base_dataset"])
    if seen is None:
        said = "not known (its run folder holds no manifest.csv)"
    else:
        said = ", ".join(f"{name} {count} of {overlap[name]['images']}" for name, count in seen.items())
    if any(found["same_id"] is None for found in overlap.values()):
        held = f"not known for {config['settings']['dataset']}"
    else:
        held = ", ".join(f"{name} {found['same_id']} + {found['renamed']} of {found['images']}" for name, found in overlap.items())
    counted = metrics["training_images"]
    return [
        f"Simulation images that the base was trained on ({base}; the same id, `_downsampled` taken off): {said}.",
        f"Simulation images that ISIC 2019 holds too (same id + renamed `_downsampled`): {held}. The thesis found 627.",
        f"Training images by class: {', '.join(f'{name} {count}' for name, count in counted.items() if count)}; "
        f"left out: {', '.join(f'{count} {name}' for name, count in metrics['left_out'].items()) or 'none'}.",
    ]


def limit_notes(limit: int | None) -> list[str]:
    """Said of a run on a part of the images."""
    return [] if limit is None else [f"**A part of the images only (--limit {limit}): no printed number stands beside these.**"]


def method_notes(settings: SimulateSettings, metrics: Mapping[str, Any]) -> list[str]:
    """How this run differs from, or settles, what the thesis says."""
    spoilt = "**no epoch did: the least spoilt one**; "
    notes = [
        f"Reported maps: predicted class, cut at {settings.threshold:g} of their maximum; training looks at the true class's map.",
        "The four cases are judged by the map that is looked at: while training (history.csv, --feedback wrong) the true class's, in "
        "validation and in this report the predicted class's, as a user sees it.",
        f"Channel weights of the map in the loss: {settings.channel_weights}. Gradient norm: "
        + (f"clipped at {settings.clip_norm:g}." if settings.clip_norm else "not clipped."),
        f"Kept: epoch {metrics['validation']['epoch']} (highest validation Jaccard index"
        + (f" with a balanced accuracy at most {settings.allowed_drop:g} below the start's); " if settings.allowed_drop < 1 else "); ")
        + (spoilt if metrics["validation"].get("selection", 0) < 0 else "")
        + f"{metrics['minutes_per_epoch']:.2f} minutes an epoch (median of the epochs after the first, which compiles; thesis, section "
        "5.10: 262 to 554 on a GTX Titan).",
    ]
    if settings.feedback == "wrong":
        notes.append("Feedback only where class or region is wrong; both_right, region_wrong, … in history.csv count the cases.")
    if settings.balance == "reduced":
        notes.append("Test and validation hold the two kept classes only, as in Table 5.2; an answer outside them counts as wrong.")
    return notes


def report_command(options: Any) -> None:
    """`report RUN`: report, model card and figures again, from the run's files.

    Which printed numbers belong beside the run is decided anew: report.json may come from a time when the rule was another.
    """
    from common.report.report import report_command as common_report

    config, metrics = read_json(options.run / "config.json"), read_json(options.run / "metrics.json")
    path = options.run / "report.json"
    if path.is_file():
        printed = base_printed(config, metrics, tuple(config["classes"]))
        if config.get("experiment") != "baseline":
            printed = simulation_printed(config, stored(config["settings"]), metrics)
        kept = {name: {key: value for key, value in vars(item).items() if value != ""} for name, item in printed.items()}
        write_json(path, read_json(path) | {"printed": kept})
    if config.get("experiment") != "baseline":
        figures.simulation_figures(options.run)
    common_report(options)
    metrics = read_json(options.run / "metrics.json")
    section = skin_care_section(config, metrics) if config.get("experiment") == "baseline" else simulation_section(metrics)
    if section:
        insert_section(options.run / "report.md", section)


def insert_section(path: Path, section: str) -> None:
    """Put `section` before "Per class": the standard report is about the class, and what the feedback changed belongs first."""
    text = path.read_text(encoding="utf-8")
    cut = text.index("## Per class")
    with atomic(path) as temporary:
        temporary.write_text(text[:cut] + section + "\n" + text[cut:], encoding="utf-8")


def divergence(folder: Path, histories: Mapping[str, pd.DataFrame], synthetic: bool) -> None:
    """Loss and Jaccard index of the runs of `clipping`, drawn into its folder."""
    save(figures.divergence(histories, synthetic=synthetic), folder / "figures" / "divergence.png")


def thresholds(
    run: Path, table: pd.DataFrame, blob: float | None, shown: tuple[np.ndarray, np.ndarray, np.ndarray], synthetic: bool
) -> None:
    """Figure 3.3 of a run, drawn into its folder: the curve, and one image, map and mask `shown` at each threshold."""
    lines = {name: table[name].tolist() for name in ("validation", "test")}
    save(figures.threshold_curve(table["threshold"].tolist(), lines, blob, synthetic), run / "figures" / "thresholds.png")
    save(figures.threshold_strip(*shown, synthetic=synthetic), run / "figures" / "threshold_strip.png")
