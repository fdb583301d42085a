"""The paper's figures over several runs: figs. 1, 3 to 5 and 7 to 10, from the arrays that the runs keep."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.report.plots import save
from melanoma import figures, paper
from melanoma.experiments.found import Found, default_rows, indicators_of
from melanoma.training.shown import SHOWN, read_arrays

# The paper's figures of further examples, by indicator; those it has none for are called by their name.
EXAMPLES = {"globules": "figure_7", "milia_like_cyst": "figure_8", "negative_network": "figure_9", "streaks": "figure_10"}


def sheets(target: Path, runs: Sequence[Found]) -> list[Path]:
    """Figs. 1, 3 to 5 and 7 to 10: the same test images under several runs, those of the first seed."""
    seed = min(run.settings["seed"] for run in runs)
    runs = [run for run in runs if run.settings["seed"] == seed]
    synthetic, indicators, drawn = bool(runs[0].metrics.get("synthetic")), indicators_of(runs), []
    arrays = {run.path: read_arrays(run.path) for run in runs}

    def draw(name: str, title: str, columns: dict[str, tuple[Found, str]], shown: Sequence[str], count: int = 2) -> None:
        merged: dict[str, np.ndarray] = {}
        for label, (run, key) in columns.items():
            for indicator in shown:
                found = arrays[run.path]
                merged |= {
                    f"{indicator}/{part}": found[f"{indicator}/{part}"] for part in ("images", "masks") if f"{indicator}/{part}" in found
                }
                if f"{indicator}/{key}" in found:
                    merged[f"{indicator}/{label}"] = found[f"{indicator}/{key}"]
        rows = figures.shown_sheet_rows(merged, shown, {label: label for label in columns}, count)
        rows = [row for row in rows if len(row[3]) == len(columns)]
        if rows and len(columns) > 1:
            drawn.append(save(figures.sheet(rows, title, synthetic=synthetic), target / f"{name}.png"))

    # The order of the paper's fig. 4, which is not Table 3's.
    first = {row: found[0] for row in ("f_res", "f_res_clr", "f_res_seg", "bio_u_net") if (found := default_rows(runs, row))}
    if "f_res" in first and f"{indicators[0]}/images" in (plain := arrays[first["f_res"].path]):
        image, heat = plain[f"{indicators[0]}/images"][0], plain[f"{indicators[0]}/gradcam"][0]
        figure = figures.attention(image, heat, "Fig. 1: Grad-CAM of the diagnosis, plain classifier", synthetic=synthetic)
        drawn.append(save(figure, target / "figure_1.png"))
    others = {run.experiment: run for run in reversed(runs) if run.experiment != "train"}
    methods = {paper.ROW_TITLES[m]: (others["cams"], m) for m in ("gradcam", "gradcam++", "layercam", "lime") if "cams" in others}
    methods |= {paper.ROW_TITLES[m]: (others[m], m) for m in ("vat", "unet") if m in others}
    if "bio_u_net" in first:
        draw("figure_3", "Fig. 3: methods", methods | {"Bio-U-Net": (first["bio_u_net"], "gradcam")}, indicators)
    ablation = {paper.ROW_TITLES[row]: (run, "gradcam") for row, run in first.items()}
    draw("figure_4", "Fig. 4: ablation", ablation, indicators)
    repeated = {count: default_rows(runs, "bio_u_net", repeats=count) for count in range(1, 6)}
    draw(
        "figure_5", "Fig. 5: repeats", {f"repeat {count}": (found[0], "gradcam") for count, found in repeated.items() if found}, indicators
    )
    for name in indicators:
        place = EXAMPLES.get(name, f"examples_{name}")
        number = place.replace("figure_", "Fig. ") if name in EXAMPLES else "Examples"
        draw(place, f"{number}: {paper.TITLES.get(name, name)} with and without f_Seg and f_CLR", ablation, (name,), SHOWN)
    return drawn
