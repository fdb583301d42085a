"""report.md, cells.csv and figures of `feedback tables`: Tables 5.1 to 5.4 beside the printed ones, from the finished runs alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.metrics.classification import bootstrap_interval, mean_and_deviation
from common.report.plots import save
from common.report.report import SYNTHETIC, find_metric
from common.report.tables import Printed, Row, comparison_table, interval_text, markdown, number
from common.runs import Run, read_json
from common.runs.grid import GridCell, collect
from feedback import faithfulness, figures, paper, reporting
from feedback.config import WEIGHTS

METRICS = ("accuracy", "jaccard", "jaccard_deviation", "after.average_sensitivity", "after.accuracy_among_present", "minutes_per_epoch")
TITLES = {
    "jaccard": "average Jaccard index", "jaccard_deviation": "its deviation over images", "average_sensitivity": "average sensitivity",
}  # fmt: skip


def write_tables(run: Run, cells: Sequence[GridCell], base: Path) -> None:
    """report.md, cells.csv and figures from the cells that are finished; `base`: run folder of the base classifier."""
    done = [cell for cell in cells if cell.finished]
    table = collect(done, METRICS)
    table["run"] = [Path(path).name for path in table["run"]]
    run.write_csv("cells.csv", table)
    synthetic = bool(table["synthetic"].any())
    first = done[0]
    parts = [f"# Tables 5.1 to 5.4: {len(done)} of {len(cells)} runs\n", SYNTHETIC if synthetic else "", setting_sentence(done)]
    parts += [f"{note}\n" for note in reporting.limit_notes(_limit(first))]
    parts.append("## The untuned model\n\n" + base_table(first, base, synthetic))
    for balance in dict.fromkeys(cell.labels["balance"] for cell in done):
        group = [cell for cell in done if cell.labels["balance"] == balance]
        if balance == "slices":
            parts.append("## Table 5.4: slices of up-sampled data\n\n" + slices_table(group, synthetic))
            parts.append(faithfulness_table(group))
            save(figures.slice_curves(_mean_slices(group), synthetic=synthetic), run.path / "figures" / "slices.png")
            continue
        parts.append(f"## {paper.table_title(balance)}: {reporting.balance_title(balance)}\n\n" + balance_table(group, balance, synthetic))
        parts.append("Change of the test images by the tuning (paired bootstrap over images, all seeds):\n\n" + change_table(group))
        parts.append(gradients_table(group))
        parts.append(faithfulness_table(group))
        histories = {method(cell): pd.read_csv(cell.run_dir / "history.csv") for cell in reversed(group)}
        drawn = figures.learning_curves(dict(reversed(histories.items())), synthetic=synthetic)
        save(drawn, run.path / "figures" / f"curves_{balance}.png")
    parts.append("## Time (section 5.10)\n\n" + minutes_table(done))
    notes = reporting.leakage_notes(read_json(first.run_dir / "config.json"), read_json(first.run_dir / "metrics.json"))[:2]
    parts.append("## Overlap\n\n" + "".join(f"- {note}\n" for note in notes))
    if len(done) < len(cells):
        parts.append("## Not run\n\n" + "".join(f"- {cell.name}\n" for cell in cells if not cell.finished))
    names = sorted(path.name for path in (run.path / "figures").glob("*.png"))
    parts.append("## Figures\n\n" + "".join(f"![{Path(name).stem}](figures/{name})\n\n" for name in names))
    run.write_text("report.md", "\n".join(part for part in parts if part))


def setting_sentence(cells: Sequence[GridCell]) -> str:
    """What all runs have in common."""
    configs = [read_json(cell.run_dir / "config.json") for cell in cells]
    config, settings = configs[0], configs[0]["settings"]
    seeds = sorted({cell.labels["seed"] for cell in cells})
    batches = sorted({one["settings"]["batch_size"] for one in configs})
    kinds = list(dict.fromkeys(one["settings"]["gradients"] for one in configs))
    return (
        f"{config['dataset']}, {settings['backbone']} at {settings['image_size']} px, base trained on {settings['base_dataset']}; split "
        f"{settings['split']}, reading {settings['reading']}; map of layer {settings['layer']}, weights {' and '.join(kinds)}; batch "
        f"{' and '.join(map(str, batches))} (thesis: 1); seeds {', '.join(map(str, seeds))}; {config.get('machine')} "
        f"({config.get('backend')}). "
        f"Masks: {', '.join(str(name).removeprefix('mask_') for name in settings['masks'])}. Intervals: 95 %, bootstrap over test images; "
        "with several seeds an image that several test sets hold is drawn as one.\n"
    )


def method(cell: GridCell) -> str:
    """A cell's row title: its objective, and the kind of channel weights where it is not the thesis's."""
    objective = str(cell.labels["objective"])
    return objective + (", differentiated" if cell.labels["gradients"] == "differentiated" and WEIGHTS[objective] else "")


def base_table(cell: GridCell, base: Path, synthetic: bool) -> str:
    """Table 5.3, rows 1 and 2: the base on its own test set and on the whole simulation set."""
    rows: list[Row] = []
    path = base / "metrics.json"
    if path.is_file():
        metrics, printed, source = read_json(path), paper.base_on_isic2019(), "thesis, Table 5.3, row 1"
        config = read_json(base / "config.json")
        differs = paper.differences(config, "base")
        over = sum(name != "average" for name in metrics.get("sensitivity", ()))
        for title, name, key in (
            ("accuracy", "accuracy", "accuracy"), (_average(over), "sensitivity.average", "average_sensitivity"),
            *((f"sensitivity {one}", f"sensitivity.{one}", f"sensitivity_{one}") for one in paper.SENSITIVITY_ORDER),
        ):  # fmt: skip
            known, value, interval = find_metric(metrics, name)
            if known:
                beside = _beside(differs, printed, key, f"{source}, over 8 classes" if key == "average_sensitivity" else source)
                rows.append(Row(f"{config['dataset']} test: {title}", value, interval, beside, synthetic=synthetic))
    whole, printed = read_json(cell.run_dir / "metrics.json")["baseline_whole_set"], paper.simulation_row("upsampled", None)
    values = {
        "accuracy": (whole["accuracy"], whole["accuracy_interval"]),
        "jaccard": (whole["jaccard"]["mean"], whole["jaccard"]["interval"]),
        "average_sensitivity": (whole["average_sensitivity"], None),
    } | {f"sensitivity_{name}": (value, None) for name, value in whole["sensitivity"].items()}
    for name, (value, interval) in values.items():
        source = "thesis, Table 5.3, row 2" + (", over 3 classes" if name == "average_sensitivity" else "")
        title = _average(len(whole["sensitivity"])) if name == "average_sensitivity" else _title(name)
        beside = _beside(_differences(cell, tuned=False), printed, name, source)
        rows.append(Row(f"whole simulation set: {title}", value, interval, beside, synthetic=synthetic))
    # Facts, section 4.2, row 18.
    note = "An average sensitivity is over the classes that occur: more of them in the base's own test set than in the simulation set.\n"
    return comparison_table(rows) + "\n" + note


def balance_table(cells: Sequence[GridCell], balance: str, synthetic: bool) -> str:
    """One of Tables 5.1 to 5.3: the untuned model and each objective, our mean over seeds beside the printed cell."""
    rows: list[Row] = []
    source = f"thesis, {paper.table_title(balance)}"
    groups: dict[str, list[GridCell]] = {"untuned": list({cell.labels["seed"]: cell for cell in cells}.values())}
    for cell in cells:
        groups.setdefault(method(cell), []).append(cell)
    for name_of_group, group in groups.items():
        when, objective = ("before", None) if name_of_group == "untuned" else ("after", group[0].labels["objective"])
        printed = paper.simulation_row(balance, objective)
        found = [read_json(cell.run_dir / "metrics.json")[when] for cell in group]
        intervals = {"accuracy": accuracy_interval(group, when), "jaccard": jaccard_interval(group, when)}
        values = {
            "accuracy": [one["accuracy"] for one in found],
            "jaccard": [one["jaccard"]["mean"] for one in found],
            "jaccard_deviation": [one["jaccard"]["deviation"] for one in found],
            "average_sensitivity": [one["average_sensitivity"] for one in found],
        } | {f"sensitivity_{name}": [one["sensitivity"].get(name) for one in found] for name in found[0]["sensitivity"]}
        for name, numbers in values.items():
            known = [value for value in numbers if value is not None]
            if not known:
                continue
            mean, deviation = mean_and_deviation(known)
            beside = _beside(_differences(group[0], tuned=objective is not None), printed, name, source)
            rows.append(Row(f"{name_of_group}: {_title(name)}", mean, intervals.get(name), beside, deviation, len(known), synthetic))
    ellipse = read_json(cells[0].run_dir / "metrics.json")["ellipse"]
    text = f"A centred ellipse of each mask's own area reaches {number(ellipse['mean'])} {interval_text(ellipse['interval'])}.\n"
    return comparison_table(rows) + "\n" + text


def change_table(cells: Sequence[GridCell]) -> str:
    """Per objective: accuracy and Jaccard index after minus before, all seeds' test images together."""
    lines = []
    for name in dict.fromkeys(map(method, cells)):
        table = _images([cell for cell in cells if method(cell) == name])
        table["accuracy"] = table["right_after"] - table["right_before"]
        table["average Jaccard index"] = table["jaccard_after"] - table["jaccard_before"]
        lines += [line for measure in ("accuracy", "average Jaccard index") if (line := _change(name, measure, table))]
    return markdown(("objective", "", "change", "95 % interval", "images"), lines, left=2)


def gradients_table(cells: Sequence[GridCell]) -> str:
    """Differentiated minus constant channel weights after tuning, same seeds and test images; "" where not both were run."""
    lines = []
    for objective in dict.fromkeys(cell.labels["objective"] for cell in cells):
        kinds = {
            kind: _images([cell for cell in cells if (cell.labels["objective"], cell.labels["gradients"]) == (objective, kind)])
            for kind in ("constant", "differentiated")
        }
        if any(table.empty for table in kinds.values()):
            continue
        both = kinds["constant"].merge(kinds["differentiated"], on=["seed", "image"], suffixes=("_constant", "_differentiated"))
        for measure, column in (("accuracy", "right_after"), ("average Jaccard index", "jaccard_after")):
            first, second = both[f"{column}_constant"], both[f"{column}_differentiated"]
            if line := _change(objective, measure, both.assign(**{measure: second - first})):
                lines.append([*line[:2], number(first.mean()), number(second.mean()), *line[2:]])
    if not lines:
        return ""
    header = ("objective", "", "constant", "differentiated", "difference", "95 % interval", "images")
    return (
        "Channel weights of the map in the loss, constant (the thesis) against differentiated, after tuning (paired bootstrap over "
        "images):\n\n" + markdown(header, lines, left=2)
    )


def faithfulness_table(cells: Sequence[GridCell]) -> str:
    """Deletion and insertion before and after tuning, beside a random map; "" where no run measured them (--faithfulness).

    Over all seeds' images where the runs kept every image's areas; a run of before that has means only, which count where its objective
    has no other run, and then there is no interval.
    """
    lines, left_out = [], 0
    for name in dict.fromkeys(map(method, cells)):
        group = [cell for cell in cells if method(cell) == name]
        measured = [cell for cell in group if "faithfulness" in read_json(cell.run_dir / "metrics.json")]
        kept = [cell for cell in measured if (cell.run_dir / faithfulness.FILE).is_file()]
        left_out += len(measured) - len(kept)
        lines += _area_lines(name, kept) if kept else _mean_lines(name, measured)
    if not lines:
        return ""
    text = f"Faithfulness of the maps. {faithfulness.READING}"
    if left_out:
        text += f"{left_out} of these runs {faithfulness.MEANS_ONLY}; beside a seed that has one they do not count.\n"
    header = ("objective", "", "before", "after", "change", "95 % interval (paired bootstrap)", "images")
    return text + "\n" + markdown(header, lines, left=2)


def _area_lines(name: str, cells: Sequence[GridCell]) -> list[list[Any]]:
    """Lines of the faithfulness table from every image's areas; an image in several seeds' test sets is one draw."""
    tables = [pd.read_csv(cell.run_dir / faithfulness.FILE, dtype={"image": str}) for cell in cells]
    table = faithfulness.with_differences(pd.concat(tables, ignore_index=True))
    lines = []
    for row, title in faithfulness.ROWS.items():
        table[row] = table[f"{row}_after"] - table[f"{row}_before"]
        if not (line := _change(name, row, table)):
            continue
        sides = []
        for when in ("before", "after"):
            column = f"{row}_{when}"
            # Only here does the interval of one side say something: whether the map beats the random one at all.
            interval = f" {interval_text(_interval(table, column))}" if row.endswith("_minus_random") else ""
            sides.append(number(float(table[column].mean())) + interval)
        lines.append([name, title, *sides, *line[2:]])
    return lines


def _mean_lines(name: str, cells: Sequence[GridCell]) -> list[list[Any]]:
    """Lines of the faithfulness table from metrics.json's means, over seeds."""
    found = [read_json(cell.run_dir / "metrics.json")["faithfulness"] for cell in cells]
    lines = []
    for row, title in faithfulness.ROWS.items():
        values = [[faithfulness.means(one[when]).get(row) for when in ("before", "after")] for one in found]
        if not values or any(value is None for pair in values for value in pair):
            continue
        before, after = np.mean(np.asarray(values, float), axis=0)
        images = sum(one["after"]["images"] for one in found)
        lines.append([name, title, number(before), number(after), number(after - before, sign=True), interval_text(None), images])
    return lines


def slices_table(cells: Sequence[GridCell], synthetic: bool) -> str:
    """Table 5.4: after the first and after the last slice, mean and deviation over seeds.

    The last slice's interval is over all seeds' test images; the first's is the run's own and there is none with several seeds.
    """
    rows = []
    for name in dict.fromkeys(map(method, cells)):
        group = [cell for cell in cells if method(cell) == name]
        tables = [pd.read_csv(cell.run_dir / "slices.csv").query("slice >= 0") for cell in group]
        printed = paper.slice_rows(str(group[0].labels["objective"]))
        intervals = {"accuracy": accuracy_interval(group, "after"), "jaccard": jaccard_interval(group, "after")}
        for label, position, number_printed in (("first", 0, 0), ("last", -1, 19)):
            for column in ("accuracy", "average_sensitivity", "jaccard", "jaccard_deviation"):
                values = [float(table[column].iloc[position]) for table in tables]
                values = [value for value in values if not np.isnan(value)]
                mean, deviation = mean_and_deviation(values) if values else (None, None)
                interval = intervals.get(column) if label == "last" else _own_interval(tables, column)
                beside = _beside(_differences(group[0]), printed[number_printed], column, f"thesis, Table 5.4, slice {number_printed}")
                title = f"{name}, {label} slice: {_title(column)}"
                rows.append(Row(title, mean, interval, beside, deviation, len(values), synthetic))
    return comparison_table(rows)


def minutes_table(cells: Sequence[GridCell]) -> str:
    """Minutes an epoch and a slice beside the thesis's; machines, networks and sizes differ, so no difference is taken."""
    lines = []
    groups: dict[tuple[str, str], list[GridCell]] = {}
    for cell in cells:
        groups.setdefault((str(cell.labels["balance"]), method(cell)), []).append(cell)
    for (balance, name), group in groups.items():
        metrics = [read_json(cell.run_dir / "metrics.json") for cell in group]
        objective = str(group[0].labels["objective"])
        unit = "slice" if balance == "slices" else "epoch"
        mean, deviation = mean_and_deviation([one[f"minutes_per_{unit}"] for one in metrics])
        ours = f"{mean:.2f}" + (f" ± {deviation:.2f}" if deviation is not None else "")
        images = sum(metrics[0]["training_images"].values())
        lines.append(
            [f"{balance}, {name}", unit, images, ours, len(group), paper.minutes(objective, unit) if balance != "reduced" else "–"]
        )
    return (
        markdown(("run", "of one", "training images", "minutes, ours", "seeds", "minutes, thesis (GTX Titan, 4600 images or 230)"), lines)
        + "\nOurs: the median of the epochs (slices) after the first, which compiles the step as well.\n"
    )


def accuracy_interval(cells: Sequence[GridCell], when: str) -> tuple[float, float] | None:
    """Interval of the accuracy "before" or "after" over the cells' test images."""
    return _interval(_images(cells), f"right_{when}")


def jaccard_interval(cells: Sequence[GridCell], when: str) -> tuple[float, float] | None:
    """Interval of the average Jaccard index "before" or "after" over the cells' marked test images."""
    return _interval(_images(cells), f"jaccard_{when}")


def _images(cells: Sequence[GridCell]) -> pd.DataFrame:
    """jaccard.csv of all cells, with `seed`, and `right_before`, `right_after` as 0 or 1."""
    tables = []
    for cell in cells:
        table = pd.read_csv(cell.run_dir / "jaccard.csv", dtype={"image": str, "label": str})
        right = {f"right_{when}": (table[f"predicted_{when}"].astype(str) == table["label"]).astype(float) for when in ("before", "after")}
        tables.append(table.assign(seed=cell.labels["seed"], **right))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _interval(table: pd.DataFrame, column: str) -> tuple[float, float] | None:
    """Bootstrap interval of a column's mean. An image in several seeds' test sets is one draw: it is no new evidence each time."""
    grouped = table.dropna(subset=[column]).groupby("image")[column]
    if not len(grouped):
        return None
    return bootstrap_interval(grouped.agg(["sum", "count"]).to_numpy(float), _ratio)


def _ratio(rows: np.ndarray) -> float:
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def _change(name: str, measure: str, table: pd.DataFrame) -> list[Any] | None:
    """A line of a change table: mean of the column `measure`, interval, number of images; None when it is empty."""
    values, interval = table[measure].dropna(), _interval(table, measure)
    if interval is None:
        return None
    return [name, measure, number(float(values.mean()), sign=True), interval_text(interval), len(values)]


def _own_interval(tables: Sequence[pd.DataFrame], column: str) -> tuple[float, float] | None:
    """The first slice's interval as slices.csv has it, for one seed."""
    if len(tables) > 1 or f"{column}_low" not in tables[0] or np.isnan(tables[0][f"{column}_low"].iloc[0]):
        return None
    return float(tables[0][f"{column}_low"].iloc[0]), float(tables[0][f"{column}_high"].iloc[0])


def _mean_slices(cells: Sequence[GridCell]) -> dict[str, pd.DataFrame]:
    """slices.csv of each objective, the mean over seeds."""
    found: dict[str, list[pd.DataFrame]] = {}
    for cell in cells:
        found.setdefault(method(cell), []).append(pd.read_csv(cell.run_dir / "slices.csv"))
    return {name: pd.concat(tables).groupby("slice", as_index=False).mean(numeric_only=True) for name, tables in found.items()}


def _limit(cell: GridCell) -> int | None:
    return read_json(cell.run_dir / "config.json")["settings"].get("limit")


def _differences(cell: GridCell, tuned: bool = True) -> str | None:
    """In what the thesis's run differs from a cell; None where the data, the method or the number of images are others."""
    return paper.differences(read_json(cell.run_dir / "config.json"), "simulation", tuned)


def _beside(differs: str | None, printed: Mapping[str, float], name: str, source: str) -> Printed | None:
    """The printed cell, and in what its run `differs`; none beside other data, another method or a part of the images (None)."""
    return Printed(printed[name], source, differs) if differs is not None and name in printed else None


def _average(classes: int) -> str:
    return "average sensitivity" + (f" over {classes} classes" if classes else "")


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("sensitivity_", "sensitivity "))
