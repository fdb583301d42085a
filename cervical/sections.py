"""What stands beside a table's rows: classes, previous works, settings and images as printed, curves of losses and of frozen layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cervical.experiments.finetune import FREEZE
from cervical.figures import accuracy_bars
from cervical.paper import TABLE_NUMBERS, loss_curve, previous_works, printed_accuracy, printed_classes, tables
from common.backbones import BACKBONES
from common.data.dataset import Dataset
from common.report import plots
from common.report.provenance import differs
from common.report.tables import MISSING, TableRow, markdown, number

TITLES = {"finetune": "fine-tuning", "cost-sensitive": "cost-sensitive", "contrastive": "contrastive", "contrastive-control": "control"}
BATCH_SIZE = "32 (thesis 6.3)"


def block_of(backbone: str) -> str:
    """The network's name, by which rows are compared."""
    return BACKBONES[backbone].title


def class_tables(rows: Sequence[TableRow]) -> str:
    """Precision, recall and F1 of each class, mean over the seeds: ours (printed in the paper; in the thesis where that is another)."""
    lines = []
    for row in rows:
        if not row.runs:
            continue
        method, backbone = row.runs[0].experiment, row.runs[0].value("backbone")
        own = not row.printed
        paper, thesis = ({} if own else printed_classes(method, backbone, where) for where in ("paper", "thesis"))
        for name in row.runs[0].metrics()["per_class"]:
            cells = []
            for score in ("precision", "recall", "f1"):
                values = [run.metrics()["per_class"][name][score] for run in row.runs]
                text = number(float(np.mean([value for value in values if value is not None])) if any(values) else None)
                said = [each.get(name, {}).get(score) for each in (paper, thesis)]
                if said[0] is not None:
                    text += f" ({said[0]:.2f}" + (f"; thesis {said[1]:.2f})" if said[1] not in (None, said[0]) else ")")
                cells.append(text)
            lines.append([row.block, row.name, name, *cells])
    note = "\nOurs (printed; the thesis's number where it is another). In what a printed run differs from ours, the first table says.\n"
    return "## Each class\n\n" + markdown(("network", "method", "class", "precision", "recall", "F1"), lines, left=3) + note


def previous_text(rows: Sequence[TableRow]) -> str:
    """Table IV / 7.1: previous works, and the best row of each method of ours."""
    lines = [[each["authors"], each["method"], each["accuracy"], each["printed in"]] for each in previous_works()]
    best: dict[str, tuple[float, str]] = {}
    for row in rows:
        if row.runs:
            mean = float(np.mean([run.metrics()["accuracy"] for run in row.runs]))
            best[row.runs[0].experiment] = max(best.get(row.runs[0].experiment, (0.0, "")), (mean, f"{row.name}, {row.block}"))
    synthetic = any(run.metrics().get("synthetic") for row in rows for run in row.runs)
    lines += [["ours" + (" (synthetic data)" if synthetic else ""), name, f"{value:.2%}", MISSING] for value, name in best.values()]
    note = "\nOurs is the best network of each method, picked on the test images as the paper picked its own; the first table shows all.\n"
    return "## Table IV / 7.1: previous works\n\n" + markdown(("authors", "method", "accuracy", "printed in"), lines, left=2) + note


def settings_text(rows: Sequence[TableRow]) -> str:
    """Table 6.1: settings, of the first row of each method."""
    lines = []
    first = {row.runs[0].experiment: row.runs[0] for row in reversed(rows) if row.runs}
    for experiment, run in reversed(first.items()):
        settings = run.recipe
        # The control is in no document, so nothing is printed for it.
        column = "contrastive" if experiment == "contrastive" else "fine_tuning_and_cost_sensitive"
        printed = {} if experiment == "contrastive-control" else {**tables()["hyperparameters"][column], "batch_size": BATCH_SIZE}
        stages = [settings[name] for name in ("training", "encoder", "classifier") if name in settings]
        ours = {
            "epoch": ", ".join(str(stage["epochs"]) for stage in stages),
            "learning_rate": ", ".join(f"{stage['learning_rate']:g}" for stage in stages),
            "batch_size": settings["batch_size"],
            "loss": f"{settings['loss']}, then cross-entropy" if "loss" in settings else "cross-entropy",
            "activation": "softmax",
            "optimizer": "Adam",
            "size": f"{settings['image_size']}x{settings['image_size']}",
            "dropout": settings["dropout"],
        }
        if experiment == "cost-sensitive":
            ours["loss"] = f"weighted log loss, or plus the expected cost of a matrix (costs {settings['costs']})"
        told = {"epoch": "epochs (at most)"}
        lines += [
            [TITLES[experiment], told.get(key, key.replace("_", " ")), value, printed.get(key, MISSING)] for key, value in ours.items()
        ]
    return "## Table 6.1: settings\n\n" + markdown(("method", "setting", "ours", "printed"), lines, left=2)


def images_text(dataset: Dataset, rows: Sequence[TableRow]) -> str:
    """Tables 4.1 and 4.2: images of each class, and of each part of the split."""
    runs = [run for row in rows for run in row.runs if (run.path / "manifest.csv").is_file()]
    if not runs:
        return ""
    manifest, copies = runs[0].table("manifest.csv", dtype=str, keep_default_na=False), int(runs[0].value("copies"))
    printed, counts, parts = tables()["dataset"], manifest["label"].value_counts(), tables()["partition"]
    lines = [[name, int(counts[name]), printed.get(name, MISSING)] for name in sorted(counts.index)]
    lines.append(["all", len(manifest), "4049 (their sum: 3971)"])
    sizes = manifest["split"].value_counts()
    split = [["train", int(sizes.get("train", 0)), parts["Train before augmentation"]]]
    split.append([f"train with {copies} copies each", int(sizes.get("train", 0)) * (1 + copies), parts["Train"]])
    split += [[name, int(sizes.get(name, 0)), parts[name.capitalize()]] for name in ("validation", "test")]
    head = "## Tables 4.1 and 4.2: images\n\n"
    return head + markdown(("class", dataset.name, "printed"), lines) + "\n" + markdown(("part", dataset.name, "printed"), split)


def accuracy_figures(rows: Sequence[TableRow]) -> dict[str, Any]:
    """Thesis figures 6.1, 6.2 and 6.4: {method: accuracy of each network}; the mean over the seeds, with the interval of a single one.

    Printed numbers stand beside runs of the document's data, split, size and network only.
    """
    synthetic = any(run.metrics().get("synthetic") for row in rows for run in row.runs)
    figures = {}
    for method in TABLE_NUMBERS:
        shown = {}
        for row in rows:
            if row.runs and row.runs[0].experiment == method and row.runs[0].value("backbone") not in shown:
                metrics = [run.metrics() for run in row.runs]
                interval = metrics[0]["accuracy_interval"] if len(metrics) == 1 else None
                backbone = row.runs[0].value("backbone")
                printed = None if differs(row.runs[0], row.document, synthetic) else printed_accuracy(method, backbone)
                shown[backbone] = (float(np.mean([each["accuracy"] for each in metrics])), interval, printed)
        if shown:
            figures[method] = accuracy_bars(method, shown, synthetic)
    return figures


def histories(rows: Sequence[TableRow], backbone: str) -> dict[str, Any]:
    """{loss: the encoder's history} of the first seed of each contrastive row of a network (thesis figure 6.3)."""
    runs = [
        row.runs[0] for row in rows if row.runs and row.runs[0].experiment == "contrastive" and row.runs[0].value("backbone") == backbone
    ]
    return {run.value("loss"): run.history() for run in reversed(runs)}


def falls_text(rows: Sequence[TableRow]) -> str:
    """Where each encoder's loss begins and ends, beside the authors' curve."""
    lines = []
    for row in rows:
        if row.runs and row.runs[0].experiment == "contrastive":
            history, theirs = row.runs[0].history(), loss_curve(row.runs[0].value("loss"))
            part = history.loc[history["stage"] == "encoder", "loss"]
            authors = f"{theirs[0]:.4f} → {theirs[-1]:.4f}" if theirs else MISSING
            lines.append(
                [row.block, row.runs[0].value("loss"), len(part), *map(number, (part.iloc[0], part.min(), part.iloc[-1])), authors]
            )
    return markdown(("network", "loss", "epochs", "first", "least", "last", "authors, DenseNet169"), lines, left=2)


def depth_points(rows: Sequence[TableRow], backbone: str) -> list[tuple[int, float, float]]:
    """(frozen layers, validation accuracy, test accuracy), means over the seeds."""
    found = []
    for row in rows:
        if row.runs and row.runs[0].value("backbone") == backbone:
            metrics = [run.metrics() for run in row.runs]
            scores = [float(np.mean([each[name] for each in metrics])) for name in ("validation_accuracy", "accuracy")]
            found.append((int(row.runs[0].value("freeze")), *scores))
    return sorted(found)


def depth_curve(rows: Sequence[TableRow], backbone: str) -> Any:
    """Accuracy against frozen layers, or None where nothing is measured."""
    points = depth_points(rows, backbone)
    if not points:
        return None
    depths, validation, test = zip(*points, strict=True)
    synthetic = any(run.metrics().get("synthetic") for row in rows for run in row.runs)
    lines = {"validation": (depths, validation), "test": (depths, test)}
    return plots.curves(lines, "frozen layers", "accuracy", f"{block_of(backbone)}: how much to freeze", synthetic=synthetic)


def depth_text(rows: Sequence[TableRow]) -> str:
    """The best depth on validation images beside the paper's."""
    said = []
    for backbone in dict.fromkeys(row.runs[0].value("backbone") for row in rows):
        points = depth_points(rows, backbone)
        depth, validation, test = max(points, key=lambda point: point[1])
        said.append(f"{block_of(backbone)}: best on validation images with {depth} frozen layers ({validation:.4f}; test {test:.4f}).")
        theirs = [point for point in points if point[0] == FREEZE.get(backbone)]
        if theirs and theirs[0][0] != depth:
            said.append(f"The paper froze {theirs[0][0]}: {theirs[0][1]:.4f} there (test {theirs[0][2]:.4f}).")
    if all(run.value("weights") == "none" for row in rows for run in row.runs):
        said.append("The networks started from random weights, so freezing keeps random layers: this shows the command, not the question.")
    return " ".join(said) + "\n"
