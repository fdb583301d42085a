"""Tables 5.1 to 5.4: every balance, objective and seed in a run of its own, then the tables beside the printed ones."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.evaluation.grid import GridCell, collect, run_grid
from common.evaluation.metrics import mean_and_deviation, paired_bootstrap
from common.evaluation.plots import save
from common.evaluation.report import SYNTHETIC
from common.evaluation.tables import Printed, Row, comparison_table, interval_text, markdown, number
from common.runs import Run, read_json
from feedback import figures, paper, reporting
from feedback.config import SimulateOptions, TablesOptions
from feedback.training.stage import model_digest, sample_base

METRICS = ("accuracy", "jaccard", "jaccard_deviation", "after.average_sensitivity", "after.accuracy_among_present", "minutes_per_epoch")


def run_tables(options: TablesOptions) -> Path:
    """`feedback tables`: runs what is missing, writes report.md, cells.csv and figures; returns the folder."""
    base = options.base or sample_base(options)
    cells = cells_of(options, base, Path("."))
    settings = {
        "dataset": options.dataset, "reading": options.reading, "base": base.name, "base_model": model_digest(base),
        "limit": options.limit,
        "cells": [[*cell.arguments, *map(str, cell.labels.values())] for cell in _without_paths(cells)],
    }  # fmt: skip
    run = Run.open("feedback", "tables", settings, run_dir=options.run_dir, name_parts=(options.dataset, options.reading, base.name))
    if run.finished:
        return run.path
    cells = cells_of(options, base, run.path / "cells")
    outcome = run_grid(cells)
    if any(cell.finished for cell in cells):
        write_tables(run, cells)
    if not outcome.failed:
        run.finish()
    outcome.check()
    return run.path


def cells_of(options: TablesOptions, base: Path, folder: Path) -> list[GridCell]:
    """One cell for each balance, objective and seed; with --slices also one for each objective and seed on up-sampled data."""
    cells = []
    for seed in options.seeds:
        for balance in options.balances:
            for objective in options.objectives:
                chosen = {"base": base, "balance": balance, "objective": objective, "seed": seed}
                labels = {"balance": balance, "objective": objective, "seed": seed}
                name = f"{balance}-{objective}-seed{seed}"
                cells.append(GridCell("feedback", "simulate", arguments_of(options, chosen), folder / name, labels))
        for objective in options.objectives if options.slices else ():
            chosen = {"base": base, "balance": "upsampled", "objective": objective, "seed": seed}
            if options.slice_epochs is not None:
                chosen["epochs"] = options.slice_epochs
            arguments = (*arguments_of(options, chosen), "--slices", str(options.slices))
            labels = {"balance": "slices", "objective": objective, "seed": seed}  # type: ignore[dict-item]
            cells.append(GridCell("feedback", "slices", arguments, folder / f"slices-{objective}-seed{seed}", labels))
    return cells


def arguments_of(options: SimulateOptions, chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of one `simulate` as command-line words: what differs from the defaults, with `chosen` put over it."""
    words: list[str] = []
    for item in fields(SimulateOptions):
        value = chosen.get(item.name, getattr(options, item.name))
        default = None if item.default is MISSING else item.default
        if item.name == "run_dir" or value == default:
            continue
        flag = f"--{item.name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return tuple(words)


def _without_paths(cells: Sequence[GridCell]) -> list[GridCell]:
    """The cells with folders shortened to their names, so that a moved data set is still the same grid."""
    from dataclasses import replace

    return [replace(cell, arguments=tuple(Path(word).name if "/" in word else word for word in cell.arguments)) for cell in cells]


def write_tables(run: Run, cells: Sequence[GridCell]) -> None:
    """report.md, cells.csv and figures from the cells that are finished."""
    done = [cell for cell in cells if cell.finished]
    table = collect(done, METRICS)
    table["run"] = [Path(path).name for path in table["run"]]
    run.write_csv("cells.csv", table)
    first = read_json(done[0].run_dir / "config.json")
    synthetic = bool(table["synthetic"].any())
    parts = [f"# Tables 5.1 to 5.4: {len(done)} of {len(cells)} runs\n", SYNTHETIC if synthetic else "", setting_sentence(done, first)]
    for balance in dict.fromkeys(cell.labels["balance"] for cell in done):
        group = [cell for cell in done if cell.labels["balance"] == balance]
        if balance == "slices":
            parts.append("## Table 5.4: slices of up-sampled data\n\n" + slices_table(group, synthetic))
            save(figures.slice_curves(_slices(group), synthetic=synthetic), run.path / "figures" / "slices.png")
            continue
        parts.append(f"## {paper.table_title(balance)}: {reporting.balance_title(balance)}\n\n" + balance_table(group, balance, synthetic))
        parts.append("Change of the test images by the tuning (paired bootstrap over images, all seeds):\n\n" + change_table(group))
        histories = {cell.labels["objective"]: pd.read_csv(cell.run_dir / "history.csv") for cell in reversed(group)}
        drawn = figures.learning_curves(dict(reversed(histories.items())), synthetic=synthetic)
        save(drawn, run.path / "figures" / f"curves_{balance}.png")
    metrics = read_json(done[0].run_dir / "metrics.json")
    parts.append("## Overlap\n\n" + "".join(f"- {note}\n" for note in reporting.leakage_notes(first, metrics)[:2]))
    if len(done) < len(cells):
        parts.append("## Not run\n\n" + "".join(f"- {cell.name}\n" for cell in cells if not cell.finished))
    names = sorted(path.name for path in (run.path / "figures").glob("*.png"))
    parts.append("## Figures\n\n" + "".join(f"![{Path(name).stem}](figures/{name})\n\n" for name in names))
    run.write_text("report.md", "\n".join(part for part in parts if part))


def setting_sentence(cells: Sequence[GridCell], config: Mapping[str, Any]) -> str:
    """What all runs have in common."""
    settings = config["settings"]
    seeds = sorted({cell.labels["seed"] for cell in cells})
    batches = sorted({read_json(cell.run_dir / "config.json")["settings"]["batch_size"] for cell in cells})
    return (
        f"{config['dataset']}, {settings['backbone']} at {settings['image_size']} px, base trained on {settings['base_dataset']}; split "
        f"{settings['split']}, reading {settings['reading']}; map of layer {settings['layer']}, weights {settings['gradients']}; batch "
        f"{' and '.join(map(str, batches))} (thesis: 1); seeds {', '.join(map(str, seeds))}; {config.get('machine')} "
        f"({config.get('backend')}). "
        f"Masks: {', '.join(str(name).removeprefix('mask_') for name in settings['masks'])}.\n"
    )


def balance_table(cells: Sequence[GridCell], balance: str, synthetic: bool) -> str:
    """One of Tables 5.1 to 5.3: the untuned model and each objective, our mean over seeds beside the printed cell."""
    rows: list[Row] = []
    source = f"thesis, {paper.table_title(balance)}"
    groups: dict[str | None, list[GridCell]] = {None: list({cell.labels["seed"]: cell for cell in cells}.values())}
    for cell in cells:
        groups.setdefault(cell.labels["objective"], []).append(cell)
    for objective, group in groups.items():
        printed = paper.simulation_row(balance, objective)
        found = [read_json(cell.run_dir / "metrics.json")["before" if objective is None else "after"] for cell in group]
        values = {
            "accuracy": ([one["accuracy"] for one in found], found[0]["accuracy_interval"]),
            "jaccard": ([one["jaccard"]["mean"] for one in found], found[0]["jaccard"]["interval"]),
            "jaccard_deviation": ([one["jaccard"]["deviation"] for one in found], None),
            "average_sensitivity": ([one["average_sensitivity"] for one in found], None),
        } | {f"sensitivity_{name}": ([one["sensitivity"].get(name) for one in found], None) for name in found[0]["sensitivity"]}
        for name, (numbers, interval) in values.items():
            known = [value for value in numbers if value is not None]
            if not known:
                continue
            mean, deviation = mean_and_deviation(known)
            beside = Printed(printed[name], source) if name in printed else None
            title = f"{objective or 'untuned'}: {TITLES.get(name, name.replace('sensitivity_', 'sensitivity '))}"
            rows.append(Row(title, mean, interval if len(known) == 1 else None, beside, deviation, len(known), synthetic))
    ellipse = read_json(cells[0].run_dir / "metrics.json")["ellipse"]
    text = f"A centred ellipse of each mask's own area reaches {number(ellipse['mean'])} {interval_text(ellipse['interval'])}.\n"
    return comparison_table(rows) + "\n" + text


TITLES = {
    "jaccard": "average Jaccard index", "jaccard_deviation": "its deviation over images", "average_sensitivity": "average sensitivity",
}  # fmt: skip


def change_table(cells: Sequence[GridCell]) -> str:
    """Per objective: accuracy and Jaccard index after minus before, all seeds' test images together."""
    lines = []
    for objective in dict.fromkeys(cell.labels["objective"] for cell in cells):
        tables = [pd.read_csv(cell.run_dir / "jaccard.csv") for cell in cells if cell.labels["objective"] == objective]
        table = pd.concat(tables, ignore_index=True)
        marked = table.dropna(subset=["jaccard_before", "jaccard_after"])
        right = [(table[f"predicted_{when}"] == table["label"]).to_numpy(float) for when in ("before", "after")]
        pairs = {"accuracy": right, "average Jaccard index": [marked[f"jaccard_{when}"].to_numpy() for when in ("before", "after")]}
        for name, (first, second) in pairs.items():
            if not len(first):
                continue
            gap = paired_bootstrap(first, second)
            lines.append([objective, name, number(gap.value, sign=True), interval_text((gap.low, gap.high)), len(first)])
    return markdown(("objective", "", "change", "95 % interval", "images"), lines, left=2)


def _slices(cells: Sequence[GridCell]) -> dict[str, pd.DataFrame]:
    """slices.csv of each objective, the mean over seeds."""
    found: dict[str, list[pd.DataFrame]] = {}
    for cell in cells:
        found.setdefault(cell.labels["objective"], []).append(pd.read_csv(cell.run_dir / "slices.csv"))
    return {name: pd.concat(tables).groupby("slice", as_index=False).mean(numeric_only=True) for name, tables in found.items()}


def slices_table(cells: Sequence[GridCell], synthetic: bool) -> str:
    """Table 5.4: after the first and after the last slice."""
    rows = []
    for objective, table in _slices(cells).items():
        tuned = table[table["slice"] >= 0]
        printed = paper.slice_rows(objective)
        for label, line, number_printed in (("first", tuned.iloc[0], 0), ("last", tuned.iloc[-1], 19)):
            for name in ("accuracy", "average_sensitivity", "jaccard", "jaccard_deviation"):
                beside = Printed(printed[number_printed][name], f"thesis, Table 5.4, slice {number_printed}")
                value = None if np.isnan(line[name]) else float(line[name])
                rows.append(Row(f"{objective}, {label} slice: {TITLES.get(name, name)}", value, None, beside, synthetic=synthetic))
    return comparison_table(rows)
