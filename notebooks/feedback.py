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
# # Feedback: curves and maps before and after tuning
#
# Draws figures 5.4 to 5.13 of the thesis and the before/after maps from finished runs of `python -m feedback simulate` and `slices` (also
# inside `tables`), or what is published of them: those below the folder `FEEDBACK_RUNS` where that is set, else those in results/feedback,
# else those in runs/feedback. Where there are none, the notebook makes two small ones on the drawn sample (below `FEEDBACK_RUNS` where that
# is set), which are synthetic and show only that it works.

# %%
import os
from pathlib import Path

ROOT = Path.cwd() if (Path.cwd() / "feedback").is_dir() else Path.cwd().parent
os.chdir(ROOT)
GIVEN = os.environ.get("FEEDBACK_RUNS")
PLACES = [Path(GIVEN)] if GIVEN else [Path("results/feedback"), Path("runs/feedback")]

from common.cli import prepare_environment  # noqa: E402

prepare_environment()

# %%
from dataclasses import replace
from io import BytesIO

from IPython.display import Image, Markdown, display

from common.errors import UsageError
from common.runs.finished import by_recipe, finished_runs, names_by_difference
from feedback import figures, reporting
from feedback.experiments import simulate
from feedback.training.simulate import run_simulate


def show(figure) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    display(Image(buffer.getvalue()))


def runs_below(folder: Path) -> list:
    try:
        return finished_runs(folder, "feedback", experiments=("simulate", "slices"))
    except UsageError:
        return []


RUNS = next((place for place in PLACES if runs_below(place)), PLACES[-1])
if not runs_below(RUNS):
    for objective in ("explanation", "combined"):
        chosen = replace(simulate.default("described", "sample"), objective=objective, epochs=2, limit=60)
        run_simulate(replace(chosen, run_dir=RUNS / "notebook" / objective))

# %% [markdown]
# ## What was run

# %%
runs = runs_below(RUNS)
groups = by_recipe(runs)
names = names_by_difference(groups)
for digest, seeds in groups.items():
    display(Markdown(f"- {names[digest]}; seeds {', '.join(str(run.seed) for run in seeds)}"))

# %% [markdown]
# ## Loss, accuracy and average Jaccard index over the epochs (figures 5.4 to 5.13)
#
# One figure for each method, of its first seed.

# %%
for digest, seeds in groups.items():
    history = seeds[0].history()
    if "val_jaccard" in history:
        history = history[history["stage"] != "adaptation"]
        show(figures.learning_curves({names[digest]: history}, synthetic=bool(seeds[0].config.get("synthetic"))))

# %% [markdown]
# ## Before and after

# %%
for run in runs:
    metrics = run.metrics()
    if "change" in metrics and "base" in metrics:  # runs of before the adapted base name none
        display(Markdown(f"### {names[run.digest]}, seed {run.seed}"))
        display(Markdown(reporting.simulation_section(metrics)))

# %% [markdown]
# Of each run the same rule chooses the images: spread over the change of the Jaccard index, from the largest loss to the largest gain.

# %%
for run in runs:
    drawn = run.path / "figures" / "before_after.png"
    if run.number is None and drawn.is_file():
        display(Image(str(drawn)))
