"""The paper's tables as printed (Sadi et al. 2024, Tables 1 to 6), read from paper_tables.json; scores in percent.

Keys are this suite's names: data sets `odir5k`, `ham10000`, `isic2019`, `covid_radiography`; backbones `efficientnetv2s`, `resnet50`,
`densenet121`; losses `cce`, `focal`, `ldam`, `bwcce`, `lmf`.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from common.report.markup import Printed

TITLES = {"odir5k": "ODIR-5K", "ham10000": "HAM-10K", "isic2019": "ISIC-2019", "covid_radiography": "Covid-19"}
# The paper's losses, then others that it does not have.
LOSS_TITLES = {
    "cce": "CCE",
    "wcce": "WCCE",
    "focal": "Focal",
    "ldam": "LDAM",
    "bwcce": "BWCCE",
    "lmf": "LMF",
    "class_balanced": "Class-balanced",
    "balanced_softmax": "Balanced softmax",
    "logit_adjusted": "Logit-adjusted",
}
# Scores as Tables 2 to 4 name them -> as metrics.json does.
METRICS = {"accuracy": "accuracy", "precision": "macro_precision", "recall": "macro_recall", "macro_f1": "macro_f1"}
SCORE_TABLES = {"efficientnetv2s": "table_2", "resnet50": "table_3", "densenet121": "table_4"}
# Remedies beside the loss, as `train` knows them, and their values where there is none.
WITHOUT = {"sampler": "shuffle", "deferred_share": 1.0, "head": "linear", "adjust_tau": 0.0}
RETRAINED = {
    "crt": ", last layer retrained on balanced draws (cRT)",
    "oversample": ", last layer retrained on over-sampled classes",
    "undersample": ", last layer retrained on under-sampled classes",
    "smote": ", last layer retrained with SMOTE",
}
# Class names of the data sets' own files -> as Table 5 prints them, where they differ by more than upper case.
_PRINTED_CLASSES = {"COVID": "Covid", "Lung_Opacity": "LO", "Viral Pneumonia": "VP"}


@cache
def tables() -> dict:
    """All tables; do not change what is returned."""
    return json.loads((Path(__file__).parent / "paper_tables.json").read_text(encoding="utf-8"))


def printed_class(name: str) -> str:
    """Class name as Table 5 prints it: `akiec` -> `AKIEC`, `Lung_Opacity` -> `LO`."""
    return _PRINTED_CLASSES.get(name, name if name == "Normal" else name.upper())


def split_sizes(dataset: str) -> dict[str, int] | None:
    """Table 1: images in train, validation and test; None for a data set that is not in the paper."""
    return tables()["table_1"].get(dataset)


def scores(dataset: str, backbone: str, loss: str) -> tuple[dict[str, float], str] | None:
    """Tables 2 to 4: ({accuracy, precision, recall, macro_f1} in percent, "Table 2"), or None for a cell that was not printed."""
    table = SCORE_TABLES.get(backbone)
    if table is None:
        return None
    row = tables()[table]["rows"].get(dataset, {}).get(loss)
    return (row, f"Table {table[-1]}") if row else None


def printed_scores(dataset: str, backbone: str, loss: str) -> dict[str, Printed]:
    """The same by the names of metrics.json, as shares; empty for a cell that was not printed."""
    row, table = scores(dataset, backbone, loss) or ({}, "")
    return {METRICS[name]: Printed(value / 100, f"paper, {table}") for name, value in row.items()}


def train_counts(dataset: str) -> dict[str, int] | None:
    """Table 5: training images of each class, by printed class name; None for a data set that is not in the paper."""
    rows = tables()["table_5"]["rows"].get(dataset)
    return {name: row["train"] for name, row in rows.items()} if rows else None


def class_f1(dataset: str, backbone: str, loss: str, class_name: str) -> float | None:
    """Table 5 (EfficientNetV2 only): F1 of one class in percent, by the data set's own class name."""
    table = tables()["table_5"]
    row = table["rows"].get(dataset, {}).get(printed_class(class_name)) if backbone == table["backbone"] else None
    return row.get(loss) if row else None


def alpha_beta(dataset: str, backbone: str) -> tuple[float, float]:
    """Table 6: (alpha, beta) of the cell; (1, 1), the defaults of the authors' program, where the table has no cell."""
    cell = tables()["table_6"].get(dataset, {}).get(backbone)
    return (float(cell["alpha"]), float(cell["beta"])) if cell else (1.0, 1.0)


def document_of(recipe: Mapping[str, Any]) -> dict[str, object]:
    """What a run must be for the printed numbers of its cell to stand beside it: values of its recipe.

    Training images of each class are compared whatever their order; of the remedies that the recipe names the paper has none.
    """
    dataset = str(recipe.get("dataset"))
    found: dict[str, object] = {name: str(recipe.get(name)) for name in ("dataset", "backbone", "loss")}
    found |= {
        "split": "paper",
        "image_size": 224,
        "limit": None,
        "epochs": 100,
        **{name: value for name, value in WITHOUT.items() if name in recipe},
    }
    printed, own = train_counts(dataset), list(recipe.get("class_counts", ()))
    if printed is None:
        return found
    return found | {"class_counts": own if sorted(own) == sorted(printed.values()) else list(printed.values())}


def remedies(recipe: Mapping[str, Any]) -> str:
    """What a run does about the imbalance beside its loss, as " with balanced draws, a cosine head"; "" for nothing."""
    own = {**WITHOUT, **recipe}
    found = [f"{own['sampler']} draws"] if own["sampler"] != "shuffle" else []
    found += ["deferred re-weighting"] if own["deferred_share"] < 1 else []
    found += ["a cosine head"] if own["head"] == "cosine" else []
    again = own.get("retrain", {})
    tau = again["tau"] if again.get("how") == "adjust" else own["adjust_tau"]
    found += [f"logits adjusted afterwards (tau {tau:g})"] if tau else []
    return (f" with {', '.join(found)}" if found else "") + RETRAINED.get(again.get("how", ""), "")


def differs(recipe: Mapping[str, Any]) -> list[str]:
    """Fields in which a run differs from the paper's problem and method: data, classes, split, network, image size, remedies."""
    own = {**recipe, "class_counts": list(recipe.get("class_counts", ()))}
    return [name for name, value in document_of(recipe).items() if own.get(name) != value]
