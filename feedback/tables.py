"""Tables 5.1 to 5.4 as rows of finished runs: which runs make a row, what is printed there, and what this study shows besides."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.metrics.statistics import mean_and_deviation
from common.report.tables import MISSING, TableRow, interval_text, markdown, number, write_table
from common.runs.finished import FoundRun, by_recipe
from feedback import faithfulness, figures, paper, reporting
from feedback.experiments.simulate import stored

METRICS = ("accuracy", "balanced_accuracy", "auc.macro", "jaccard")
START = "before the feedback"
# The printed run of every cell, under the names of a recipe.
DOCUMENT = {
    "dataset": "isic2018", "limit": None, "backbone": "vgg16", "image_size": 227, "split": "paper", "base_dataset": "isic2019",
    **paper.METHOD,
}  # fmt: skip


def write_tables(folder: Path, runs: Sequence[FoundRun]) -> list[Path]:
    """One folder for each of Tables 5.1 to 5.4 that has runs, the methods compared by balanced accuracy and AUC, and beside it one with
    `-regions`, compared by the Jaccard index of each test image. Returns the reports."""
    written = []
    for table, members in by_table(runs).items():
        rows = rows_of(members, table)
        learned = [run for row in rows for run in row.runs]
        repeated = any(len({run.value("split_seed") for run in row.runs}) > 1 for row in rows)
        title = f"{paper.table_title(table) if table != 'slices' else 'Table 5.4'}: {TITLES[table]}"
        trivial = "## Maps that look at no image\n\n" + reporting.trivial_table(learned[0].metrics())
        text = [
            "## Change by the feedback\n\n" + change_table(rows), faithfulness_table(rows),
            trivial, "## Time (section 5.10)\n\n" + minutes_table(rows, table),
        ]  # fmt: skip
        notes = reporting.leakage_notes(learned[0].config, learned[0].metrics())[:2]
        baseline = next((row.name for row in rows if row.name == START), None)
        curves = {row.name: run.history() for row in rows for run in row.runs[:1] if "val_jaccard" in run.history()}
        drawn = {"curves": figures.learning_curves(curves, synthetic=bool(learned[0].config.get("synthetic")))} if curves else {}
        written.append(write_table(
            folder / NAMES[table], title, rows, metrics=METRICS, compared=("balanced_accuracy", "auc.macro"), baseline=baseline,
            repeated_splits=repeated, text="\n".join(part for part in text if part), notes=notes, figures=drawn,
        ))  # fmt: skip
        regions = [TableRow(row.name, row.block, row.runs, row.printed, row.document, jaccard_scores) for row in rows]
        regions = [row for row in regions if row.runs]
        written.append(write_table(
            folder / f"{NAMES[table]}-regions", f"{title}, regions", regions, metrics=("jaccard",), compared="jaccard", baseline=baseline,
            repeated_splits=repeated, text=trivial, notes=notes,
        ))  # fmt: skip
    return written


NAMES = {"none": "table-5-1", "reduced": "table-5-2", "upsampled": "table-5-3", "slices": "table-5-4"}
TITLES = {**reporting.BALANCE_TITLES, "slices": "slices of up-sampled data"}


def by_table(runs: Sequence[FoundRun]) -> dict[str, list[FoundRun]]:
    """Balance, or "slices" -> its runs. Balanced batches, and a base that was only adapted, are of the unbalanced data."""
    found: dict[str, list[FoundRun]] = {}
    for run in runs:
        balance = str(run.value("balance"))
        found.setdefault("slices" if run.experiment == "slices" else "none" if balance == "batches" else balance, []).append(run)
    return found


def rows_of(runs: Sequence[FoundRun], table: str) -> list[TableRow]:
    """One row per recipe, repeated splits in one, the model before the feedback first; printed numbers of the cells that the thesis has."""
    rows: list[TableRow] = []
    repeated: dict[str, list[FoundRun]] = defaultdict(list)
    for same in by_recipe(runs).values():
        repeated[json.dumps({**same[0].recipe, "split_seed": None}, sort_keys=True, default=str)] += same
    for seeds in repeated.values():
        name, settings = method(seeds[0]), stored(seeds[0].config["settings"])
        cells = reporting.printed_cells(settings, table)
        printed = {ours: cell for ours, cell in cells.items() if ours in METRICS}
        # An option that does nothing under this objective (no channel weights without an explanation) stands in no recipe.
        document = {key: value for key, value in DOCUMENT.items() if key not in paper.METHOD or key in seeds[0].recipe}
        rows.append(TableRow(name, "", seeds, printed, document if printed else {}))
    order = [START, *(f"{name}" for name in paper.OBJECTIVES), "combined, lambda 0.3"]
    return sorted(rows, key=lambda row: (order.index(row.name) if row.name in order else len(order), row.name))


def method(run: FoundRun) -> str:
    """A run's row title: its objective, and the kind of channel weights where that acts and is not the thesis's."""
    settings = stored(run.config["settings"])
    if not settings.epochs:
        return START
    different = settings.channel_weights == "differentiated" and settings.objective != "classification"
    return reporting.method_title(settings) + (", differentiated" if different and settings.gradient_scaling == "sum" else "")


def jaccard_scores(run: FoundRun) -> pd.DataFrame:
    """Jaccard index of the map of the predicted class, of each marked test image."""
    table = run.table("jaccard.csv", dtype={"image": str, "group": str}).dropna(subset=["jaccard_after"])
    return table.rename(columns={"jaccard_after": "score"})[["image", "score", "group"]]


def change_table(rows: Sequence[TableRow]) -> str:
    """After minus before on the same test images, each seed with its paired interval over lesions."""
    lines: list[list[Any]] = []
    for row in rows:
        for run in row.runs if row.name != START else ():
            change = run.metrics()["change"]
            for name, said in reporting.MEASURES.items():
                if name in change:
                    gap = change[name]
                    lines.append([row.name, run.seed, said, number(gap["value"], sign=True), interval_text(gap["interval"])])
    return markdown(("method", "seed", "", "change", "95 % interval"), lines, left=3) if lines else ""


def faithfulness_table(rows: Sequence[TableRow]) -> str:
    """Deletion and insertion before and after the feedback against a random map; "" where no run measured them (--faithfulness)."""
    lines = []
    for row in rows:
        for run in row.runs:
            found: Any = run.metrics().get("faithfulness")
            for name in ("deletion_minus_random", "insertion_minus_random") if found else ():
                sides = reporting.faithful_cells(found, name)
                lines.append([row.name, run.seed, faithfulness.ROWS[name], *sides, found["after"]["images"]])
    if not lines:
        return ""
    header = ("method", "seed", "", "before", "after", "images")
    return f"## Faithfulness of the maps\n\n{faithfulness.READING}\n" + markdown(header, lines, left=3)


def minutes(history: pd.DataFrame, unit: str) -> float:
    """Median over the epochs or slices after the first, which compiles the step as well; the one where there is only one.

    The median, because a process that resumes compiles again in the middle. Validation at the epoch's end is included. history: with
    stage and seconds; the adaptation counts where nothing else was trained.
    """
    tuned = history[history["stage"] != "adaptation"]
    tuned = tuned if len(tuned) else history
    seconds = tuned.groupby("stage", sort=False)["seconds"].sum() if unit == "slice" else tuned["seconds"]
    return float((seconds.iloc[1:] if len(seconds) > 1 else seconds).median() / 60)


def minutes_table(rows: Sequence[TableRow], table: str) -> str:
    """Minutes of an epoch or a slice beside the thesis's; machines, networks and sizes differ, so no difference is taken."""
    unit, lines = "slice" if table == "slices" else "epoch", []
    for row in rows:
        metrics = [run.metrics() for run in row.runs]
        count = metrics[0]["images_per_slice"] if unit == "slice" else sum(metrics[0]["training_images"].values())
        mean, _ = mean_and_deviation([minutes(run.history(), unit) for run in row.runs])
        printed = paper.minutes(stored(row.runs[0].config["settings"]).objective, unit) if row.name != START else MISSING
        lines.append([row.name, unit, count, f"{mean:.2f}", len(row.runs), printed])
    header = ("method", "of one", "training images", "minutes, ours", "seeds", "minutes, thesis (GTX Titan, 4600 images or 230)")
    return markdown(header, lines) + "\nOurs: the median of the epochs (slices) after the first, which compiles the step as well.\n"
