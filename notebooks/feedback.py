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
# Draws figures 5.4 to 5.15 of the thesis and the before/after maps from finished runs of `python -m feedback simulate` and `slices` (also
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
from IPython.display import Image, Markdown, display

from feedback import figures, finished, reporting
from feedback.config import SimulateOptions
from feedback.training.simulate import run_simulate

RUNS = next((place for place in PLACES if finished.simulations(place)), PLACES[-1])
if not finished.simulations(RUNS):
    for objective in ("explanation", "combined"):
        run_simulate(SimulateOptions(objective=objective, epochs=2, limit=60, run_dir=RUNS / "notebook" / objective))

# %% [markdown]
# ## What was run

# %%
runs = finished.simulations(RUNS)
table = finished.table(runs)
display(table)

# %% [markdown]
# ## Loss, accuracy and average Jaccard index over the epochs (figures 5.4 to 5.13)

# %%
for balance, part in table.groupby("balance", sort=False):
    display(Markdown(f"### {reporting.balance_title(balance)} (mean over the seeds {', '.join(map(str, sorted(set(part['seed']))))})"))
    display(figures.learning_curves(finished.histories(part), synthetic=bool(part["synthetic"].any())))

# %% [markdown]
# ## Slices (figures 5.14 and 5.15)

# %%
slices, synthetic = finished.slices(RUNS)
if slices:
    display(figures.slice_curves(slices, synthetic=synthetic))
else:
    display(Markdown("No run of `slices` here."))

# %% [markdown]
# ## Before and after
#
# Of each run the same rule chooses the images: spread over the change of the Jaccard index, from the largest loss to the largest gain.

# %%
for row in table.itertuples():
    display(Markdown(f"### {row.objective}, {reporting.balance_title(row.balance)}, seed {row.seed}"))
    display(Markdown(reporting.simulation_section(finished.metrics(Path(row.run)))))
    drawn = Path(row.run) / "figures" / "before_after.png"
    display(Image(str(drawn)) if drawn.is_file() else Markdown(f"{drawn.name} is not in {row.run}."))
