"""The printed tables as rows of finished runs: Tables 2 to 4 (scores), 5 (F1 of each class), 1 (split), and fig. 4's sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.metrics.metric import Metric
from common.metrics.statistics import average_deviation
from common.metrics.tail import part_metric
from common.report.tables import MISSING, TableRow, markdown, number, write_table
from common.runs.finished import FoundRun, by_recipe
from lmf import figures, paper
from lmf.data import name_of
from lmf.experiments.sweep import SWEPT, SweepSettings
from lmf.figures import title_of

METRICS = (
    "accuracy", "balanced_accuracy", "mcc", "geometric_mean", "macro_precision", "macro_recall", "macro_f1", "average_precision.macro",
    "head_f1", "middle_f1", "tail_f1",
)  # fmt: skip
PARTS = ("train", "validation", "test")


def rows_of(runs: Sequence[FoundRun]) -> list[TableRow]:
    """One row per recipe, data sets with one network as blocks, losses in the paper's order; printed numbers of Tables 2 to 4.

    Two recipes of one loss on one block (alpha and beta, say) stand as two methods, named by what they differ in.
    """
    rows: dict[tuple[str, str, str], list[TableRow]] = {}
    for seeds in by_recipe(runs).values():
        recipe = seeds[0].recipe
        dataset, network, loss = name_of(recipe), str(recipe.get("backbone", recipe.get("network"))), str(recipe["loss"])
        printed = {} if "retrain" in recipe else paper.printed_scores(dataset, network, loss)
        block = f"{title_of(dataset)} · {network}"
        document = paper.document_of(recipe) if printed else {}
        beside = paper.remedies(recipe)
        rows.setdefault((block, loss, beside), []).append(TableRow(paper.LOSS_TITLES[loss] + beside, block, seeds, printed, document))
    found = []
    for (block, _, _), own in rows.items():
        found += own if len(own) == 1 else [TableRow(_told(row, own), block, row.runs, row.printed, row.document) for row in own]
    order = list(paper.LOSS_TITLES)
    return sorted(found, key=lambda row: (row.block, order.index(str(row.runs[0].recipe["loss"])), row.name))


def _told(row: TableRow, rows: Sequence[TableRow]) -> str:
    from common.runs.finished import differences

    different = differences([each.runs[0].recipe for each in rows])
    place = list(rows).index(row)
    return f"{row.name} ({', '.join(f'{key} {values[place]}' for key, values in different.items())})"


def write_tables(folder: Path, runs: Sequence[FoundRun], against: str | None = None) -> Path:
    """Write the outcome of `tables` (see `common.report.tables.write_table`); returns report.md.

    against: loss that each method is compared with; None: every two methods.
    """
    rows = rows_of(runs)
    first = list({row.block: row for row in reversed(rows) if row.runs[0].recipe["loss"] == against}.values())
    pairs = list(dict.fromkeys((own.name, row.name) for own in first for row in rows if row not in first))
    # The figures sort by loss alone, so by one treatment of the last layer, that of the first run.
    alike = [run for run in runs if run.experiment == "train" and paper.remedies(run.recipe) == paper.remedies(runs[0].recipe)]
    blocks = list(dict.fromkeys(row.block for row in rows))
    text = ["## Table 1: split\n\n" + splits(runs)]
    text += [f"## As Table 5: F1 of each class, {block}\n\n{classwise([row for row in rows if row.block == block])}" for block in blocks]
    return write_table(
        folder,
        f"LMF: {len(runs)} runs",
        rows,
        metrics=METRICS,
        compared=compared(runs),
        pairs=pairs or None,
        ranks=len(blocks) > 1,
        text="\n".join(text),
        notes=["The epoch with the best macro F1 on validation images is tested."],
        figures={"fig1": figures.macro_f1_bars(frame_of(alike)), "fig2": class_figure(alike)},
    )


def compared(runs: Sequence[FoundRun]) -> list[str | Metric]:
    """Macro F1; where all runs are of one problem also F1 of its rarest classes, which the paper's claim is about."""
    counts = {tuple(run.value("class_counts")) for run in runs}
    return ["macro_f1", *(part_metric("tail", each) for each in counts if len(counts) == 1)]


def frame_of(runs: Sequence[FoundRun]) -> pd.DataFrame:
    """One line per run for the figures: dataset, backbone, loss, seed, alpha, beta, macro_f1, validation_macro_f1, differs, synthetic."""
    lines = []
    for run in runs:
        recipe, metrics = run.recipe, run.metrics()
        lines.append(
            {
                "dataset": name_of(recipe),
                "backbone": recipe.get("backbone", recipe.get("network")),
                "loss": recipe["loss"],
                "seed": run.seed,
                "alpha": recipe.get("alpha"),
                "beta": recipe.get("beta"),
                "macro_f1": metrics["macro_f1"],
                "validation_macro_f1": metrics["validation_macro_f1"],
                "differs": bool(paper.differs(recipe)),
                "synthetic": bool(metrics.get("synthetic")),
            }
        )
    return pd.DataFrame(lines)


def class_figure(runs: Sequence[FoundRun]):
    """Fig. 2 of the data sets of these runs."""
    counts = {name_of(run.recipe): run.metrics()["images_per_class"] for run in runs}
    return figures.class_distribution(counts, synthetic=any(run.metrics().get("synthetic") for run in runs))


def splits(runs: Sequence[FoundRun]) -> str:
    """Table 1: images in each part, ours beside the printed; as Markdown."""
    rows = []
    for dataset, run in {name_of(run.recipe): run for run in reversed(runs)}.items():
        counts, printed = run.metrics()["images_per_split"], paper.split_sizes(dataset) or {}
        rows.append([title_of(dataset), *(counts.get(name, 0) for name in PARTS), *(printed.get(name, MISSING) for name in PARTS)])
    return markdown(("", *PARTS, *(f"printed {name}" for name in PARTS)), rows)


def classwise(rows: Sequence[TableRow]) -> str:
    """Table 5: F1 of each class, one column a loss (mean over seeds), the printed one in brackets where the run is the paper's."""
    first = rows[0].runs[0].recipe
    lines = []
    for name, count in zip(first["classes"], first["class_counts"], strict=True):
        line: list[object] = [paper.printed_class(name), count]
        for row in rows:
            recipe = row.runs[0].recipe
            scores = [run.metrics()["per_class"][name]["f1"] for run in row.runs]
            printed = None if paper.differs(recipe) else paper.class_f1(name_of(recipe), str(recipe.get("backbone")), recipe["loss"], name)
            text = number(sum(scores) / len(scores))
            line.append(f"{text} ({number(printed / 100)})" if printed is not None else text)
        lines.append(line)
    return markdown(("class", "train images", *(row.name for row in rows)), lines)


def by_setting(runs: Sequence[FoundRun]) -> pd.DataFrame:
    """LMF runs sorted into the three settings of fig. 4 (`setting`, `value`); a run may stand in several, others are left out."""
    parts = []
    for line in frame_of([run for run in runs if run.recipe.get("loss") == "lmf"]).to_dict("records"):
        alpha, beta = line["alpha"], line["beta"]
        fits = {"equal": (alpha == beta, alpha), "beta": (alpha == 1, beta), "alpha": (beta == 1, alpha)}
        parts += [{"setting": setting, "value": value, **line} for setting, (belongs, value) in fits.items() if belongs]
    return pd.DataFrame(parts)


def write_sweep(folder: Path, runs: Sequence[FoundRun], settings: SweepSettings) -> Path:
    """Write the outcome of `sweep`; returns report.md. The choice looks at validation images only; the test score is what it costs."""
    table = by_setting(runs)
    table = table[table["setting"].isin(settings.settings)]
    lines = []
    for setting, part in table.groupby("setting", sort=False):
        scores = [f"{mean:.4f} ± {off:.4f}" for mean, off in (average_deviation(part[key]) for key in ("validation_macro_f1", "macro_f1"))]
        lines.append((SWEPT[str(setting)], len(part), *scores))
    every = frame_of(runs).groupby(["alpha", "beta"])[["validation_macro_f1", "macro_f1"]].mean()
    alpha, beta = choice = every["validation_macro_f1"].idxmax()
    recipe = runs[0].recipe
    printed = paper.tables()["table_6"].get(name_of(recipe), {}).get(recipe.get("backbone"))
    theirs = f"alpha {printed['alpha']:g}, beta {printed['beta']:g}" if printed else MISSING
    columns = ("setting", "runs", "validation macro F1, mean ± average deviation", "test macro F1, mean ± average deviation")
    text = (
        f"{markdown(columns, lines)}\nBest on validation images: alpha {alpha:g}, beta {beta:g} (macro F1 there "
        f"{number(every.loc[choice, 'validation_macro_f1'])}), which has test macro F1 {number(every.loc[choice, 'macro_f1'])}. "
        f"Table 6 of the paper: {theirs}. The paper does not say on which images it chose.\n"
    )
    rows = [
        TableRow(f"alpha {seeds[0].recipe['alpha']:g}, beta {seeds[0].recipe['beta']:g}", runs=seeds) for seeds in by_recipe(runs).values()
    ]
    synthetic = bool(table["synthetic"].any())
    title = f"LMF: alpha and beta on {title_of(name_of(recipe))}, {recipe.get('backbone')}"
    drawn = {"fig4": figures.alpha_beta_means(table, synthetic=synthetic)}
    metrics = ("validation_macro_f1", "macro_f1")
    return write_table(folder, title, rows, metrics=metrics, compared=None, text=text, figures=drawn)
