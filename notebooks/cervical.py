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


def has_runs(place: Path) -> bool:
    return any(any(place.rglob(name)) for name in ("predictions.csv", "runs.json.xz"))


RUNS = next((place for place in PLACES if has_runs(place)), PLACES[-1]).resolve()
DATA = {"dataset": "sipakmed", "data_dir": Path(DATA).resolve()} if DATA else {"dataset": "sample"}
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # for the processes of the grids
os.environ.setdefault("REPLICATION_CACHE", str(ROOT / ".cache"))
MISSING = not has_runs(RUNS)
os.chdir(RUNS if GIVEN and MISSING else ROOT)  # small runs go below the folder that was given, and nothing else does

from common.cli import prepare_environment

prepare_environment()

# %%
import tempfile

from IPython.display import Image, Markdown, display

from cervical.audit import run_audit
from cervical.experiments import compare_losses, freeze_depth, tables
from cervical.experiments.audit import AuditSettings
from cervical.experiments.size_analysis import SizeAnalysisSettings
from cervical.figures import loss_curves, run_size_analysis
from cervical.sections import accuracy_figures, class_tables, depth_curve, depth_text, histories, previous_text, settings_text
from cervical.tables import pairs_of, run_compare_losses, run_freeze_depth, run_tables, situations
from common.cli import parse
from common.explanation.options import ExplainOptions
from common.explanation.sheet import explain_command
from common.report.tables import write_table
from common.runs.finished import by_recipe, finished_runs, names_by_difference

WRITTEN = Path(tempfile.mkdtemp())


def show_folder(folder: Path, report: str = "report.md") -> None:
    """A report and its figures; the report's own links to them would lead nowhere from here."""
    lines = (folder / report).read_text(encoding="utf-8").splitlines()
    display(Markdown("\n".join(line for line in lines if not line.startswith("!["))))
    for figure in sorted([*folder.glob("*.png"), *(folder / "figures").glob("*.png")]):
        display(Image(filename=str(figure)))


if MISSING:
    tiny = ["--limit", "50", "--image-size", "32", "--copies", "1", "--epochs", "1"]
    run_tables(parse(tables.COMMAND, tiny))
    run_compare_losses(parse(compare_losses.COMMAND, [*tiny, "--losses", "npairs", "ntxent"]))
    run_freeze_depth(parse(freeze_depth.COMMAND, [*tiny, "--depths", "0", "100"]))

# %% [markdown]
# ## What was run
#
# A run is a recipe and a seed; each line is one recipe, named by what tells it from the others.

# %%
runs = finished_runs(RUNS, "cervical")
recipes = by_recipe(runs)
for digest, name in names_by_difference(recipes).items():
    scores = ", ".join(f"seed {run.seed}: {run.metrics()['accuracy']:.4f}" for run in recipes[digest])
    display(Markdown(f"- {name}: {scores}"))

# %% [markdown]
# ## The images: sizes (thesis figure 5.2), cells (figures 4.1 to 4.5), counts and leakage (Tables 4.1, 4.2)
#
# Of SIPaKMeD where `CERVICAL_DATA_DIR` names it; else of drawn cells.

# %%
show_folder(run_size_analysis(SizeAnalysisSettings(**DATA, run_dir=WRITTEN / "sizes")))

# %%
show_folder(run_audit(AuditSettings(**DATA, run_dir=WRITTEN / "audit")), "audit.md")

# %% [markdown]
# ## Three methods and the control (Tables I to IV; thesis 6.1 to 6.4 and 7.1; figures 6.1, 6.2, 6.4)
#
# One table for each way of training, since scores on other images do not belong together; methods are compared by the one comparison.

# %%
shown = situations(runs)
for number, (title, rows) in enumerate(shown.items()):
    text = "\n".join([class_tables(rows), previous_text(rows), settings_text(rows)])
    folder = WRITTEN / f"table{number}"
    write_table(folder, title, rows, pairs=pairs_of(rows), text=text, figures=accuracy_figures(rows))
    show_folder(folder)

# %% [markdown]
# ## Which loss? (thesis figure 6.3)
#
# The encoder's loss by epoch of every contrastive run, beside the authors' curve where they have one. Values of different losses cannot be
# compared; the accuracies above can.

# %%
for title, rows in shown.items():
    for backbone in dict.fromkeys(run.value("backbone") for row in rows for run in row.runs):
        found = histories(rows, backbone)
        if found:
            display(Markdown(f"### {backbone}: {title}"), loss_curves(found))

# %% [markdown]
# ## How many layers to freeze? (paper III-C.1)
#
# From fine-tuning runs in one table that differ in the frozen layers.

# %%
for title, rows in shown.items():
    for backbone in dict.fromkeys(run.value("backbone") for row in rows for run in row.runs):
        tuned = [row for row in rows if row.runs[0].experiment == "finetune" and row.runs[0].value("backbone") == backbone]
        if len({row.runs[0].value("freeze") for row in tuned}) > 1:
            display(Markdown(f"### {title}\n\n{depth_text(tuned)}"), depth_curve(tuned, backbone))

# %% [markdown]
# ## Why it decides as it does (paper figures 3 to 6), and how faithful the maps are
#
# Grad-CAM, Grad-CAM++, Score-CAM, LayerCAM and LIME need a model and its images, which are not published: where they are not here, the
# sheets that were committed are shown. Deletion and insertion curves (RISE) are measured on the same images; none of the documents measured
# this.

# %%
best = max((run for run in runs if run.number is None), key=lambda run: run.metrics()["accuracy"], default=None)
if best is not None and (best.path / "model.keras").is_file() and (best.path / "local.json").is_file():
    lime = {"lime_samples": 50} if best.metrics().get("synthetic") else {}
    explain_command(ExplainOptions(run=best.path, **lime))
for folder in sorted(path.parent for path in RUNS.rglob("sheet.*")):
    display(Markdown(f"### {folder.relative_to(RUNS)}"), Image(filename=str(next(folder.glob("sheet.*")))))
    for path in sorted(folder.glob("faithfulness.md")):
        display(Markdown(path.read_text(encoding="utf-8")))
