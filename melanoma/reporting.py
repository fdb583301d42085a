"""Complete runs: training, then figures and report of what it left in the run folder. `melanoma train` and every cell of the tables."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from common.report.markup import Printed, interval_text, number
from common.report.report import write_model_card, write_report
from common.runs.folder import Run
from common.runs.reading import RunFolder
from melanoma import data, figures, paper
from melanoma.experiments.base import MelanomaSettings
from melanoma.experiments.table import variant
from melanoma.training.inputs import Inputs, load_inputs
from melanoma.training.pipeline import train
from melanoma.training.pretraining import pretrain
from melanoma.training.shared import train_shared


def command(training: Callable[[Inputs, Path | None], Run], settings: MelanomaSettings) -> None:
    """`melanoma pretrain`, `train` and `shared`."""
    complete(training, load_inputs(settings), settings.run_dir)


pretrain_command, train_command, shared_command = (partial(command, training) for training in (pretrain, train, train_shared))


def complete(training: Callable[[Inputs, Path | None], Run], inputs: Inputs, run_dir: Path | None = None) -> Run:
    """Train and test what the settings say, draw it and report it; a finished run is returned as it is."""
    run = training(inputs, run_dir)
    if not run.finished:
        if training is pretrain:
            report_pretraining(run, inputs)
        else:
            figures.draw_run(run.path)
            report(run, inputs)
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
    title = "Subnetwork 1: SimCLR, judged by a linear probe"
    write_report(run, title, notes=notes)
    write_model_card(run, title)


def printed_row(settings: dict) -> tuple[int, str] | None:
    """(table, row) that the paper prints for a run of these settings; None where it prints none."""
    if "indicator_heads" in settings or settings["order"] != "phases":
        return None  # which order the printed numbers come from is not said; they stand beside A.3's
    row, repeats, tasks = variant(settings), settings.get("repeats", 1), settings.get("tasks", "one")
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


def printed_numbers(settings: dict, metrics: dict) -> dict[str, Printed]:
    """The printed row of this run where the paper has one for its very problem."""
    place = printed_row(settings)
    if place is None or metrics.get("lesion_masks_for") or any(settings.get(k) != value for k, value in paper.document(settings).items()):
        return {}
    table, row = place
    melanoma, known = paper.melanoma(table, row), metrics["localisation"]["gradcam"]
    found = {} if melanoma is None else {
        "accuracy": Printed(melanoma, f"paper, Table {table} (§5.2 calls it accuracy)"),
        "melanoma_auc": Printed(melanoma, f"paper, Table {table} (§5.3 calls it AUC)"),
    }  # fmt: skip
    values = {name: paper.dice(table, row, name) for name in known if known[name]["t00"]["dice"] is not None}
    drawn = {f"localisation.gradcam.{name}.t00.dice": Printed(v, f"paper, Table {table}") for name, v in values.items() if v is not None}
    return found | drawn


def report(run: Run, inputs: Inputs, title: str = "") -> None:
    """report.md with the printed row of its table, the localisation, the figures and the notes; model_card.md."""
    metrics = RunFolder.of(run).read_json("metrics.json")
    settings, localisation = run.settings, metrics["localisation"]
    notes = [
        f"AUC {number(metrics['melanoma_auc'])} {interval_text(metrics['melanoma_auc_interval'])}, sensitivity at a specificity of 0.8 "
        f"{number(metrics['sensitivity_at_80'])}, of 0.9 {number(metrics['sensitivity_at_90'])}.",
        *_indicator_notes(metrics),
        inputs.split_note(),
        *([data.overlap_note(settings["dataset_b"])] if "dataset_b" in settings else []),
        *map_notes(metrics, settings),
    ]
    notes += [
        f"{paper.ROW_TITLES.get(method, method)}, {paper.TITLES.get(name, name)}: continuous Dice {number(entry['dice'])} "
        f"{interval_text(entry['dice_interval'])} on {entry['n']} images with it, {number(entry['dice_all'])} "
        f"{interval_text(entry['dice_all_interval'])} over all {entry['n_all']}."
        for method, found in localisation.items()
        for name, entry in ((name, values["t00"]) for name, values in found.items())
    ]
    write_report(run, title or run_title(settings), {} if title else printed_numbers(settings, metrics), notes)
    write_model_card(run, title or run_title(settings))


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


def map_notes(metrics: dict, settings: dict) -> list[str]:
    """Sentences on the maps: how they are scored, and of which output they are."""
    smallest = ", ".join(f"{name} about {count}" for name, count in paper.PRINTED_IMAGES.items())
    kind = "1 wherever it is above 0 (--binarise)" if settings.get("binarise") else "the continuous map"
    found = [
        f"Scored is the Grad-CAM map of the encoder's last block at threshold 0, {kind}; `unet_mask` is the decoder's drawing. "
        "Thresholds 0.0 to 0.9 are in localisation.csv and metrics.json. `whole image`, `centred blob` and `mean training mask` look at no "
        f"image. The printed numbers rest on a few images ({smallest}; DEVIATIONS row 24): differences inside the intervals mean nothing.",
    ]
    if "outputs" not in metrics:
        return found
    known, target = {name for names in metrics["outputs"].values() for name in names}, settings.get("target", "auto")
    if target == "auto":
        target = "indicator" if known & set(settings["indicators"]) and "indicator_heads" not in settings else target
    score = {
        "indicator": "the indicator's logit", "melanoma": "melanoma's logit", "predicted": "the predicted diagnosis",
        "auto": "the predicted diagnosis (no output for the indicator: every image has it, or f_Res)",
    }[target]  # fmt: skip
    return [*found, f"Score behind the maps: {score}."]
