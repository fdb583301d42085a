"""The grid commands: `tables` (Tables 1 to 5, figs. 1 and 2) and `sweep` (fig. 4). Each runs what is missing, then writes its summary."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from common.errors import UsageError
from common.metrics.classification import average_deviation
from common.report.plots import critical_difference, save
from common.report.report import SYNTHETIC
from common.report.tables import MISSING, markdown, number
from common.runs import Run
from common.runs.folder import check_weights_file
from common.runs.grid import GridCell, collect, run_grid
from common.runs.reading import RunFolder
from lmf import figures, paper, tables
from lmf.config import TrainLossOptions, initial_weights, settings_of
from lmf.options import SWEPT, SweepOptions, TablesOptions, arguments_of
from lmf.training import default_run_dir

log = logging.getLogger(__name__)
# Scores of runs that differ in one of these do not belong in one figure or comparison.
TRAINED_ALIKE = ("split", "reading", "image_size", "epochs", "weights")
COLLECTED = (*tables.METRICS.values(), "validation_macro_f1", "selected_epoch")


def grid_cell(options: TrainLossOptions) -> GridCell:
    """One training run as a cell; `tables` and `sweep` share the run folders of `train`."""
    settings = settings_of(options)
    labels = {"dataset": settings.dataset, "backbone": settings.backbone, "loss": settings.loss, "seed": settings.seed}
    if settings.loss == "lmf":
        labels |= {"alpha": settings.alpha, "beta": settings.beta}
    return GridCell("lmf", "train", arguments_of(options), default_run_dir(options), labels)


def tables_command(options: TablesOptions) -> None:
    """`lmf tables`."""
    _run_summary("tables", options, write_tables)


def sweep_command(options: SweepOptions) -> None:
    """`lmf sweep`."""
    _run_summary("sweep", options, lambda run, table: write_sweep(run, table, options))


def _run_summary(name: str, options: TablesOptions | SweepOptions, write: Callable[[Run, pd.DataFrame], None]) -> None:
    """Run the cells that are missing, write the summary of those that are there, and only then report failures."""
    wanted = options.cells()
    run = open_summary(name, wanted, options.run_dir)
    cells = [grid_cell(each) for each in wanted]
    for each, cell in zip(wanted, cells, strict=True):
        if cell.finished:
            # A finished cell is not opened again, so nobody else would see that it began with other weights of the same file name.
            check_weights_file(cell.run_dir, initial_weights(each))
    if run.finished:
        return
    outcome = run_grid(cells)
    table = collect(cells, COLLECTED)
    if (table["n"] > 0).any():
        write(run, table)
    if not outcome.failed:
        run.finish()
    outcome.check()


def open_summary(command: str, wanted: Sequence[TrainLossOptions], run_dir: Path | None) -> Run:
    """The folder of the summary: known by the cells it stands for."""
    settings = [settings_of(each).as_dict() for each in wanted]
    first = settings[0]
    top = {key: first[key] for key in ("reading", "split", "synthetic", "image_size", "epochs")}
    names = list(dict.fromkeys(each["dataset"] for each in settings))
    return Run.open(
        "lmf",
        command,
        {**top, "dataset": names[0] if len(names) == 1 else names, "cells": [grid_cell(each).run_dir.name for each in wanted]},
        run_dir=run_dir,
        name_parts=(names[0] if len(names) == 1 else f"{len(names)}sets", first["split"], first["reading"]),
    )


def write_tables(run: Run, cells: pd.DataFrame) -> None:
    """cells.csv, comparisons.csv, report.md and the figures of `tables`, from the finished cells."""
    run.write_csv("cells.csv", cells)
    done = cells[cells["n"] > 0]
    found = tables.pairs(cells)
    if found:
        run.write_csv("comparisons.csv", tables.comparisons_table(found))
    backbones = list(dict.fromkeys(done["backbone"]))
    parts = [f"# LMF: {len(done)} of {len(cells)} runs\n"]
    if bool(done["synthetic"].any()):
        parts.append(SYNTHETIC)
    parts.append(setting_sentence(run, done))
    heading = "Does LMF win?" if (done["loss"] == "lmf").any() else "Losses against each other"
    parts.append(f"## {heading}\n\n{tables.comparisons(found)}")
    parts.append("## Ranks over data sets\n\n" + tables.ranking(done))
    parts.append("## Table 1: split\n\n" + tables.splits(done))
    for backbone in backbones:
        title = f"Table {paper.SCORE_TABLES[backbone][-1]}" if backbone in paper.SCORE_TABLES else "As Tables 2 to 4"
        parts.append(f"## {title}: {backbone}\n\n{tables.scores(done, backbone)}")
    for backbone in backbones:
        for dataset in dict.fromkeys(done.loc[done["backbone"] == backbone, "dataset"]):
            title = "Table 5" if backbone == "efficientnetv2s" else "As Table 5"
            heading = f"## {title}: F1 of each class, {figures.title_of(dataset)}, {backbone}"
            parts.append(f"{heading}\n\nMean over seeds; printed numbers in brackets.\n\n{tables.classwise(done, dataset, backbone)}")
    missing = cells[cells["n"] == 0]
    if len(missing):
        names = [" ".join(str(row[key]) for key in ("dataset", "backbone", "loss", "seed")) for _, row in missing.iterrows()]
        parts.append("## Not run\n\n" + "".join(f"- {name}\n" for name in names))
    parts.append("## Figures\n\n" + "".join(f"![{path.stem}](figures/{path.name})\n\n" for path in draw_tables(run.path, done)))
    run.write_text("report.md", "\n".join(parts))
    print(run.path / "report.md")


def draw_tables(folder: Path, done: pd.DataFrame) -> list[Path]:
    """figures/fig1.png and fig2.png, and the critical differences where there are ranks."""
    synthetic, place = bool(done["synthetic"].any()), folder / "figures"
    paths = [save(figures.macro_f1_bars(done), place / "fig1.png")]
    paths.append(save(figures.class_distribution(class_counts(done), synthetic=synthetic), place / "fig2.png"))
    found = tables.ranks(done)
    if found is not None:
        losses, result, datasets = found
        names = [paper.LOSS_TITLES[loss] for loss in losses]
        title = f"Ranks by macro F1 over {len(datasets)} data sets"
        drawn = critical_difference(names, result.ranks, result.critical_difference, title, synthetic=synthetic)
        paths.append(save(drawn, place / "ranks.png"))
    return paths


def class_counts(cells: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Data set -> class -> images in all, as the runs wrote them down."""
    first = cells.drop_duplicates("dataset")
    return {
        str(dataset): RunFolder(Path(run)).read_json("metrics.json")["images_per_class"]
        for dataset, run in zip(first["dataset"], first["run"], strict=True)
    }


def finished_runs(folder: Path) -> pd.DataFrame:
    """Every run of `lmf train` below `folder` that has metrics, as `collect` lists cells, with what they were run with.

    Further columns: `split`, `reading`, `image_size`, `epochs`, `weights`, and `swept`: LMF with other alpha and beta than Table 6's.
    UsageError when there is none.
    """
    cells, facts = [], []
    for path in sorted(folder.rglob("metrics.json")):
        run = RunFolder(path.parent)
        config = run.read_json("config.json") if run.has("config.json") else {}
        if config.get("study") != "lmf" or config.get("experiment") != "train":
            continue
        settings = config["settings"]
        labels = {key: settings[key] for key in ("dataset", "backbone", "loss", "seed", "alpha", "beta")}
        cells.append(GridCell("lmf", "train", (), path.parent, labels))
        other = (settings["alpha"], settings["beta"]) != paper.alpha_beta(settings["dataset"], settings["backbone"])
        facts.append(
            {
                **{key: settings[key] for key in TRAINED_ALIKE},
                "swept": settings["loss"] == "lmf" and other,
            }
        )
    if not cells:
        raise UsageError(f"{folder}: no finished run of lmf train below it")
    return pd.concat([collect(cells, COLLECTED), pd.DataFrame(facts)], axis=1)


def by_setting(runs: pd.DataFrame) -> pd.DataFrame:
    """LMF runs sorted into the three settings of fig. 4 (`setting`, `value`); a run may stand in several, others are left out."""
    parts = []
    for _, row in runs[runs["loss"] == "lmf"].iterrows():
        alpha, beta = row["alpha"], row["beta"]
        fits = {"equal": (alpha == beta, alpha), "beta": (alpha == 1, beta), "alpha": (beta == 1, alpha)}
        parts += [{"setting": setting, "value": value, **row.to_dict()} for setting, (belongs, value) in fits.items() if belongs]
    return pd.DataFrame(parts)


def sweeps(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Fig. 4's tables among finished runs (`finished_runs`): (title, rows as from `by_setting`) of each data set, backbone and way of
    training in which alpha or beta was really varied; settings of a single value are left out.
    """
    found = []
    for key, part in runs[runs["loss"] == "lmf"].groupby(["dataset", "backbone", *TRAINED_ALIKE], sort=False):
        table = by_setting(part)
        if not len(table):
            continue
        table = table[table.groupby("setting")["value"].transform("nunique") > 1]
        if len(table):
            found.append((f"{figures.title_of(str(key[0]))}, {key[1]}, {alike(key[2:])}", table))
    return found


def published_sweeps(folder: Path, runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Fig. 4's tables among the summaries of `lmf sweep` below `folder`: (title, sweep.csv) of each whose runs are not among `runs`.

    A summary may be published without its runs. Scores tell whether they are there too: their folders' names may have changed.
    """
    known = {_score(row) for row in runs.to_dict("records")}
    found = []
    for path in sorted(folder.rglob("sweep.csv")):
        table, config = RunFolder(path.parent).read_table(path.name), RunFolder(path.parent).read_json("config.json")
        if len(table) and any(_score(row) not in known for row in table.to_dict("records")):
            settings = {**dict.fromkeys(TRAINED_ALIKE), **config["settings"]}
            # A summary knows its weights through its runs only.
            named = [f"{name.replace('_', ' ')} {settings[name]}" for name in TRAINED_ALIKE if settings[name] is not None]
            found.append((", ".join([figures.title_of(settings["dataset"]), *named, f"({path.parent.name})"]), table))
    return found


def _score(row: dict) -> tuple[float, ...]:
    return (*(float(row[name]) for name in ("alpha", "beta", "seed")), round(float(row["macro_f1"]), 6))


def side_by_side(runs: pd.DataFrame) -> list[tuple[str, list[Path]]]:
    """Fig. 3's groups among finished runs: (title, run folders) of each backbone, seed and way of training, on every data set that has
    at least two losses whose models, and the place of whose images, are here; the first run of a loss counts.
    """
    found = []
    here = [(Path(run) / "model.keras").is_file() and (Path(run) / "local.json").is_file() for run in runs["run"]]
    for key, part in runs[here].groupby(["backbone", "seed", *TRAINED_ALIKE], sort=False):
        one_each = part.drop_duplicates(["dataset", "loss"])
        several = one_each[one_each.groupby("dataset")["loss"].transform("nunique") > 1]
        if len(several):
            found.append((f"{key[0]}, seed {key[1]}, {alike(key[2:])}", [Path(run) for run in several["run"]]))
    return found


def alike(values: Sequence) -> str:
    """The values of `TRAINED_ALIKE` in words."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in zip(TRAINED_ALIKE, values, strict=True))


def setting_sentence(run: Run, done: pd.DataFrame) -> str:
    """What all runs have in common, and on which machine they ran."""
    configs = [RunFolder(Path(path)).read_json("config.json") for path in done["run"]]
    machines = sorted({f"{config.get('machine')} ({config.get('backend')})" for config in configs})
    epochs = sorted({config["settings"]["epochs"] for config in configs})
    settings = run.settings
    return (
        f"Split: {settings['split']}; reading: {settings['reading']}; {settings['image_size']} px; "
        f"{' and '.join(map(str, epochs))} epochs (the paper: 100), the epoch with the best validation macro F1; "
        f"seeds {', '.join(str(seed) for seed in sorted(set(done['seed'])))}; {', '.join(machines)}.\n"
    )


def write_sweep(run: Run, cells: pd.DataFrame, options: SweepOptions) -> None:
    """sweep.csv, report.md and fig4.png of `sweep`. The choice looks at validation images only; the test score is what it then costs."""
    done = cells[cells["n"] > 0]
    by_pair = {pair: done[(done["alpha"] == pair[0]) & (done["beta"] == pair[1])] for pair in zip(done["alpha"], done["beta"], strict=True)}
    rows = [
        {"setting": setting, "value": value, "alpha": pair[0], "beta": pair[1], **cell[["seed", *COLLECTED, "run", "synthetic"]].to_dict()}
        for setting in options.settings
        for value, pair in zip(options.values(), options.pairs(setting), strict=True)
        for _, cell in by_pair.get(pair, done.iloc[:0]).iterrows()
    ]
    table = pd.DataFrame(rows)
    run.write_csv("sweep.csv", table)
    synthetic = bool(done["synthetic"].any())
    save(figures.alpha_beta_means(table, synthetic=synthetic), run.path / "figures" / "fig4.png")
    lines = []
    for setting, part in table.groupby("setting", sort=False):
        scores = [f"{mean:.4f} ± {off:.4f}" for mean, off in (average_deviation(part[key]) for key in ("validation_macro_f1", "macro_f1"))]
        lines.append((SWEPT[str(setting)], len(part), *scores))
    choice = done.groupby(["alpha", "beta"])["validation_macro_f1"].mean().idxmax()
    chosen = by_pair[choice]
    dataset, backbone = str(done["dataset"].iloc[0]), str(done["backbone"].iloc[0])
    printed = paper.tables()["table_6"].get(dataset, {}).get(backbone)
    paper_choice = f"alpha {printed['alpha']:g}, beta {printed['beta']:g}" if printed else MISSING
    columns = ("setting", "runs", "validation macro F1, mean ± average deviation", "test macro F1, mean ± average deviation")
    each = [
        (
            SWEPT[row["setting"]],
            f"{row['alpha']:g}",
            f"{row['beta']:g}",
            row["seed"],
            number(row["validation_macro_f1"]),
            number(row["macro_f1"]),
        )
        for row in rows
    ]
    run.write_text(
        "report.md",
        f"# LMF: alpha and beta on {figures.title_of(dataset)}, {backbone}\n\n"
        f"{SYNTHETIC + chr(10) if synthetic else ''}{setting_sentence(run, done)}\n"
        f"{markdown(columns, lines)}\n"
        f"Best on validation: alpha {choice[0]:g}, beta {choice[1]:g} (macro F1 there {number(chosen['validation_macro_f1'].mean())}), "
        f"which has test macro F1 {number(chosen['macro_f1'].mean())}. Table 6 of the paper: {paper_choice}. The paper does not say on "
        "which images it chose. A pair that two settings share was trained once and counts in both.\n\n"
        f"![fig4](figures/fig4.png)\n\n## Runs\n\n"
        f"{markdown(('setting', 'alpha', 'beta', 'seed', 'validation macro F1', 'test macro F1'), each)}",
    )
    print(run.path / "report.md")
