"""The thesis's tables as printed (`paper_tables.json` beside this file); numbers stay strings until `number` reads them."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("paper_tables.json")
# Table 5.1 names its order [NV, MEL, BKL]; accuracy, Table 5.3 and Table 5.2 only fit [MEL, NV, BKL] (facts, section 4.2, row 9).
SENSITIVITY_ORDER = ("MEL", "NV", "BKL")
OBJECTIVES = {"classification": "classification_loss", "explanation": "explanation_loss", "combined": "combined_loss"}
# Figure 4.1 of the thesis: what of an answer is right.
CASE_TITLES = {
    "both_right": "both right", "region_wrong": "class right, region wrong", "class_wrong": "class wrong, region right",
    "both_wrong": "both wrong",
}  # fmt: skip
CASES = tuple(CASE_TITLES)
REGION_RIGHT = 0.5  # Jaccard index from which a region counts as right (not stated)
NETWORK, NETWORK_TITLE, SIZE = "vgg16", "VGG16", 227
# What every cell of Tables 5.1 to 5.4 has in common, under the names of config.json; beside anything else no printed number stands.
METHOD = {
    "feedback": "all",
    "channel_weights": "constant",
    "fuse_stages": 1,
    "feedback_form": "union",
    "explanation_loss": "binary",
    "threshold": 0.5,
    "gradient_scaling": "sum",
    "anchor_weight": 0.0,
    "adapt_epochs": 0,
}
SHOWN = ("fuse_stages", "feedback_form", "threshold")  # what decides an untuned model's Jaccard index too
TABLES = {"none": "table_5_1_unbalanced", "reduced": "table_5_2_reduced_balanced", "upsampled": "table_5_3_upsampled"}


@cache
def tables() -> dict[str, Any]:
    """Everything the thesis prints, by table."""
    return json.loads(SOURCE.read_text(encoding="utf-8"))


def number(text: str | None) -> float | None:
    """A printed cell as a number; None for "n/a" and missing cells."""
    return None if text in (None, "n/a") else float(str(text).replace(",", ""))


def skin_care(row: str) -> dict[str, float]:
    """Per class: `row` "test_accuracy_per_class" or "test_sensitivity_per_class" of Table 3.1, or a column of Table 4.1 such as "auc"."""
    if row.endswith("per_class"):
        return {name: float(value) for name, value in tables()["table_3_1_skin_care_vgg16"][row].items()}
    return {name: float(cells[row]) for name, cells in tables()["table_4_1_keras"]["rows"].items()}


def printed_class_weights() -> dict[str, float]:
    """Table 3.1's "class weights": they sum to 1 and equal the class frequencies, so they weight frequent classes up, not down."""
    return {name: float(value) for name, value in tables()["table_3_1_skin_care_vgg16"]["class_weights_as_printed"].items()}


def simulation_row(balance: str, objective: str | None) -> dict[str, float]:
    """A row of Tables 5.1 to 5.3: `accuracy`, `jaccard`, where printed `jaccard_deviation`, `average_sensitivity`, `sensitivity_<class>`.

    Args:
        balance: "none" (Table 5.1), "reduced" (5.2) or "upsampled" (5.3).
        objective: "classification", "explanation", "combined", or None for the baseline on the simulation data.
    """
    table = tables()[TABLES[balance]]
    if balance == "upsampled":
        weights = {None: "n/a", "classification": "0", "explanation": "1", "combined": "0.3"}
        cells = next(
            row for row in table["rows"] if row["lambda"] == weights[objective] and (objective is not None or row["test"] == "100% Sim Set")
        )
        found = {f"sensitivity_{name}": number(cells[f"sens_{name}"]) for name in SENSITIVITY_ORDER}
        found["jaccard_deviation"] = number(cells.get("avg_jaccard_sd"))
    else:
        cells = table["rows"]["baseline" if objective is None else OBJECTIVES[objective]]
        order = table["sensitivity_order_recommended"]
        found = {f"sensitivity_{name}": number(cell) for name, cell in zip(order, cells["per_class_sensitivity"], strict=True)}
    found["accuracy"] = number(cells["accuracy"])
    found["jaccard"] = number(cells["avg_jaccard"])
    found["average_sensitivity"] = number(cells.get("avg_sensitivity"))
    return {name: value for name, value in found.items() if value is not None}


def differences(config: Mapping[str, Any], role: str, tuned: bool = True) -> str | None:
    """In what the thesis's run differs from a run of ours: "" in nothing; None: in its data or method, so no number belongs beside ours.

    Args:
        config: a run's config.json. role: "base" (VGG16 on ISIC 2019) or "simulation" (that base, tuned on ISIC 2018 from the union of its
            attribute masks, each with constant channel weights and a map cut at a half of its maximum).
        tuned: False for the untuned model of a simulation, which how it is tuned afterwards does not concern.

    A drawn sample stands for the data set whose layout it has; its report says that nothing compares.
    """
    settings = config["settings"]
    data = str(config["dataset"]).removeprefix("sample-")
    if data != {"base": "isic2019", "simulation": "isic2018"}[role] or settings.get("limit") is not None:
        return None
    found = [] if settings["backbone"] == NETWORK else [NETWORK_TITLE]
    found += [] if settings["image_size"] == SIZE else [f"{SIZE} px"]
    found += [] if settings.get("split", "paper") == "paper" else ["split by image"]
    if role == "base":
        return "; ".join(found)
    if any(settings.get(name, value) != value for name, value in METHOD.items() if tuned or name in SHOWN):
        return None
    if str(settings["base_dataset"]).removeprefix("sample-") != "isic2019":
        found.append("base of ISIC 2019")
    if "mask_lesion" in settings["masks"]:
        found.append("attribute masks")
    return "; ".join(found)


def table_title(balance: str) -> str:
    """Such as "Table 5.1"."""
    return tables()[TABLES[balance]]["source_table"]


def base_on_isic2019() -> dict[str, float]:
    """Table 5.3, row 1: the baseline on the ISIC 2019 test set. Its average sensitivity is over all eight classes (facts, row 18)."""
    cells = tables()["table_5_3_upsampled"]["rows"][0]
    found = {f"sensitivity_{name}": float(cells[f"sens_{name}"]) for name in SENSITIVITY_ORDER}
    return found | {"accuracy": float(cells["accuracy"]), "average_sensitivity": float(cells["avg_sensitivity"])}


def minutes(objective: str, unit: str) -> str:
    """Minutes of an "epoch" over the whole simulation set or of one "slice" as section 5.10 says them, in words: it gives ranges.

    Its ranges do not agree with each other: "262 minutes to 554 minutes per epoch", "classification loss … max 320", "around 500 to 600 …
    for explanation loss and combined loss".
    """
    if unit == "slice":
        return "13 to 42" if objective == "classification" else "25 to 55"
    return "262 to 320" if objective == "classification" else "500 to 600 (262 to 554 over all)"


def slice_rows(objective: str) -> dict[int, dict[str, float]]:
    """Table 5.4 by slice number, 0 (after the first slice) and 19 (after the last): accuracy, average_sensitivity, jaccard, deviation."""
    name = {"classification": "Lcls", "explanation": "Lexp", "combined": "0.70 x Lcls + 0.3 x Lexp"}[objective]
    return {
        int(row["slice"]): {
            "accuracy": float(row["accuracy"]),
            "average_sensitivity": float(row["avg_sensitivity"]),
            "jaccard": float(row["avg_jaccard"]),
            "jaccard_deviation": float(row["sd"]),
        }
        for row in tables()["table_5_4_sliced"]["rows"]
        if row["loss"] == name
    }
