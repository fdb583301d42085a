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
# "Explainable Diagnosis of Melanoma Based on Localization of Clinical Indicators and Self-Supervised Learning", from finished runs.
# `MELANOMA_RUNS` names a folder of runs (`runs/melanoma` by default). Where there are none, a small one is made on drawn lesions: one
# indicator, one epoch a stage, which shows the procedure and no result.

# %%
import json
import os
import sys
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "melanoma" / "config.py").is_file())
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))

from common.cli import prepare_environment

prepare_environment()

import pandas as pd
from IPython.display import Image, Markdown, display

from melanoma import figures
from melanoma.config import BioUNetOptions
from melanoma.experiments.found import find_runs
from melanoma.experiments.single import train_command
from melanoma.experiments.tables import write_all

RUNS = Path(os.environ.get("MELANOMA_RUNS", "runs/melanoma"))
if not RUNS.is_dir() or not find_runs(RUNS):
    RUNS = Path("runs/melanoma-notebook")
    small = {"image_size": 64, "epochs": 1, "limit": 60, "indicators": ("pigment_network",)}
    train_command(BioUNetOptions(**small, run_dir=RUNS / "bio_u_net-seed0"))
runs = find_runs(RUNS)
pd.DataFrame([{"run": run.path.name, "row": run.row, "group": run.group, "seed": run.settings["seed"]} for run in runs])

# %% [markdown]
# ## The tables
# Ours beside printed, with interval, number of images and seeds. On drawn lesions the two do not measure the same thing.

# %%
written = write_all(RUNS)
for path in written:
    if path.suffix == ".md":
        display(Markdown(path.read_text(encoding="utf-8")))

# %% [markdown]
# ## Figs. 1 and 3 to 10
# Methods, ablation, repeats and further examples on the same test images, where their runs are there; fig. 6 with the sizes of the built
# layers.

# %%
for path in written:
    if path.suffix == ".png":
        display(Image(filename=str(path)))
for path in sorted({path.parent / "figure_6.png" for path in written}):
    display(Image(filename=str(path)))

# %% [markdown]
# ## One run: each indicator's sheet and the twelve heatmaps

# %%
whole = next((run for run in runs if run.row == "bio_u_net"), runs[0])
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
