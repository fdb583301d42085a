"""Complete runs: training, then figures and report of what it left in the run folder. `melanoma train` and every cell of the tables."""

from pathlib import Path

from common.report.plots import save
from common.report.report import write_model_card, write_report
from common.report.tables import MISSING, Printed, interval_text, markdown, number
from common.runs.folder import Run
from common.runs.reading import RunFolder
from melanoma import data, figures, paper
from melanoma.experiments.pretrain import PretrainSettings
from melanoma.experiments.shared import SharedSettings
from melanoma.experiments.table import variant
from melanoma.experiments.train import BioUNetSettings
from melanoma.training.inputs import Inputs, load_inputs
from melanoma.training.pipeline import train
from melanoma.training.pretraining import pretrain
from melanoma.training.shared import train_shared


def pretrain_command(settings: PretrainSettings) -> None:
    """`melanoma pretrain`."""
    complete_pretraining(load_inputs(settings), settings.run_dir)


def train_command(settings: BioUNetSettings) -> None:
    """`melanoma train`."""
    complete(load_inputs(settings), settings.run_dir)


def shared_command(settings: SharedSettings) -> None:
    """`melanoma shared`."""
    inputs = load_inputs(settings)
    finish(train_shared(inputs, settings.run_dir), inputs)


def complete(inputs: Inputs, run_dir: Path | None = None) -> Run:
    """Train and test what the settings say, draw it and report it; a finished run is returned as it is."""
    return finish(train(inputs, run_dir), inputs)


def finish(run: Run, inputs: Inputs) -> Run:
    """Draw and report a trained run; a finished one is returned as it is."""
    if not run.finished:
        figures.draw_run(run.path)
        report(run, inputs)
        run.finish()
    return run


def complete_pretraining(inputs: Inputs, run_dir: Path | None = None) -> Run:
    """Pre-train, draw and report; a finished run is returned as it is."""
    run = pretrain(inputs, run_dir)
    if not run.finished:
        report_pretraining(run, inputs)
        run.finish()
    return run


def report_pretraining(run: Run, inputs: Inputs) -> None:
    """report.md, model_card.md and the curves of a pre-training."""
    folder = RunFolder.of(run)
    history, quality = folder.read_table("history.csv"), folder.read_json("embedding_quality.json")
    last = history.iloc[-1]
    notes = [
        "The accuracy above is a linear probe's: a logistic regression on the frozen encoder's features. The paper prints none.",
        f"k-NN (20 neighbours, cosine) and linear probe on {quality['after']['n']} test images, before and after SimCLR, with the 95 % "
        "interval after it: "
        + "; ".join(
            f"{name}: {number(quality['before'][name], 3)} -> {number(quality['after'][name], 3)} "
            f"{interval_text(quality['after'][f'{name}_interval'])}"
            for name in ("knn_accuracy", "knn_auc", "probe_accuracy", "probe_auc")
        ),
        data.overlap_note(folder.read_json("metrics.json")["dataset_b"]),
        f"Last epoch, within training batches: alignment {last['alignment']:.3f}, uniformity {last['uniformity']:.3f} (lower is better).",
        inputs.split_note(),
    ]
    save(figures.embedding_curves(history, synthetic=inputs.dataset.synthetic), run.path / "figures" / "simclr.png")
    title = "Subnetwork 1: SimCLR, judged by a linear probe"
    write_report(run, title, notes=notes)
    write_model_card(run, title)


def printed_row(settings: dict) -> tuple[int, str] | None:
    """(table, row) that the paper prints for a run of these settings; None where it prints none."""
    if "indicator_heads" in settings:
        return None
    row, repeats, tasks = variant(settings), settings.get("repeats", 1), settings.get("tasks", "one")
    if settings["order"] != "phases":
        return None  # which order the printed numbers come from is not said; they stand beside A.3's
    if not settings["segmentation"] or (repeats, tasks) == (1, "one"):
        return 3, row
    if row != "bio_u_net" or (repeats != 1 and tasks != "one"):
        return None
    return (5, tasks) if repeats == 1 else (4, str(repeats)) if repeats <= 5 else None


def run_title(settings: dict) -> str:
    """What a run is: its row of Table 3, and what it changes of it."""
    parts = [paper.ROW_TITLES[variant(settings)]]
    repeats, tasks = settings.get("repeats", 1), settings.get("tasks", "one")
    parts += [f"{repeats} segmentation updates an iteration"] * (repeats != 1) + [paper.ROW_TITLES[tasks]] * (tasks != "one")
    parts += ["interleaved (Algorithm 1)"] * (settings.get("order", "phases") != "phases")
    return f"{', '.join(parts)}, {settings['backbone']} at {settings['image_size']} px"


def printed_numbers(settings: dict, localisation: dict) -> dict[str, Printed]:
    """The printed row of this run where the paper has one; nothing for lesion masks."""
    place, found = printed_row(settings), {}  # type: tuple[int, str] | None, dict[str, Printed]
    if place is None or not set(settings["indicators"]) & set(paper.tables()["table_2"]["bio_u_net"]):
        return found
    table, row = place
    melanoma = paper.melanoma(table, row)
    if melanoma is not None:
        found["accuracy"] = Printed(melanoma, f"paper, Table {table} (§5.2 calls it accuracy)")
        found["melanoma_auc"] = Printed(melanoma, f"paper, Table {table} (§5.3 calls it AUC)")
    for name in settings["indicators"]:
        value = paper.dice(table, row, name)
        if value is not None and localisation.get("gradcam", {}).get(name, {}).get("t00", {}).get("dice") is not None:
            found[f"localisation.gradcam.{name}.t00.dice"] = Printed(value, f"paper, Table {table}")
    return found


def localisation_table(localisation: dict, threshold: str = "t00") -> str:
    """Markdown: continuous Dice with interval and n, over images with the indicator and over all.

    Runs of before `dice_all_interval` was recorded have a dash for it.
    """
    rows = [
        [
            paper.ROW_TITLES.get(method, method), paper.TITLES.get(name, name), number(entry["dice"]),
            interval_text(entry["dice_interval"]), entry["n"], number(entry["dice_all"]), interval_text(entry.get("dice_all_interval")),
            entry["n_all"],
        ]
        for method, indicators in localisation.items()
        for name, thresholds in indicators.items()
        for entry in [thresholds[threshold]]
    ]  # fmt: skip
    header = ("map", "indicator", "continuous Dice", "95 % interval", "images with it", "over all images", "95 % interval, all", "images")
    return markdown(header, rows, left=2) if rows else f"{MISSING}\n"


def report(run: Run, inputs: Inputs, title: str = "") -> None:
    """report.md with the printed row of its table, the localisation tables, the figures and the notes; model_card.md."""
    metrics = RunFolder.of(run).read_json("metrics.json")
    settings, localisation = run.settings, metrics["localisation"]
    smallest = [f"{name} about {count}" for name, count in paper.PRINTED_IMAGES.items()]
    counts = {name: values["t00"]["n"] for name, values in next(iter(localisation.values())).items()}
    notes = [
        f"AUC {number(metrics['melanoma_auc'])} {interval_text(metrics['melanoma_auc_interval'])}, sensitivity at a specificity of 0.8 "
        f"{number(metrics['sensitivity_at_80'])}, of 0.9 {number(metrics['sensitivity_at_90'])}. Calling every test image by the majority "
        f"class would give an accuracy of {number(metrics['majority_class_accuracy'])}.",
        *_indicator_notes(metrics),
        inputs.split_note(),
        *([data.overlap_note(settings["dataset_b"])] if "dataset_b" in settings else []),
        "Continuous Dice over test images that have the indicator: "
        + ", ".join(f"{name} {count}" for name, count in counts.items())
        + f". The printed numbers rest on a few images too ({', '.join(smallest)}; DEVIATIONS row 24): differences inside the intervals "
        "mean nothing.",
        "Scored is the Grad-CAM map of the encoder's last block at threshold 0, the continuous map; `unet_mask` is the decoder's drawing. "
        "Thresholds 0.0 to 0.9 are in localisation.csv and metrics.json.",
        *([f"Score behind the maps: {_target_note(metrics['outputs'], settings)}."] if "outputs" in metrics else []),
    ]
    notes += [
        f"{paper.ROW_TITLES.get(method, method)}, {paper.TITLES.get(name, name)}: continuous Dice {number(entry['dice'])} "
        f"{interval_text(entry['dice_interval'])} on {entry['n']} images with it, {number(entry['dice_all'])} "
        f"{interval_text(entry.get('dice_all_interval'))} over all {entry['n_all']}."
        for method, found in localisation.items()
        for name, entry in ((name, values["t00"]) for name, values in found.items())
    ]
    for name, label in (("t00", "0 (continuous)"), ("t06", "0.6")):
        run.write_text(f"localisation_{name}.md", f"# Localisation at threshold {label}\n\n{localisation_table(localisation, name)}")
    printed = {} if title else printed_numbers(settings, localisation)
    title = title or run_title(settings)
    write_report(run, title, printed, notes)
    write_model_card(run, title)


def _indicator_notes(metrics: dict) -> list[str]:
    """Sentences on the indicators' own scores, and on masks that stand in for others."""
    scores, standing = metrics.get("indicator_scores", {}), metrics.get("lesion_masks_for", [])
    found = [
        f"{paper.TITLES.get(name, name)}: AUC {number(entry['auc'])} {interval_text(entry['auc_interval'])}, average precision "
        f"{number(entry['average_precision'])}, {entry['positives']} of {entry['n']} test images."
        for name, entry in scores.items()
    ]
    if standing:
        names = ", ".join(paper.TITLES.get(name, name) for name in standing)
        found.append(
            f"There are no masks of {names}: the lesion's mask stands for them, so these scores say whether a map finds the lesion."
        )
    return found


def _target_note(outputs: dict[str, list[str]], settings: dict) -> str:
    known = {name for names in outputs.values() for name in names}
    target = settings.get("target", "auto")
    indicator = target == "indicator" or (
        target == "auto" and bool(known & set(settings["indicators"])) and "indicator_heads" not in settings
    )
    return "the indicator's logit" if indicator else "the predicted diagnosis (no output for the indicator: every image has it, or f_Res)"
