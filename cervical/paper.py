"""The tables as printed, the authors' own six-digit results, and their loss curves; all read from paper_tables.json beside this file.

Nothing here is measured by us. Accuracies come as fractions 0..1. `method` is "finetune", "cost-sensitive" or "contrastive"; the notebooks
also hold "control" (the same network with plain cross-entropy, never published), "ntxent-coded" and "triplet-coded".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

# Weights inverse to the classes' frequencies, as Table II has them; other values of --costs name a file.
CLASS_COSTS = ("balanced", "printed")
Document = Literal["paper", "thesis"]
TABLE_NUMBERS = {
    "finetune": "paper Table I, thesis Table 6.2",
    "cost-sensitive": "paper Table II, thesis Table 6.3",
    "contrastive": "paper Table III, thesis Table 6.4",
}


@cache
def tables() -> dict[str, Any]:
    """The whole file, numbers as strings."""
    return json.loads(Path(__file__).with_name("paper_tables.json").read_text(encoding="utf-8"))


def fraction(text: str) -> float:
    """ "97.29%" -> 0.9729, "0.95" -> 0.95."""
    return round(float(text[:-1]) / 100, 6) if text.endswith("%") else float(text)


def printed_accuracy(method: str, backbone: str, document: Document = "paper") -> float | None:
    """Accuracy as printed, or None where the documents print none (other backbones, the control)."""
    row = tables()[document].get(method, {"rows": {}})["rows"].get(backbone)
    return fraction(row["accuracy"]) if row else None


def printed_classes(method: str, backbone: str, document: Document = "paper") -> dict[str, dict[str, float]]:
    """{class: {precision, recall, f1}} as printed; empty where nothing is printed."""
    row = tables()[document].get(method, {"rows": {}})["rows"].get(backbone, {"per_class": {}})
    return {name: {key: fraction(value) for key, value in cells.items()} for name, cells in row["per_class"].items()}


EPOCHS = 50  # at most, in each stage (paper IV-A)


def document(method: str, backbone: str) -> dict[str, Any]:
    """Fields of a run's recipe with the values of the printed run; a run that has others does not stand beside the printed number."""
    same = {"dataset": "sipakmed", "split": "paper", "split_seed": 42, "limit": None, "image_size": 110, "copies": 6, "backbone": backbone}
    if method.startswith("contrastive"):
        # All printed numbers come from random weights (facts 1.6), whatever the text says.
        stages = ("training",) if method == "contrastive-control" else ("encoder", "classifier")
        return {**same, "weights": "none", **{f"{stage}.epochs": EPOCHS for stage in stages}}
    return {**same, "weights": "imagenet", "views": False, "training.epochs": EPOCHS}


def of_no_document(settings: Mapping[str, Any]) -> bool:
    """Whether a run's method is another than the documents': mixed pairs, smoothed labels, or costs of one's own."""
    own_costs = settings.get("costs", "printed") not in CLASS_COSTS
    return own_costs or bool(settings.get("mixup") or settings.get("label_smoothing"))


def notebook(method: str, backbone: str) -> dict[str, Any] | None:
    """{accuracy, macro_f1, per_class, source} with six digits from the authors' notebooks, or None."""
    report = tables()["notebooks"].get(method, {}).get(backbone)
    if report is None:
        return None
    return {
        "accuracy": float(report["accuracy"]),
        "macro_f1": float(report["macro_f1"]),
        "per_class": {name: {key: float(value) for key, value in cells.items()} for name, cells in report["per_class"].items()},
        "source": f"authors' notebook {report['source']}",
    }


def printed_costs() -> dict[str, float]:
    """Class costs of paper III-C.2."""
    return {name: float(value) for name, value in tables()["costs"].items() if name != "source"}


def previous_works() -> list[dict[str, str]]:
    """Rows of thesis Table 7.1 and what only paper Table IV words otherwise: authors, method, accuracy, and where it is printed."""
    paper = {row["accuracy"] for row in tables()["comparison"]["paper"]["rows"]}
    rows = tables()["comparison"]["thesis"]["rows"]
    return [{**row, "printed in": "Table IV, 7.1" if row["accuracy"] in paper else "Table 7.1 only"} for row in rows]


def loss_curve(name: str) -> list[float]:
    """The authors' loss per epoch for DenseNet169 ("npairs", "ntxent-coded", "triplet-coded"; thesis fig. 6.3), or an empty list."""
    return [float(value) for value in tables()["loss_curves"].get(name, [])]
