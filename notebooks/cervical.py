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
# # Cervical cells: every table and figure
#
# "Explainable Contrastive and Cost-Sensitive Learning for Cervical Cancer Classification" and the authors' thesis, from finished runs.
# Each section calls one command of the study: a run that exists is only shown, one that is missing is made first. As it stands the
# notebook takes drawn cells and one epoch a stage, which shows the procedure and no result. For the real study set
# `CERVICAL_DATA_DIR` to SIPaKMeD's folder (and see the README for the time it takes).

# %%
import os
import sys
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "cervical" / "config.py").is_file())
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # for the processes of the grids

from common.cli import prepare_environment

prepare_environment()

from IPython.display import Image, Markdown, display

from cervical import config
from cervical.figures import run_audit, run_size_analysis
from cervical.grids.depth import run_freeze_depth
from cervical.grids.losses import run_compare_losses
from cervical.grids.tables import run_tables

DATA = os.environ.get("CERVICAL_DATA_DIR")
data = {"dataset": "sipakmed", "data_dir": Path(DATA)} if DATA else {"dataset": "sample"}
small = {} if DATA else {"limit": 50, "image_size": 32, "copies": 1, "epochs": 1}


def show(folder: Path, report: str = "report.md") -> None:
    display(Markdown((folder / report).read_text(encoding="utf-8")))
    for figure in sorted((folder / "figures").glob("*.png")):
        display(Image(filename=str(figure)))


# %% [markdown]
# ## The images: sizes (thesis figure 5.2), cells (figures 4.1 to 4.5), counts and leakage (Tables 4.1, 4.2)

# %%
show(run_size_analysis(config.SizeAnalysisOptions(**data)))

# %%
show(run_audit(config.AuditOptions(**data)), "audit.md")

# %% [markdown]
# ## Three methods and the control (Tables I to IV; thesis 6.1 to 6.4 and 7.1; figures 6.1, 6.2, 6.4)

# %%
tables = run_tables(config.TablesOptions(**data, **small))
show(tables)

# %% [markdown]
# ## Which loss? (thesis figure 6.3)

# %%
show(run_compare_losses(config.CompareLossesOptions(**data, **small, losses=("npairs", "ntxent"))))

# %% [markdown]
# ## How many layers to freeze? (paper III-C.1)

# %%
show(run_freeze_depth(config.FreezeDepthOptions(**data, **small, depths=(0, 100))))

# %% [markdown]
# ## One run in full, and why it decides as it does
#
# `python -m cervical explain RUN` draws Grad-CAM, Grad-CAM++, Score-CAM, LayerCAM and LIME for a finished run (paper figures 3 to 6).

# %%
import pandas as pd

run = Path(pd.read_csv(tables / "cells.csv").query("method == 'contrastive'")["run"].iloc[0])
show(run)

# %%
from common.explanation.options import ExplainOptions
from common.explanation.sheet import explain_command

lime = {} if DATA else {"lime_samples": 50}
explain_command(ExplainOptions(run=tables if DATA else run, **lime))  # of a table: its most accurate run
explained = ExplainOptions(run=tables if DATA else run).run / "explanations"
display(Image(filename=str(explained / "sheet.png")))

# %% [markdown]
# How faithful are these maps? Deletion and insertion curves (RISE), measured on the same images; none of the documents measured this.

# %%
display(Markdown((explained / "faithfulness.md").read_text(encoding="utf-8")))
display(Image(filename=str(explained / "faithfulness.png")))
