"""`tables`: every table of the paper and the thesis from real runs: ours, printed, difference, interval; and methods against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cervical.data import load
from cervical.experiments.cost_sensitive import CLASS_COSTS
from cervical.experiments.tables import TablesSettings
from cervical.figures import accuracy_bars
from cervical.grids.cells import cell, finished, open_grid
from cervical.paper import TABLE_NUMBERS, notebook, previous_works, printed_accuracy, printed_classes, tables
from common.backbones import BACKBONES
from common.data.manifest import Dataset
from common.errors import UsageError
from common.metrics.pair import compare_costs
from common.report import plots
from common.report.grid_tables import (
    Compared,
    compare_means,
    compare_methods,
    comparisons_frame,
    comparisons_text,
    grouped,
    means_text,
    seed_rows,
)
from common.report.report import SYNTHETIC
from common.report.tables import MISSING, Printed, Row, comparison_table, markdown, number
from common.runs import Run, read_json
from common.runs.grid import GridCell, collect, run_grid

TITLES = {
    "finetune": "Fine-tuning",
    "cost-sensitive": "Cost-sensitive learning",
    "contrastive": "Contrastive learning",
    "control": "Control",
}
SCORES = ("precision", "recall", "f1")
PAIR_BY = ("backbone", "reading", "seed")
BATCH_SIZE = "32 (thesis 6.3)"


def run_tables(grid: TablesSettings) -> Path:
    """Run what is missing, then write every table of what is there. Returns the folder."""
    dataset = load(grid, grid.finetune.limit)
    cells = table_cells(grid, dataset)
    run = open_grid("tables", grid, dataset, cells)
    if run.finished:
        return run.path
    outcome = run_grid(cells)
    if finished(cells):
        write_tables(run, cells, dataset)
    if not outcome.failed:
        run.finish()
    outcome.check()
    return run.path


def table_cells(grid: TablesSettings, dataset: Dataset) -> list[GridCell]:
    """Seeds x networks x methods."""
    return [
        cell(method, grid.run_settings(method.replace("-", "_"), **same), dataset, {**same, "reading": grid.reading})
        for seed, backbone, method in product(grid.seeds, grid.backbones, grid.methods)
        for same in ({"backbone": backbone, "seed": seed},)
    ]


def with_controls(cells: Sequence[GridCell]) -> list[GridCell]:
    """The cells, each contrastive one followed by the control inside its folder."""
    found = []
    for each in cells:
        found.append(each)
        if (each.run_dir / "control").is_dir():
            found.append(each.control(method="control"))
    return found


@dataclass(frozen=True)
class Drawn:
    """Tables and figures of some runs: markdown sections in order, the rows behind two of them, and figures by name."""

    sections: list[str]
    classes: pd.DataFrame
    comparisons: pd.DataFrame
    figures: dict[str, Figure]


def write_tables(run: Run, cells: Sequence[GridCell], dataset: Dataset) -> None:
    """cells.csv, per_class.csv, comparisons.csv, figures and report.md, from the finished cells."""
    everything = with_controls(cells)
    run.write_csv("cells.csv", collect(everything))
    done = finished(everything)
    drawn = draw_tables(everything, done, compared(done), dataset.synthetic, dataset)
    run.write_csv("per_class.csv", drawn.classes)
    run.write_csv("comparisons.csv", drawn.comparisons)
    names = [plots.save(figure, run.path / "figures" / f"{name}.png").name for name, figure in drawn.figures.items()]
    title = f"# Cervical cells: {len(finished(cells))} of {len(cells)} runs\n"
    figures = "## Figures 6.1, 6.2, 6.4\n\n" + "".join(f"![{name}](figures/{name})\n\n" for name in names)
    run.write_text("report.md", "\n".join([title, *drawn.sections, figures]))


def draw_tables(
    everything: Sequence[GridCell], done: Sequence[GridCell], pairs: Sequence[Compared], synthetic: bool, dataset: Dataset | None = None
) -> Drawn:
    """Every table of the runs `done` among `everything`, whose holes show. Tables 4.1 and 4.2 count `dataset` and are left out without."""
    classes = pd.concat([class_table(each) for each in done], ignore_index=True)
    parts, figures = [SYNTHETIC if synthetic else "", _where(done)], {}
    for method in dict.fromkeys(each.labels["method"] for each in everything):
        group = [each for each in everything if each.labels["method"] == method]
        rows = method_rows(method, group)
        parts.append(f"## {TITLES.get(method, method)} ({TABLE_NUMBERS.get(method, 'in no document')})\n\n" + comparison_table(rows))
        parts.append(_class_markdown(classes[classes["method"] == method]))
        figure = plots_of(method, rows, group, synthetic)
        if figure is not None:
            figures[f"accuracy_{method}"] = figure
    frame = comparisons_frame(pairs, PAIR_BY)
    parts.append("## Methods against each other, on the same test images\n\n" + comparisons_text(frame, PAIR_BY))
    parts.append(_over_seeds(done))
    parts.append(_expected_costs(done))
    parts.append("## Table IV / 7.1: previous works\n\n" + _previous(done, synthetic))
    if dataset is not None:
        parts.append("## Tables 4.1 and 4.2: images\n\n" + _images(done, dataset))
    parts.append("## Table 6.1: settings\n\n" + _settings(done))
    return Drawn([part for part in parts if part], classes, frame, figures)


def compared(done: Sequence[GridCell]) -> list[Compared]:
    """Every method against fine-tuning, and the contrastive ones against the control: one family, so that Holm's correction counts all."""
    against_control = compare_methods(done, "method", "control", PAIR_BY)
    return [
        *compare_methods(done, "method", "finetune", PAIR_BY),
        *(found for found in against_control if str(found[1]).startswith("contrastive")),
    ]


def _over_seeds(done: Sequence[GridCell]) -> str:
    """The same comparisons of the mean over the seeds, where there are several."""
    by = ("backbone", "reading")
    against_control = compare_means(done, "method", "control", by)
    found = [
        *compare_means(done, "method", "finetune", by),
        *(item for item in against_control if str(item.method).startswith("contrastive")),
    ]
    return "## Mean over the seeds\n\n" + means_text(found, by) if found else ""


def _expected_costs(done: Sequence[GridCell]) -> str:
    """What class costs are for: the expected cost of each cost-sensitive run beside plain fine-tuning's under the same costs."""
    rows = []
    for key, group in grouped(done, PAIR_BY).items():
        by_method = {each.labels["method"]: each for each in group}
        plain, costly = by_method.get("finetune"), by_method.get("cost-sensitive")
        if plain is None or costly is None:
            continue
        matrix = read_json(costly.run_dir / "metrics.json").get("given", {}).get("cost_matrix")
        if matrix is None:
            continue
        try:
            before, change = compare_costs(plain.run_dir, costly.run_dir, matrix)
        except UsageError:
            continue
        says = "no difference shown" if not change.excludes_zero else "lower" if change.value < 0 else "higher"
        values = (number(before), number(before + change.value), number(change.value, sign=True))
        rows.append([*map(str, key), *values, f"[{change.low:+.4f}, {change.high:+.4f}]", says])
    if not rows:
        return ""
    header = (*PAIR_BY, "fine-tuning", "cost-sensitive", "difference", "95 % interval", "costs say")
    note = "Mean cost of a test image under the costs that the run was trained with; lower is better. Paired bootstrap as above.\n"
    return f"## Expected cost (thesis 3.2)\n\n{markdown(header, rows, left=3)}\n{note}"


def method_rows(method: str, cells: Sequence[GridCell]) -> list[Row]:
    """Accuracy of each network and reading under one method, over its seeds, beside the printed one."""
    printed = {}
    for each in cells:
        backbone, reading = each.labels["backbone"], each.labels["reading"]
        value, found = printed_accuracy(method, backbone), notebook(method, backbone)
        if own_costs(each):
            continue
        if value is not None:
            printed[backbone, reading] = Printed(value, TABLE_NUMBERS[method])
        elif found is not None:
            printed[backbone, reading] = Printed(found["accuracy"], found["source"])
    return seed_rows(cells, ("backbone", "reading"), printed=printed)


def own_costs(each: GridCell) -> bool:
    """Whether a finished cost-sensitive run had costs of the user's own: beside those, Table II's numbers do not stand."""
    path = each.run_dir / "config.json"
    if each.labels["method"] != "cost-sensitive" or not path.is_file():
        return False
    return read_json(path).get("settings", {}).get("costs", "printed") not in CLASS_COSTS


def plots_of(method: str, rows: Sequence[Row], cells: Sequence[GridCell], synthetic: bool) -> Figure | None:
    """Accuracy bars of the first reading's networks, or None where nothing is measured."""
    reading = cells[0].labels["reading"]
    shown = {}
    for row in rows:
        backbone, _, of = row.name.partition(" · ")
        if of == reading and row.measured is not None:
            shown[backbone] = (row.measured, row.interval)
    return accuracy_bars(method, shown, synthetic, not any(map(own_costs, cells))) if shown else None


def class_table(each: GridCell) -> pd.DataFrame:
    """Precision, recall and F1 of each class of one run: ours, printed, difference, interval of ours."""
    metrics = read_json(each.run_dir / "metrics.json")
    method, backbone = each.labels["method"], each.labels["backbone"]
    printed = printed_classes(method, backbone) or (notebook(method, backbone) or {"per_class": {}})["per_class"]
    if own_costs(each):
        printed = {}
    rows = []
    for name, cells in metrics["per_class"].items():
        for score in SCORES:
            low, high = (cells.get("intervals") or {}).get(score) or (None, None)
            theirs = printed.get(name, {}).get(score)
            comparable = theirs is not None and cells[score] is not None and not metrics.get("synthetic")
            rows.append(
                {
                    **each.labels,
                    "class": name,
                    "score": score,
                    "ours": cells[score],
                    "low": low,
                    "high": high,
                    "printed": theirs,
                    "difference": cells[score] - theirs if comparable else None,
                }
            )
    return pd.DataFrame(rows)


def _class_markdown(table: pd.DataFrame) -> str:
    """One line a class of a run: precision, recall, F1, each "ours (printed, difference)"."""
    lines = []
    for key, part in table.groupby(["backbone", "reading", "seed", "class"], sort=False):
        cells = []
        for score in SCORES:
            row = part[part["score"] == score].iloc[0]
            text = number(row["ours"])
            if pd.notna(row["low"]):
                text += f" [{row['low']:.3f}, {row['high']:.3f}]"
            if pd.notna(row["printed"]):
                text += f" ({row['printed']:.2f}" + (f", {row['difference']:+.3f})" if pd.notna(row["difference"]) else ")")
            cells.append(text)
        lines.append([*key, *cells])
    note = "\nOurs [95 % interval] (printed, difference).\n"
    return markdown(("network", "reading", "seed", "class", "precision", "recall", "F1"), lines, left=4) + note


def _where(done: Sequence[GridCell]) -> str:
    found: dict[tuple[str, ...], list[str]] = {}
    for each in done:
        config = read_json(each.run_dir / "config.json")
        found.setdefault((config["dataset"], config["split"], config["backend"], config["machine"]), []).append(config["weights"])
    return "".join(
        f"- {len(weights)} runs on {name}, {split} split, starting weights {', '.join(sorted(set(weights)))}; {backend} on {machine}\n"
        for (name, split, backend, machine), weights in found.items()
    )


def _previous(done: Sequence[GridCell], synthetic: bool) -> str:
    rows = [[row["authors"], row["method"], row["accuracy"], row["printed in"]] for row in previous_works()]
    for method in dict.fromkeys(each.labels["method"] for each in done):
        best = [(read_json(each.run_dir / "metrics.json")["accuracy"], each) for each in done if each.labels["method"] == method]
        if best:
            accuracy, each = max(best, key=lambda pair: pair[0])
            labels = each.labels
            name = f"{TITLES.get(method, method)}, {BACKBONES[labels['backbone']].title}, {labels['reading']}, seed {labels['seed']}"
            rows.append(["ours" + (" (synthetic data)" if synthetic else ""), name, f"{accuracy:.2%}", MISSING])
    note = "\nOurs is the best run of each method, picked on the test images as the paper picked its own; the tables above show all.\n"
    return markdown(("authors", "method", "accuracy", "printed in"), rows, left=2) + note


def _images(done: Sequence[GridCell], dataset: Dataset) -> str:
    manifest = pd.read_csv(done[0].run_dir / "manifest.csv", dtype=str, keep_default_na=False)
    copies = read_json(done[0].run_dir / "config.json")["settings"]["copies"]
    printed, counts = tables()["dataset"], manifest["label"].value_counts()
    rows = [[name, int(counts[name]), printed.get(name, MISSING)] for name in sorted(counts.index)]
    rows.append(["all", len(manifest), "4049 (their sum: 3971)"])
    splits = manifest["split"].value_counts()
    parts = [["train", int(splits.get("train", 0)), tables()["partition"]["Train before augmentation"]]]
    parts.append([f"train with {copies} copies each", int(splits.get("train", 0)) * (1 + copies), tables()["partition"]["Train"]])
    parts += [[name, int(splits.get(name, 0)), tables()["partition"][name.capitalize()]] for name in ("validation", "test")]
    return markdown(("class", dataset.name, "printed"), rows) + "\n" + markdown(("part", dataset.name, "printed"), parts)


def _settings(done: Sequence[GridCell]) -> str:
    rows = []
    for method in dict.fromkeys(each.labels["method"] for each in done):
        each = next(item for item in done if item.labels["method"] == method)
        settings = read_json(each.run_dir / "config.json")["settings"]
        # The control is in no document, so nothing is printed for it.
        column = "contrastive" if method.startswith("contrastive") else "fine_tuning_and_cost_sensitive"
        printed = {} if method == "control" else {**tables()["hyperparameters"][column], "batch_size": BATCH_SIZE}
        names = ("training", "encoder", "classifier")
        stages = [settings[name] for name in names if isinstance(settings.get(name), dict)]
        ours = {
            "epoch": ", ".join(str(stage["epochs"]) for stage in stages) or MISSING,
            "learning_rate": ", ".join(f"{stage['learning_rate']:g}" for stage in stages) or MISSING,
            "batch_size": settings.get("batch_size", MISSING),
            "loss": _loss(method, each, settings),
            "activation": "softmax",
            "optimizer": "Adam",
            "size": f"{settings['image_size']}x{settings['image_size']}",
            "dropout": settings["dropout"],
        }
        told = {"epoch": "epochs (at most)"}
        rows += [[method, told.get(name, name.replace("_", " ")), value, printed.get(name, MISSING)] for name, value in ours.items()]
    return markdown(("method", "setting", "ours", "printed"), rows, left=2)


def _loss(method: str, each: GridCell, settings: Mapping[str, Any]) -> str:
    """The loss a run was trained with, in words; a contrastive run has one for each of its stages."""
    if method.startswith("cost-sensitive"):
        costs = read_json(each.run_dir / "metrics.json").get("costs") or [0.0]
        return (
            "log loss plus expected cost" if isinstance(costs[0], list) else f"weighted log loss (costs {settings.get('costs', MISSING)})"
        )
    return f"{settings['loss']}, then cross-entropy" if method.startswith("contrastive") and "loss" in settings else "cross-entropy"
