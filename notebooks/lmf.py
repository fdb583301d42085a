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
# Draws the figures of Sadi et al. (2024) from finished runs. `RUNS` is a folder that holds runs of `lmf train` (also inside `tables` and
# `sweep`); without any, the notebook makes a few small ones on the drawn sample, which are synthetic and show only that it works.

# %%
import os
from pathlib import Path

ROOT = Path.cwd() if (Path.cwd() / "lmf").is_dir() else Path.cwd().parent
os.chdir(ROOT)
RUNS = Path(os.environ.get("LMF_RUNS", "runs/lmf/train"))

from common.cli import prepare_environment  # noqa: E402

prepare_environment()

# %%
from IPython.display import Markdown, display

from lmf import figures, grids, tables
from lmf.explain import explain_command
from lmf.options import LossMapsOptions, SweepOptions, TablesOptions

if not list(RUNS.glob("*/metrics.json")):
    grids.tables_command(TablesOptions(datasets=("ham10000", "covid_radiography"), losses=("cce", "lmf"), image_size=32, epochs=1))
    grids.sweep_command(SweepOptions(grid=(0.5, 1.0), settings=("equal", "beta"), image_size=32, epochs=1))

# %% [markdown]
# ## What was run

# %%
found = grids.finished_runs(RUNS)
cells = found[~found["swept"]]
display(found[["dataset", "backbone", "split", "loss", "alpha", "beta", "seed", "epochs", "accuracy", "macro_f1"]])

# %% [markdown]
# ## Fig. 1: macro F1 of each loss, mean and average deviation

# %%
display(figures.macro_f1_bars(cells))

# %% [markdown]
# ## Does LMF win?

# %%
display(Markdown(tables.comparisons(tables.pairs(cells))))
display(Markdown(tables.ranking(cells)))

# %% [markdown]
# ## Fig. 2: classes

# %%
display(figures.class_distribution(grids.class_counts(cells), synthetic=bool(cells["synthetic"].any())))

# %% [markdown]
# ## Fig. 3: where each loss looks

# %%
import matplotlib.pyplot as plt

for _, part in cells.groupby(["dataset", "backbone", "split", "seed"], sort=False):
    paths = [Path(path) for path in part.drop_duplicates("loss")["run"] if (Path(path) / "model.keras").is_file()]
    if len(paths) > 1:
        explain_command(LossMapsOptions(run=paths[0], beside=tuple(paths[1:])))
        picture = plt.imread(paths[0] / "explanations" / "losses.png")
        axis = plt.figure(figsize=(12, 12 * picture.shape[0] / picture.shape[1])).add_axes((0, 0, 1, 1))
        axis.imshow(picture)
        axis.set_axis_off()
        plt.show()
        break

# %% [markdown]
# ## Fig. 4: alpha and beta

# %%
swept = grids.by_setting(found[found["loss"] == "lmf"])
display(figures.alpha_beta_means(swept, synthetic=bool(swept["synthetic"].any())))
