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
# "Explainable Contrastive and Cost-Sensitive Learning for Cervical Cancer Classification" and the authors' thesis, from finished runs:
# those below the folder `CERVICAL_RUNS` where that is set, else those in results/cervical, else those in runs/cervical. Nothing is trained
# on real cells here. Only where there are no runs at all, the notebook makes a few on drawn cells (below `CERVICAL_RUNS` where set), which
# are synthetic and show only that it works. `CERVICAL_DATA_DIR`, SIPaKMeD's folder, adds what needs the images themselves.

# %%
import os
import sys
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "cervical" / "paper.py").is_file())
GIVEN, DATA = os.environ.get("CERVICAL_RUNS"), os.environ.get("CERVICAL_DATA_DIR")
PLACES = [Path(GIVEN)] if GIVEN else [ROOT / "results" / "cervical", ROOT / "runs" / "cervical"]
RUNS = next((place for place in PLACES if any(place.rglob("predictions.csv"))), PLACES[-1]).resolve()
DATA = {"dataset": "sipakmed", "data_dir": Path(DATA).resolve()} if DATA else {"dataset": "sample"}
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # for the processes of the grids
os.environ.setdefault("REPLICATION_CACHE", str(ROOT / ".cache"))
MISSING = not any(RUNS.rglob("predictions.csv"))
os.chdir(RUNS if GIVEN and MISSING else ROOT)  # small runs go below the folder that was given, and nothing else does

from common.cli import prepare_environment

prepare_environment()

# %%
from io import BytesIO

from IPython.display import Image, Markdown, display

from cervical.audit import run_audit
from cervical.experiments import compare_losses, freeze_depth, tables
from cervical.experiments.audit import AuditSettings
from cervical.experiments.size_analysis import SizeAnalysisSettings
from cervical.figures import loss_curves, run_size_analysis
from cervical.grids import depth, found
from cervical.grids.losses import run_compare_losses
from cervical.grids.tables import run_tables
from common.cli import parse
from common.explanation.options import ExplainOptions
from common.explanation.sheet import explain_command
from common.runs.grid import collect


def show(figure) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    display(Image(buffer.getvalue()))


def show_folder(folder: Path, report: str = "report.md") -> None:
    """A report and its figures; the report's own links to them would lead nowhere from here."""
    lines = (folder / report).read_text(encoding="utf-8").splitlines()
    display(Markdown("\n".join(line for line in lines if not line.startswith("!["))))
    for figure in sorted((folder / "figures").glob("*.png")):
        display(Image(filename=str(figure)))


if MISSING:
    tiny = ["--limit", "50", "--image-size", "32", "--copies", "1", "--epochs", "1"]
    run_tables(parse(tables.COMMAND, tiny))
    run_compare_losses(parse(compare_losses.COMMAND, [*tiny, "--losses", "npairs", "ntxent"]))
    depth.run_freeze_depth(parse(freeze_depth.COMMAND, [*tiny, "--depths", "0", "100"]))

# %% [markdown]
# ## What was run

# %%
runs = found.finished_runs(RUNS)
overview = collect(runs)
display(overview[["method", "backbone", "reading", "depth", "seed", *found.TRAINED_ALIKE, "n", "accuracy", "macro_f1"]])

# %% [markdown]
# ## The images: sizes (thesis figure 5.2), cells (figures 4.1 to 4.5), counts and leakage (Tables 4.1, 4.2)
#
# Of SIPaKMeD where `CERVICAL_DATA_DIR` names it, or where a `size-analysis` was published; else of drawn cells.

# %%
sizes = found.summaries(RUNS, "size-analysis") if DATA["dataset"] == "sample" else []
for folder in sizes or [run_size_analysis(SizeAnalysisSettings(**DATA))]:
    show_folder(folder)

# %%
show_folder(run_audit(AuditSettings(**DATA)), "audit.md")

# %% [markdown]
# ## Three methods and the control (Tables I to IV; thesis 6.1 to 6.4 and 7.1; figures 6.1, 6.2, 6.4)
#
# One set of tables for each way of training, since scores of different ones do not belong together.

# %%
for title, drawn in found.tables_of(runs):
    display(Markdown(f"# {title}"), *map(Markdown, drawn.sections))
    for figure in drawn.figures.values():
        show(figure)

# %% [markdown]
# ## Which loss? (thesis figure 6.3)
#
# The encoder's loss by epoch of every contrastive run, beside the authors' curve where they have one; then what `compare-losses` has found.

# %%
for title, histories, synthetic in found.encoder_histories(runs):
    display(Markdown(f"### {title}"))
    for figure in loss_curves(histories, synthetic).values():
        show(figure)

# %%
compared = found.summaries(RUNS, "compare-losses")
for folder in compared:
    show_folder(folder)
if not compared:
    print(f"no comparison of losses below {RUNS}: `cervical compare-losses` makes one")

# %% [markdown]
# ## How many layers to freeze? (paper III-C.1)
#
# From fine-tuning runs that differ in nothing but the frozen layers and the seed.

# %%
searched = found.depths(runs)
for cells in searched:
    for _, figure, text in depth.draw_depths(collect(cells, depth.COLLECTED)):
        display(Markdown(text))
        show(figure)
if not searched:
    print(f"no two runs below {RUNS} that differ in the frozen layers alone: `cervical freeze-depth` makes them")

# %% [markdown]
# ## One run in full: the most accurate one

# %%
best = Path(overview.loc[overview["accuracy"].idxmax(), "run"])
show_folder(best)

# %% [markdown]
# ## Why it decides as it does (paper figures 3 to 6), and how faithful the maps are
#
# Grad-CAM, Grad-CAM++, Score-CAM, LayerCAM and LIME need a model and its images, which are not published: where they are not here, the
# sheets that were committed with the runs are shown. Deletion and insertion curves (RISE) are measured on the same images; none of the
# documents measured this.

# %%
if (best / "model.keras").is_file() and (best / "local.json").is_file():
    lime = {"lime_samples": 50} if bool(overview["synthetic"].any()) else {}
    explain_command(ExplainOptions(run=best, **lime))
sheets = [best / "explanations"] if (best / "explanations").is_dir() else sorted(path.parent for path in RUNS.rglob("sheet.png"))
for folder in sheets:
    display(Markdown(f"### {folder.relative_to(RUNS)}"), Image(filename=str(folder / "sheet.png")))
    for path in sorted(folder.glob("faithfulness.md")):
        display(Markdown(path.read_text(encoding="utf-8")), Image(filename=str(path.with_suffix(".png"))))
if not sheets:
    print(f"no model below {RUNS} and no sheet.png: `cervical explain RUN` makes one")
