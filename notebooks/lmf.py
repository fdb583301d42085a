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

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "lmf" / "paper.py").is_file())
GIVEN = os.environ.get("LMF_RUNS")
PLACES = [Path(GIVEN)] if GIVEN else [ROOT / "results" / "lmf", ROOT / "runs" / "lmf"]


def has_runs(place: Path) -> bool:
    return any(any(place.rglob(name)) for name in ("predictions.csv", "runs.json.xz"))


RUNS = next((place for place in PLACES if has_runs(place)), PLACES[-1]).resolve()
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # for the processes of the grids
os.environ.setdefault("REPLICATION_CACHE", str(ROOT / ".cache"))
MISSING = not has_runs(RUNS)
os.chdir(RUNS if GIVEN and MISSING else ROOT)  # small runs go below the folder that was given, and nothing else does

from common.cli import prepare_environment

prepare_environment()

# %%
import tempfile
from io import BytesIO

from IPython.display import Image, Markdown, display

from common.cli import parse
from common.metrics.statistics import average_deviation
from common.report.tables import write_table
from common.runs.finished import by_recipe, finished_runs, names_by_difference
from lmf import figures, paper
from lmf.experiments import sweep, tables
from lmf.tables import by_setting, class_figure, classwise, frame_of, rows_of, splits
from lmf.training.grids import run_sweep, run_tables

if MISSING:
    tiny = ["--image-size", "32", "--epochs", "1"]
    run_tables(parse(tables.COMMAND, [*tiny, "--datasets", "ham10000", "covid_radiography", "--losses", "cce", "lmf"]))
    run_sweep(parse(sweep.COMMAND, [*tiny, "--grid", "0.5", "1", "--settings", "equal", "beta"]))
WRITTEN = Path(tempfile.mkdtemp())


def show(figure) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    display(Image(buffer.getvalue()))


# %% [markdown]
# ## What was run
#
# A run is a recipe and a seed; each line is one recipe, named by what tells it from the others.

# %%
runs = finished_runs(RUNS, "lmf", experiments=("train",))
recipes = by_recipe(runs)
for digest, name in names_by_difference(recipes).items():
    scores = ", ".join(f"seed {run.seed}: {run.metrics()['macro_f1']:.4f}" for run in recipes[digest])
    display(Markdown(f"- {name}: macro F1 {scores}"))

# %% [markdown]
# ## Tables 1 to 5 and fig. 1: scores of each loss; does LMF win?
#
# One table for each way of training, since scores of different ones do not belong together. The losses meet in the one comparison: with the
# noise of test groups and of training, corrected by Holm; one seed gives no verdict, and ranks are claimed only where they could differ.

# %%
DATA_OR_METHOD = ("dataset", "sample", "loss", "alpha", "beta", "gamma", "max_margin", "classes", "class_counts", "backbone", "network")


def situation(run) -> str:
    """Everything but data set, network and loss, as text."""
    return str(sorted((key, str(value)) for key, value in run.recipe.items() if key not in DATA_OR_METHOD))


def title_of(run) -> str:
    return f"{run.value('split')} split, {run.value('image_size')} px, {run.value('epochs')} epochs, reading {run.value('reading')}"


for number, key in enumerate(dict.fromkeys(situation(run) for run in runs)):
    part = [run for run in runs if situation(run) == key]
    plain = [run for run in part if run.value("loss") != "lmf" or (run.value("alpha"), run.value("beta")) == (1, 1)]
    if len({run.value("loss") for run in plain}) < 2:
        continue
    folder, rows = WRITTEN / f"table{number}", rows_of(plain)
    text = "\n".join(
        f"## F1 of each class\n\n{classwise([row for row in rows if row.block == block])}" for block in {row.block: 0 for row in rows}
    )
    write_table(folder, title_of(part[0]), rows, baseline=paper.LOSS_TITLES["lmf"], ranks=True, text=text)
    display(Markdown((folder / "report.md").read_text(encoding="utf-8")))
    show(figures.macro_f1_bars(frame_of(plain)))

# %% [markdown]
# ## Table 1 and fig. 2: split and classes

# %%
display(Markdown(splits(runs)))
show(class_figure(runs))

# %% [markdown]
# ## Fig. 3: where each loss looks
#
# Grad-CAM needs the models and the images, which are not published: `lmf explain RUN --beside RUN` draws them. What was drawn is shown.

# %%
drawn = sorted(RUNS.rglob("losses.png"))
for path in drawn:
    display(Markdown(f"### {path.relative_to(RUNS).parent}"), Image(filename=str(path)))
if not drawn:
    print(f"no losses.png below {RUNS}: `lmf explain RUN --beside RUN` makes one")

# %% [markdown]
# ## Fig. 4: alpha and beta
#
# One figure for each data set and way of training in which alpha or beta was varied (`lmf sweep`), from its runs; a sweep that was
# published without them shows its figure.

# %%
swept = [run for run in runs if run.value("loss") == "lmf"]
for key in dict.fromkeys((run.value("dataset"), run.value("sample"), situation(run)) for run in swept):
    part = [run for run in swept if (run.value("dataset"), run.value("sample"), situation(run)) == key]
    if len({(run.value("alpha"), run.value("beta")) for run in part}) > 1:
        table = by_setting(part)
        display(Markdown(f"### {key[0]}, {title_of(part[0])}"))
        show(figures.alpha_beta_means(table, synthetic=bool(table["synthetic"].any())))
        display(table.groupby("setting")["macro_f1"].agg(lambda values: "{:.4f} ± {:.4f}".format(*average_deviation(values))))
for path in sorted(RUNS.rglob("fig4.png")):
    display(Markdown(f"### {path.relative_to(RUNS).parent}"), Image(filename=str(path)))
