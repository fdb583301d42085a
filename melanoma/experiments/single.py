"""One complete run: training, figures, report. `melanoma train` and every cell of the grids."""

from pathlib import Path

from common.report.report import Printed, write_model_card, write_report
from common.report.tables import MISSING, interval_text, markdown, number
from common.runs import Run
from common.runs.reading import RunFolder
from melanoma import data, figures, paper
from melanoma.config import BioUNetOptions, PretrainOptions
from melanoma.training.inputs import Inputs, load_inputs
from melanoma.training.pipeline import train
from melanoma.training.pretraining import pretrain


def pretrain_command(options: PretrainOptions) -> None:
    """`melanoma pretrain`."""
    pretrain(load_inputs(options), options.run_dir)


def train_command(options: BioUNetOptions) -> None:
    """`melanoma train`."""
    complete(load_inputs(options), options.run_dir)


def complete(inputs: Inputs, run_dir: Path | None = None) -> Run:
    """Train and test what the settings say, draw it and report it; a finished run is returned as it is."""
    run = train(inputs, run_dir)
    if not run.finished:
        figures.draw_run(run.path)
        report(run, inputs)
        run.finish()
    return run


def variant(settings: dict) -> str:
    """Row of Table 3."""
    return {(False, False): "f_res", (True, False): "f_res_seg", (False, True): "f_res_clr", (True, True): "bio_u_net"}[
        settings["segmentation"], settings["simclr"]
    ]


def printed_row(settings: dict) -> tuple[int, str] | None:
    """(table, row) that the paper prints for a run of these settings; None where it prints none."""
    row, repeats, tasks = variant(settings), settings["repeats"], settings["tasks"]
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
    if settings["segmentation"]:
        parts += [f"{settings['repeats']} segmentation updates an iteration"] * (settings["repeats"] != 1)
        parts += [paper.ROW_TITLES[settings["tasks"]]] * (settings["tasks"] != "one")
    parts += ["interleaved (Algorithm 1)"] * (settings["order"] != "phases")
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
        data.split_note(inputs.manifest, settings["split"]),
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


def _target_note(outputs: dict[str, list[str]], settings: dict) -> str:
    known = {name for names in outputs.values() for name in names}
    indicator = settings["target"] == "indicator" or (settings["target"] == "auto" and bool(known & set(settings["indicators"])))
    return "the indicator's logit" if indicator else "the predicted diagnosis (no output for the indicator: every image has it, or f_Res)"
