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
# Draws the figures of Sadi et al. (2024) from finished runs: those below the folder `LMF_RUNS` where that is set, else those in
# results/lmf, else those in runs/lmf. Where there are none, the notebook makes a few small ones on the drawn sample (below `LMF_RUNS`
# where that is set), which are synthetic and show only that it works.

# %%
import os
import sys
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "lmf" / "config.py").is_file())
PLACES = [Path(os.environ["LMF_RUNS"])] if os.environ.get("LMF_RUNS") else [ROOT / "results" / "lmf", ROOT / "runs" / "lmf" / "train"]
RUNS = next((place for place in PLACES if any(place.rglob("predictions.csv"))), PLACES[-1]).resolve()
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # for the processes of the grids
os.environ.setdefault("REPLICATION_CACHE", str(ROOT / ".cache"))
MISSING = not any(RUNS.rglob("predictions.csv"))
os.chdir(RUNS if os.environ.get("LMF_RUNS") and MISSING else ROOT)  # small runs go below the folder that was given, and nothing else does

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


SWEEP = {"grid": (0.5, 1.0), "settings": ("equal", "beta"), "image_size": 32, "epochs": 1}
if MISSING:
    grids.tables_command(TablesOptions(datasets=("ham10000", "covid_radiography"), losses=("cce", "lmf"), image_size=32, epochs=1))
    grids.sweep_command(SweepOptions(**SWEEP))

# %% [markdown]
# ## What was run

# %%
found = grids.finished_runs(RUNS)
cells = found[~found["swept"]]
display(found[["dataset", "backbone", "loss", "alpha", "beta", "seed", *grids.TRAINED_ALIKE, "accuracy", "macro_f1"]])

# %% [markdown]
# ## Fig. 1: macro F1 of each loss, mean and average deviation; does LMF win?
#
# One figure and one table for each way of training, since scores of different ones do not belong together.

# %%
for setup, part in cells.groupby([*grids.TRAINED_ALIKE], sort=False):
    display(Markdown(f"### {grids.alike(setup)}"))
    show(figures.macro_f1_bars(part))
    display(Markdown(tables.comparisons(tables.pairs(part))))
    display(Markdown(tables.ranking(part)))

# %% [markdown]
# ## Fig. 2: classes

# %%
show(figures.class_distribution(grids.class_counts(cells), synthetic=bool(cells["synthetic"].any())))

# %% [markdown]
# ## Fig. 3: where each loss looks
#
# Grad-CAM needs the models and the images, which are not published: where they are not here, the figures that were committed with the
# runs are shown (`lmf explain` draws them).

# %%
for title, runs in grids.side_by_side(cells):
    explain_command(LossMapsOptions(run=runs[0], beside=tuple(runs[1:])))
    display(Markdown(f"### {title}"), Image(filename=str(runs[0] / "explanations" / "losses.png")))
if not grids.side_by_side(cells):
    committed = sorted(RUNS.rglob("losses.png"))
    for path in committed:
        display(Markdown(f"### {path.relative_to(RUNS).parent}"), Image(filename=str(path)))
    if not committed:
        print(f"no models below {RUNS} and no losses.png: `lmf explain TABLE` makes one")

# %% [markdown]
# ## Fig. 4: alpha and beta
#
# One figure for each data set, network and way of training in which alpha or beta was varied (`lmf sweep`): from the runs, or from the
# sweep.csv of a sweep that was published without them. Where there is no sweep, a small one on the drawn sample shows what it looks like.

# %%
swept = grids.sweeps(found) + grids.published_sweeps(RUNS, found)
if not swept:
    sweep = ROOT / "runs" / "lmf" / "sweep" / "notebook"
    grids.sweep_command(SweepOptions(**SWEEP, run_dir=sweep))
    swept = grids.published_sweeps(sweep, found)
for title, table in swept:
    display(Markdown(f"### {title}"))
    show(figures.alpha_beta_means(table, synthetic=bool(table["synthetic"].any())))
