"""Tables 5.1 to 5.4 from finished runs: which runs make a row, and what is printed beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.metrics.statistics import bootstrap_interval, mean_and_deviation
from common.report.tables import Printed, Row, comparison_table, interval_text, markdown, number
from common.runs import read_json
from feedback import faithfulness, paper, reporting
from feedback.experiments.simulate import stored

MEASURES = {
    "accuracy": "accuracy", "average_sensitivity": "average sensitivity (balanced accuracy)", "auc": "AUC, one against the rest",
    "jaccard": "average Jaccard index",
}  # fmt: skip


def tables(runs: Sequence[Path]) -> str:
    """Tables 5.1 to 5.4 of finished runs of `simulate` and `slices`, seeds of one method in one row, as Markdown."""
    first = read_json(runs[0] / "config.json")
    parts = [setting_sentence(first), "## The untuned model\n\n" + base_table(runs[0])]
    for table, members in by_table(runs).items():
        title = "Table 5.4: slices of up-sampled data" if table == "slices" else _title(table)
        parts.append(f"## {title}\n\n" + balance_table(members, table))
        parts.append("Change of the test images by the feedback, over all seeds:\n\n" + change_table(members))
        parts.append(faithfulness_table(members))
    parts.append("## Maps that look at no image\n\n" + trivial_table(runs[0]))
    parts.append("## Time (section 5.10)\n\n" + minutes_table(runs))
    notes = reporting.leakage_notes(first, read_json(runs[0] / "metrics.json"))[:2]
    parts.append("## Overlap\n\n" + "".join(f"- {note}\n" for note in notes))
    return "\n".join(part for part in parts if part)


def by_table(runs: Sequence[Path]) -> dict[str, dict[str, list[Path]]]:
    """Balance, or "slices" -> row title -> runs that differ in their seed only. Balanced batches are of the unbalanced data."""
    found: dict[str, dict[str, list[Path]]] = {}
    for run in runs:
        config = read_json(run / "config.json")
        balance = str(config["settings"]["balance"])
        table = "slices" if config["experiment"] == "slices" else "none" if balance == "batches" else balance
        found.setdefault(table, {}).setdefault(method(config), []).append(run)
    return found


def method(config: Mapping[str, Any]) -> str:
    """A run's row title: its objective, and the kind of channel weights where that acts and is not the thesis's."""
    settings = stored(config["settings"])
    title = reporting.method_title(settings)
    different = settings.channel_weights == "differentiated" and settings.objective != "classification"
    return title + (", differentiated" if different and settings.gradient_scaling == "sum" else "")


def setting_sentence(config: Mapping[str, Any]) -> str:
    """What all runs have in common."""
    settings = config["settings"]
    masks = ", ".join(str(name).removeprefix("mask_") for name in settings["masks"])
    adapted = f"adapted for {settings['adapt_epochs']} epochs; " if settings.get("adapt_epochs") else ""
    return (
        f"{config['dataset']}, {settings['backbone']} at {settings['image_size']} px, base trained on {settings['base_dataset']}; {adapted}"
        f"split {settings['split']}, masks: {masks}; {config.get('machine')} ({config.get('backend')}). Intervals: 95 %, bootstrap over "
        "lesions; an image that is in several seeds' test sets is one draw.\n"
    )


def base_table(run: Path) -> str:
    """Table 5.3, row 2: the model before the feedback on the whole simulation set."""
    config, metrics = read_json(run / "config.json"), read_json(run / "metrics.json")
    whole, printed = metrics["before_whole_set"], paper.simulation_row("upsampled", None)
    values = {
        "accuracy": (whole["accuracy"], whole["accuracy_interval"]),
        "average_sensitivity": (whole["average_sensitivity"], whole["average_sensitivity_interval"]),
        "jaccard": (whole["jaccard"]["mean"], whole["jaccard"]["interval"]),
    } | {f"sensitivity_{name}": (value, None) for name, value in whole["sensitivity"].items()}
    differs = paper.differences(config, "simulation", tuned=False)
    rows = [
        Row(f"whole simulation set: {MEASURES.get(name, name.replace('_', ' '))}", value, interval,
            _beside(differs, printed, name, "thesis, Table 5.3, row 2"), synthetic=bool(metrics["synthetic"]))
        for name, (value, interval) in values.items()
    ]  # fmt: skip
    return comparison_table(rows)


def balance_table(rows_of_runs: Mapping[str, Sequence[Path]], table: str) -> str:
    """One of Tables 5.1 to 5.4: the model before the feedback and each method, mean and deviation over seeds, beside the printed cell."""
    rows: list[Row] = []
    before = [run for runs in rows_of_runs.values() for run in runs]
    for title, runs in {"before": before, **rows_of_runs}.items():
        when = "before" if title == "before" else "after"
        config = read_json(runs[0] / "config.json")
        printed, source = printed_row(config, table, tuned=when == "after")
        differs = paper.differences(config, "simulation", tuned=when == "after")
        found = [read_json(run / "metrics.json") for run in runs]
        seeds = len({run_config["seed"] for run_config in (read_json(run / "config.json") for run in runs)})
        names = [*MEASURES, "jaccard_deviation", *(f"sensitivity_{name}" for name in found[0][when]["sensitivity"])]
        for name in names:
            values = [value for one in found if (value := _value(one[when], name)) is not None]
            if not values:
                continue
            mean, deviation = mean_and_deviation(values) if when == "after" else (values[0], None)
            label = f"{title}: {MEASURES.get(name, name.replace('_', ' '))}"
            interval = pooled_interval(runs, when, name)
            rows.append(Row(label, mean, interval, _beside(differs, printed, name, source), deviation, seeds, bool(found[0]["synthetic"])))
    return comparison_table(rows)


def printed_row(config: Mapping[str, Any], table: str, tuned: bool) -> tuple[Mapping[str, float], str]:
    """The printed cell of a row and where it stands; nothing where the thesis has no such row."""
    settings = stored(config["settings"])
    if table == "slices":
        return (paper.slice_rows(settings.objective)[19] if tuned else {}), "thesis, Table 5.4, slice 19"
    if tuned and (settings.balance == "batches" or settings.adapt_epochs):
        return {}, ""
    return paper.simulation_row(table, settings.objective if tuned else None), f"thesis, {paper.table_title(table)}"


def change_table(rows_of_runs: Mapping[str, Sequence[Path]]) -> str:
    """Per method: after minus before, with an interval over lesions, and the seeds' own changes."""
    lines = []
    for title, runs in rows_of_runs.items():
        changes = [read_json(run / "metrics.json")["change"] for run in runs]
        for name, said in MEASURES.items():
            values = [one[name]["value"] for one in changes if name in one]
            if not values:
                continue
            interval = changes[0][name]["interval"] if len(values) == 1 else pooled_change(runs, name)
            seeds = ", ".join(number(value, 3, sign=True) for value in values)
            lines.append([title, said, number(sum(values) / len(values), sign=True), interval_text(interval), seeds])
    return markdown(("method", "", "change", "95 % interval", "seeds"), lines, left=2)


def pooled_interval(runs: Sequence[Path], when: str, name: str) -> tuple[float, float] | None:
    """Interval of accuracy or Jaccard index over the lesions of all seeds' test images; of the first seed for the other measures."""
    column = {"accuracy": "right", "jaccard": "jaccard"}.get(name)
    if column is None:
        return tuple(read_json(runs[0] / "metrics.json")[when].get(f"{name}_interval") or ()) or None  # type: ignore[return-value]
    table = images(runs).dropna(subset=[f"{column}_{when}"])
    if table.empty:
        return None
    values = table.groupby(["image", "group"], as_index=False)[f"{column}_{when}"].mean()
    return bootstrap_interval(values[f"{column}_{when}"].to_numpy(float), groups=values["group"].to_numpy())


def pooled_change(runs: Sequence[Path], name: str) -> tuple[float, float] | None:
    """Interval of the change of accuracy or Jaccard index, the seeds' mean for each image; None for measures that are no mean."""
    column = {"accuracy": "right", "jaccard": "jaccard"}.get(name)
    if column is None:
        return None
    table = images(runs)
    table["change"] = table[f"{column}_after"] - table[f"{column}_before"]
    values = table.dropna(subset=["change"]).groupby(["image", "group"], as_index=False)["change"].mean()
    return bootstrap_interval(values["change"].to_numpy(float), groups=values["group"].to_numpy())


def images(runs: Sequence[Path]) -> pd.DataFrame:
    """jaccard.csv of all runs, with `right_before` and `right_after` as 0 or 1."""
    tables = []
    for run in runs:
        table = pd.read_csv(run / "jaccard.csv", dtype={"image": str, "label": str, "group": str})
        right = {f"right_{when}": (table[f"predicted_{when}"].astype(str) == table["label"]).astype(float) for when in ("before", "after")}
        tables.append(table.assign(**right))
    return pd.concat(tables, ignore_index=True)


def faithfulness_table(rows_of_runs: Mapping[str, Sequence[Path]]) -> str:
    """Deletion and insertion before and after the feedback, beside a random map; "" where no run measured them (--faithfulness)."""
    lines = []
    for title, runs in rows_of_runs.items():
        tables = [pd.read_csv(run / faithfulness.FILE, dtype={"image": str}) for run in runs if (run / faithfulness.FILE).is_file()]
        if not tables:
            continue
        # An image that several seeds measured is one draw.
        found = faithfulness.summary(pd.concat(tables).groupby("image", as_index=False).mean(numeric_only=True))
        for name in ("deletion_minus_random", "insertion_minus_random"):
            sides = [f"{number(found[when][name])} {interval_text(found[when][f'{name}_interval'])}" for when in ("before", "after")]
            lines.append([title, faithfulness.ROWS[name], *sides, found["after"]["images"]])
    if not lines:
        return ""
    return f"Faithfulness of the maps. {faithfulness.READING}\n" + markdown(("method", "", "before", "after", "images"), lines, left=2)


def trivial_table(run: Path) -> str:
    """Jaccard index of the maps that look at no image."""
    found = read_json(run / "metrics.json")["trivial"]
    lines = [
        [title, number(found[name]["mean"]), interval_text(found[name]["interval"])] for name, title in reporting.TRIVIAL_TITLES.items()
    ]
    return markdown(("map", "average Jaccard index", "95 % interval"), lines)


def minutes_table(runs: Sequence[Path]) -> str:
    """Minutes of an epoch and of a slice beside the thesis's; machines, networks and sizes differ, so no difference is taken."""
    lines = []
    for table, members in by_table(runs).items():
        unit = "slice" if table == "slices" else "epoch"
        for title, group in members.items():
            metrics = [read_json(run / "metrics.json") for run in group]
            count = metrics[0]["images_per_slice"] if unit == "slice" else sum(metrics[0]["training_images"].values())
            mean, _ = mean_and_deviation([one[f"minutes_per_{unit}"] for one in metrics])
            objective = stored(read_json(group[0] / "config.json")["settings"]).objective
            lines.append([f"{table}, {title}", unit, count, f"{mean:.2f}", len(group), paper.minutes(objective, unit)])
    header = ("run", "of one", "training images", "minutes, ours", "seeds", "minutes, thesis (GTX Titan, 4600 images or 230)")
    return markdown(header, lines) + "\nOurs: the median of the epochs (slices) after the first, which compiles the step as well.\n"


def _title(balance: str) -> str:
    return f"{paper.table_title(balance)}: {reporting.BALANCE_TITLES[balance]}"


def _value(side: Mapping[str, Any], name: str) -> float | None:
    if name.startswith("sensitivity_"):
        return side["sensitivity"].get(name.removeprefix("sensitivity_"))
    if name.startswith("jaccard"):
        return side["jaccard"]["deviation" if name == "jaccard_deviation" else "mean"]
    return side[name]


def _beside(differs: str | None, printed: Mapping[str, float], name: str, source: str) -> Printed | None:
    """The printed cell, and in what its run `differs`; none beside other data, another method or a part of the images (None)."""
    return Printed(printed[name], source, differs) if differs is not None and name in printed else None
