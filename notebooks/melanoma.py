# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Melanoma: Bio-U-Net's tables and sheets
#
# "Explainable Diagnosis of Melanoma Based on Localization of Clinical Indicators and Self-Supervised Learning", from finished runs: those
# below the folder `MELANOMA_RUNS` where that is set, else those in results/melanoma, else those in runs/melanoma. Where there are none, the
# notebook makes a few small ones on drawn lesions (below `MELANOMA_RUNS` where that is set): one indicator, one epoch a stage, which shows
# the procedure and no result.

# %%
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "melanoma" / "config.py").is_file())
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))

from common.cli import prepare_environment

prepare_environment()

import pandas as pd
from IPython.display import Image, Markdown, display

from melanoma import figures
from melanoma.config import AblationOptions, BaselineOptions, RepeatsOptions
from melanoma.experiments import grids
from melanoma.experiments.found import find_runs
from melanoma.experiments.tables import write_all

given = os.environ.get("MELANOMA_RUNS")
PLACES = [Path(given)] if given else [Path("results/melanoma"), Path("runs/melanoma")]
RUNS = next((place for place in PLACES if place.is_dir() and find_runs(place)), None)
if RUNS is None:
    RUNS = PLACES[0] if given else Path("runs/melanoma-notebook")
    small = {"image_size": 64, "epochs": 1, "limit": 60, "indicators": ("pigment_network",), "run_dir": RUNS}
    # As few runs as figs. 1 and 3 to 5 can be drawn from; what two tables share is trained once.
    grids.run_rows(AblationOptions(**small, rows=("f_res", "bio_u_net")))
    grids.run_rows(RepeatsOptions(**small, rows=("2",)))
    grids.baselines_command(BaselineOptions(**small, rows=("cams",), lime_samples=30, lime_images=1))
runs = find_runs(RUNS)
pd.DataFrame([{"run": run.path.name, "row": run.row, "group": run.group, "seed": run.settings["seed"]} for run in runs])

# %% [markdown]
# ## The tables
# Ours beside printed, with interval, number of images and seeds; the methods against each other, paired by image. On drawn lesions ours
# and printed do not measure the same thing.

# %%
# A temporary folder: to look at results/ must not change it.
TABLES = Path(tempfile.mkdtemp(prefix="melanoma-tables-"))
written = write_all(RUNS, TABLES)
for path in written:
    if path.suffix == ".md":
        display(Markdown(path.read_text(encoding="utf-8")))

# %% [markdown]
# ## Figs. 1 and 3 to 10
# Methods, ablation, repeats and further examples on the same test images, where their runs are there; fig. 6 with the sizes of the built
# layers. Published runs hold no images: of them the sheets are shown that were committed with their tables.

# %%
sheets = [path for path in written if path.suffix == ".png"]
if not sheets:
    sheets = [path for path in sorted((RUNS / "tables").rglob("*.png")) if path.stem != "figure_6"]
for path in [*sheets, *sorted(TABLES.rglob("figure_6.png"))]:
    display(Markdown(f"### {path.stem.replace('_', ' ')}"), Image(filename=str(path)))

# %% [markdown]
# ## One run: each indicator's sheet and the twelve heatmaps

# %%
whole = next((run for run in runs if run.row == "bio_u_net"), runs[0])
print(whole.path)
for path in sorted((whole.path / "figures").glob("*.png")):
    if path.stem.startswith(("sheet", "heatmaps", "thresholds")):
        display(Image(filename=str(path)))

# %% [markdown]
# ## SimCLR: loss, alignment and uniformity by epoch

# %%
for path in sorted(RUNS.rglob("embedding_quality.json")):
    history = pd.read_csv(path.with_name("history.csv"))
    display(figures.embedding_curves(history, synthetic=bool(whole.metrics["synthetic"])))
    display(pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))))
