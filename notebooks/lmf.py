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
# # LMF: figures 1 to 4
#
# Draws the figures of Sadi et al. (2024) from finished runs: those below the folder `LMF_RUNS`, else those in results/lmf, else those in
# runs/lmf. Without any, the notebook makes a few small ones on the drawn sample, which are synthetic and show only that it works.

# %%
import os
import sys
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "lmf" / "config.py").is_file())
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # for the processes of the grids
PLACES = [os.environ.get("LMF_RUNS", "results/lmf"), "results/lmf", "runs/lmf/train"]
RUNS = next((Path(place) for place in PLACES if any(Path(place).rglob("predictions.csv"))), Path("runs/lmf/train"))

from common.cli import prepare_environment

prepare_environment()

# %%
from io import BytesIO

from IPython.display import Image, Markdown, display

from lmf import figures, grids, tables
from lmf.explain import explain_command
from lmf.options import LossMapsOptions, SweepOptions, TablesOptions


def show(figure) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    display(Image(buffer.getvalue()))


if not any(RUNS.rglob("predictions.csv")):
    grids.tables_command(TablesOptions(datasets=("ham10000", "covid_radiography"), losses=("cce", "lmf"), image_size=32, epochs=1))
    grids.sweep_command(SweepOptions(grid=(0.5, 1.0), settings=("equal", "beta"), image_size=32, epochs=1))

# %% [markdown]
# ## What was run

# %%
found = grids.finished_runs(RUNS)
cells = found[~found["swept"]]
SETUP = ["split", "reading", "image_size", "epochs", "weights"]
display(found[["dataset", "backbone", "loss", "alpha", "beta", "seed", *SETUP, "accuracy", "macro_f1"]])

# %% [markdown]
# ## Fig. 1: macro F1 of each loss, mean and average deviation; does LMF win?
#
# One figure and one table for each way of training, since scores of different ones do not belong together.

# %%
for setup, part in cells.groupby(SETUP, sort=False):
    display(Markdown(f"### {', '.join(f'{key} {value}' for key, value in zip(SETUP, setup, strict=True))}"))
    show(figures.macro_f1_bars(part))
    display(Markdown(tables.comparisons(tables.pairs(part))))
    display(Markdown(tables.ranking(part)))

# %% [markdown]
# ## Fig. 2: classes

# %%
show(figures.class_distribution(grids.class_counts(cells), synthetic=bool(cells["synthetic"].any())))

# %% [markdown]
# ## Fig. 3: where each loss looks

# %%
for _, part in cells.groupby(["dataset", "backbone", "seed", *SETUP], sort=False):
    paths = [Path(path) for path in part.drop_duplicates("loss")["run"] if (Path(path) / "model.keras").is_file()]
    if len(paths) > 1 and all((path / "local.json").is_file() for path in paths):
        explain_command(LossMapsOptions(run=paths[0], beside=tuple(paths[1:])))
        display(Image(filename=str(paths[0] / "explanations" / "losses.png")))
        break

# %% [markdown]
# ## Fig. 4: alpha and beta

# %%
swept = grids.by_setting(found[found["loss"] == "lmf"])
if len(swept):
    show(figures.alpha_beta_means(swept, synthetic=bool(swept["synthetic"].any())))
