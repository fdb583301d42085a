"""The paper's tables as printed, read from paper_tables.json: continuous Dice in percent, melanoma as a share, FLOPs in billions.

Keys are this suite's names: indicators as in the official mask files, rows `f_res`, `f_res_seg`, `f_res_clr`, `bio_u_net`, the number of
repeats, `one`, `two`, `five`, `six` tasks, the methods of Table 2.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

TITLES = {
    "globules": "globules", "milia_like_cyst": "milia-like cysts", "negative_network": "negative network",
    "pigment_network": "pigment network", "streaks": "streaks", "lesion": "lesion",
}  # fmt: skip
ROW_TITLES = {
    "f_res": "f_Res", "f_res_seg": "f_Res + f_Seg", "f_res_clr": "f_Res + f_CLR", "bio_u_net": "Bio-U-Net", "one": "one indicator",
    "two": "two tasks", "five": "five tasks", "six": "six tasks", "gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "layercam": "LayerCAM",
    "lime": "LIME", "vat": "VAT + Grad-CAM", "unet": "plain U-Net", "unet_mask": "the U-Net's mask",
    # Of the shared design (`experiments.shared`), which the paper has not.
    "shared_f_res": "melanoma only", "shared_f_res_seg": "melanoma and masks", "shared_indicators": "melanoma and indicators",
    "shared_whole": "melanoma, indicators and masks",
}  # fmt: skip
PROBLEM = {  # of the printed numbers
    "dataset": "isic2018", "backbone": "resnet50", "image_size": 512, "limit": None, "split": "paper", "reading": "described",
}  # fmt: skip
METHOD = {"encoders": "plain", "head": "described", "watch": "dice", "target": "auto", "segment_on": "all", "binarise": False}
# Facts §3.2, row 24: the printed numbers are whole multiples of 1/19, 1/9 and 1/6, far beyond chance.
PRINTED_IMAGES = {"globules": 19, "negative_network": 9, "streaks": 6}
PIGMENT_WITHOUT = 1071  # Table 1 prints 881, which with 1523 does not sum to 2594 (DEVIATIONS row 15)


@cache
def tables() -> dict:
    """All tables; do not change what is returned."""
    return json.loads((Path(__file__).parent / "paper_tables.json").read_text(encoding="utf-8"))


def document(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a run's recipe with the values of the printed run; an option that has no effect in the run stands in no recipe."""
    return PROBLEM | {name: value for name, value in METHOD.items() if name in recipe}


def dice(table: int, row: str, indicator: str) -> float | None:
    """Continuous Dice as a share 0..1 of Tables 2 to 5; None for a cell that was not printed (lesion masks, our own rows)."""
    value = tables()[f"table_{table}"].get(row, {}).get(indicator)
    return None if value is None else value / 100


def melanoma(table: int, row: str) -> float | None:
    """The melanoma column of Tables 3 to 5: §5.2 calls it accuracy, §5.3 AUC (DEVIATIONS row 13)."""
    return tables()[f"table_{table}"].get(row, {}).get("melanoma")


def threshold(indicator: str, value: float) -> float | None:
    """Table 6 as a share 0..1."""
    printed = tables()["table_6"].get(indicator, {}).get(f"{value:.1f}")
    return None if printed is None else printed / 100
