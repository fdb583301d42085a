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
import os
import sys
import tempfile
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "melanoma" / "paper.py").is_file())
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))

from common.cli import parse, prepare_environment

prepare_environment()

import pandas as pd
from IPython.display import Image, Markdown, display

from melanoma.experiments import ablation, baselines, repeats
from melanoma.tables import write_all
from melanoma.training.grids import grid_command

GIVEN = os.environ.get("MELANOMA_RUNS")
PLACES = [Path(GIVEN)] if GIVEN else [ROOT / "results" / "melanoma", ROOT / "runs" / "melanoma"]


def has_runs(place: Path) -> bool:
    return any(any(place.rglob(name)) for name in ("finished.json", "table.csv"))


RUNS = next((place for place in PLACES if has_runs(place)), None)
if RUNS is None:
    RUNS = PLACES[0] if GIVEN else ROOT / "runs" / "melanoma-notebook"
    small = ["--image-size", "64", "--epochs", "1", "--limit", "60", "--indicators", "pigment_network", "--run-dir", str(RUNS)]
    # As few runs as figs. 1 and 3 to 5 can be drawn from; what two tables share is trained once.
    grid_command(parse(ablation.COMMAND, [*small, "--encoders", "plain", "--rows", "f_res", "bio_u_net"]))
    grid_command(parse(repeats.COMMAND, [*small, "--rows", "2"]))
    grid_command(parse(baselines.COMMAND, [*small, "--rows", "cams", "--lime-samples", "30", "--lime-images", "1"]))

# %% [markdown]
# ## The tables
# Ours beside printed where the problem is the paper's, every question compared once. Published tables are shown as they were committed;
# those of run folders are made anew, in a temporary folder.

# %%
PUBLISHED = sorted(path.parent for path in RUNS.rglob("report.md") if path.with_name("table.csv").is_file() and "tables" not in path.parts)
FOLDERS = PUBLISHED
if not PUBLISHED:
    FOLDERS = sorted({path.parent for path in write_all(RUNS, Path(tempfile.mkdtemp(prefix="melanoma-tables-")))})
for folder in FOLDERS:
    if (folder / "report.md").is_file():
        # The report's own links to its figures would lead nowhere from here.
        lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
        display(Markdown("\n".join(line for line in lines if not line.startswith("!["))))

# %% [markdown]
# ## Figs. 1 and 3 to 10
# Methods, ablation, repeats and further examples on the same test images, where their runs are there; fig. 6 with the sizes of the built
# layers. Published runs hold no images: of them those figures are shown that were committed with their tables.

# %%
for folder in FOLDERS:
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]):
        display(Markdown(f"### {path.stem.replace('_', ' ')}"), Image(filename=str(path)))

# %% [markdown]
# ## One run: each indicator's sheet and the twelve heatmaps

# %%
for path in sorted(RUNS.rglob("figures/*.png")):
    if path.stem.startswith(("sheet", "heatmaps", "thresholds", "simclr")) and "seed0" in path.parent.parent.name:
        display(Markdown(f"### {path.parent.parent.name}: {path.stem.replace('_', ' ')}"), Image(filename=str(path)))

# %% [markdown]
# ## Every run

# %%
pd.DataFrame([{"run": path.parent.name} for path in sorted(RUNS.rglob("finished.json"))])
