"""A study's table: rows of finished runs beside printed numbers, every two methods compared, and all of it as six small files.

A study's `tables.py` says which runs stand in which row (`TableRow`) and what is printed there; all else is the same for every table.
Rows of one block (a data set, or a data set with one network) are compared with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UsageError
from common.metrics.compare import Comparisons, compare, corrected_together
from common.metrics.draws import Key
from common.metrics.metric import Metric
from common.metrics.statistics import mean_and_deviation
from common.report.comparisons import comparisons_text, ranks_text
from common.report.markup import MISSING, Printed, Row, comparison_table, interval_text, markdown, number
from common.report.provenance import differs, provenance_text
from common.runs.finished import FoundRun, differences
from common.runs.publish import write_runs
from common.runs.reading import RunFolder, find_metric

__all__ = [
    "MISSING", "Printed", "Row", "TableRow", "comparison_table", "compare_rows", "interval_text", "markdown", "number", "write_table",
]  # fmt: skip

SYNTHETIC = "> **Synthetic data.** These numbers show that the procedure runs; they do not belong beside the printed ones.\n"
Scores = Callable[[FoundRun], pd.DataFrame]
MOST_FIGURES = 3


@dataclass(frozen=True)
class TableRow:
    """One method in one block.

    Attributes:
        name: the method; rows of one block are compared by it.
        block: where it is measured, such as "ham10000 · resnet50".
        runs: finished seeds of one recipe; () is shown as not run yet.
        printed: metric -> the document's number.
        document: fields of the recipe (dotted for nested ones) with the values of the printed run, such as {"dataset": "ham10000",
            "classes": 7, "backbone": "resnet50", "image_size": 224, "split": "paper", "limit": None}; where one is another the cell names
            it and no difference is taken.
        scores: scores per image (`image`, `score`, perhaps `group`) that are averaged and compared instead of a metric of the predictions,
            of each run; or one table, of a row that has no run; or either of them for each compared metric that the
            row has.
        fixed: no training noise (a centred blob): the scores of the first run stand beside every seed.
    """

    name: str
    block: str = ""
    runs: Sequence[FoundRun] = ()
    printed: Mapping[str, Printed] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)
    scores: Scores | pd.DataFrame | Mapping[str, Scores | pd.DataFrame] | None = None
    fixed: bool = False

    @property
    def empty(self) -> bool:
        return not self.runs and not isinstance(self.scores, pd.DataFrame)

    def scores_for(self, metric: str) -> Scores | pd.DataFrame | None:
        """How this row's images score in a compared metric; None: by its predictions."""
        return self.scores.get(metric) if isinstance(self.scores, Mapping) else self.scores


def write_table(
    folder: Path,
    title: str,
    rows: Sequence[TableRow],
    *,
    metrics: Sequence[str] = ("accuracy", "balanced_accuracy", "macro_f1"),
    compared: str | Metric | Sequence[str | Metric] | None = "macro_f1",
    baseline: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    ranks: bool = False,
    repeated_splits: bool = False,
    text: str = "",
    notes: Sequence[str] = (),
    figures: Mapping[str, Any] | None = None,
    left_out: str | None = None,
) -> Path:
    """Write report.md, table.csv, runs.json.xz, predictions.csv.xz, history.csv.xz and figures into `folder`; return report.md's path.

    Args:
        metrics: columns; keys of metrics.json, dotted for nested ones ("per_class.Parabasal.f1").
        compared: the metric, or metrics, that methods are compared by (Holm over all of them); None compares nothing.
        baseline, pairs: see `compare`. ranks: also average ranks over the blocks.
        repeated_splits: seeds have test images of their own, and `split_seed` may differ within a row.
        text: Markdown of the study's own, after the comparisons. notes: sentences at the end.
        figures: file stem -> matplotlib figure, at most three.
        left_out: see `write_runs`.

    Raises:
        UsageError: nothing is finished. ValueError: a row mixes recipes, or there are more than three figures.
    """
    figures = figures or {}
    if len(figures) > MOST_FIGURES:
        raise ValueError(f"expected at most {MOST_FIGURES} figures, got {len(figures)}")
    if all(row.empty for row in rows):
        raise UsageError(f"{folder}: no row of the table has a finished run yet")
    names = [_label(row) for row in rows]
    if len(set(names)) < len(names):
        raise ValueError(f"two rows of the table have one name: {next(name for name in names if names.count(name) > 1)}")
    for row in rows:
        _check_row(row, repeated_splits)
    measures = [] if compared is None else [compared] if isinstance(compared, str | Metric) else list(compared)
    options = {"baseline": baseline, "pairs": pairs, "repeated_splits": repeated_splits}
    each = [compare_rows(rows, measure, **options) for measure in measures]
    results = {result.metric.name: result for result in corrected_together([result for result in each if result is not None])}
    lines = _lines(rows, metrics, results)
    synthetic = any(line["synthetic"] for line in lines)
    parts = [f"# {title}\n", SYNTHETIC if synthetic else "", _text(lines, list(dict.fromkeys(line["metric"] for line in lines)))]
    if repeated_splits:
        parts.append("Repeated splits: each seed has test images of its own, and methods meet on equal ones only.\n")
    parts += [comparisons_text(result, results.values()) for result in results.values() if result.rows or result.left_out]
    parts += [ranks_text(result) for result in results.values() if ranks]
    parts += [text, "".join(f"- {note}\n" for note in notes)]
    parts.append("## What was run\n\n" + provenance_text([(_label(row), row.runs) for row in rows]))
    target = RunFolder(Path(folder))
    found = [result.frame().assign(kind="comparison") for result in results.values()]
    frame = pd.concat([pd.DataFrame(lines).assign(kind="row"), *found], ignore_index=True)
    target.write_table("table.csv", frame[["kind", *(name for name in frame if name != "kind")]])
    write_runs(target.path, title, [(_label(row), run) for row in rows for run in row.runs], _scored(rows, list(results)), left_out)
    for name, figure in figures.items():
        from common.report.plots import save

        save(figure, target.path / f"{name}.png")
        parts.append(f"![{name}]({name}.png)\n")
    return target.write_text("report.md", "\n".join(part for part in parts if part))


def compare_rows(
    rows: Sequence[TableRow],
    metric: str | Metric = "macro_f1",
    *,
    baseline: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    repeated_splits: bool = False,
) -> Comparisons | None:
    """`common.metrics.compare.compare` of the rows' runs, block by block; None where fewer than one row has any."""
    order = sorted({_repetition(run) for row in rows for run in row.runs})
    name = metric if isinstance(metric, str) else metric.name
    tables: dict[Key, pd.DataFrame] = {}
    for row in rows:
        scores = row.scores_for(name)
        if scores is None and row.scores is not None:
            continue  # scored in other metrics only
        if isinstance(scores, pd.DataFrame):
            tables[row.block, row.name, None] = scores
            continue
        for run in row.runs[:1] if row.fixed else row.runs:
            seed = order.index(_repetition(run)) if repeated_splits else run.seed
            tables[row.block, row.name, None if row.fixed else seed] = (
                _scores_of(row, run, name) if scores is not None else run.predictions()[0]
            )
    if not tables:
        return None
    return compare(tables, metric, baseline=baseline, pairs=pairs, repeated_splits=repeated_splits)


def _label(row: TableRow) -> str:
    return " · ".join(part for part in (row.block, row.name) if part)


def _repetition(run: FoundRun) -> tuple[int, int]:
    return int(run.value("split_seed") or 0), run.seed


def _check_row(row: TableRow, repeated_splits: bool) -> None:
    """The runs of a row are seeds of one recipe, on the same data."""
    allowed = {"split_seed"} if repeated_splits else set()
    differ = differences([{**run.recipe, "experiment": run.experiment, "data fingerprint": run.fingerprint} for run in row.runs])
    wrong = {key: values for key, values in differ.items() if key not in allowed}
    if wrong:
        key, values = next(iter(wrong.items()))
        raise ValueError(f"row {_label(row)} mixes recipes: {key} is {', '.join(map(str, dict.fromkeys(map(str, values))))}")
    if len({_repetition(run) for run in row.runs}) < len(row.runs):
        raise ValueError(f"row {_label(row)} holds a seed twice")


def _scores_of(row: TableRow, run: FoundRun, metric: str) -> pd.DataFrame:
    kept, scores = run.scores(_label(row), metric), row.scores_for(metric)
    if kept is not None:
        return kept
    assert callable(scores)
    return scores(run)


def _scored(rows: Sequence[TableRow], metrics: Sequence[str]) -> dict[tuple[str, str, Any], pd.DataFrame]:
    """(row, metric, `run.key` or None without a run) -> scores per image, of the rows that have some."""
    found = {}
    for row, metric in product(rows, metrics):
        scores = row.scores_for(metric)
        if isinstance(scores, pd.DataFrame):
            found[_label(row), metric, None] = scores
        elif scores is not None:
            found |= {(_label(row), metric, run.key): _scores_of(row, run, metric) for run in row.runs}
    return found


def _lines(rows: Sequence[TableRow], metrics: Sequence[str], results: Mapping[str, Comparisons]) -> list[dict[str, Any]]:
    """One dict per row and metric, baselines after the rows of their block."""
    lines: list[dict[str, Any]] = []
    for block in dict.fromkeys(row.block for row in rows):
        members = [row for row in rows if row.block == block]
        trivial: dict[str, Mapping[str, Any]] = {}
        for row in members:
            lines += _row_lines(row, metrics, results)
            for run in row.runs[:1]:
                trivial = {**run.metrics().get("baselines", {}), **trivial}
        for name, scores in trivial.items():
            for metric in metrics:
                _, value, interval = find_metric(scores, metric)
                if value is not None:
                    low, high = interval or (None, None)
                    lines.append({"block": block, "method": name, "metric": metric, "ours": value, "low": low, "high": high, "seeds": 1})
    for line in lines:
        line.setdefault("synthetic", False)
    return lines


def _row_lines(row: TableRow, metrics: Sequence[str], results: Mapping[str, Comparisons]) -> list[dict[str, Any]]:
    contents = [run.metrics() for run in row.runs]
    synthetic = any(content.get("synthetic") for content in contents)
    names: list[str] = list(dict.fromkeys([*metrics, *row.printed]))
    if row.scores is not None and not isinstance(row.scores, Mapping) and results:
        names = [*results, *(name for name in names if name in row.printed and name not in results)]
    lines = []
    for metric in names:
        values, low, high = [], None, None
        if metric in results and (row.scores is None or row.scores_for(metric) is not None):
            result = results[metric]
            values = [value for (block, method, _), value in result.scores.items() if (block, method) == (row.block, row.name)]
            low, high = result.intervals.get((row.block, row.name), (None, None))
        elif contents:
            found = [find_metric(content, metric) for content in contents]
            values = [value for _, value, _ in found if value is not None]
            low, high = (found[0][2] if len(found) == 1 else None) or (None, None)
        mean, deviation = mean_and_deviation(values) if values else (None, None)
        printed = row.printed.get(metric)
        other = _differs(row, printed, synthetic) if printed else ""
        lines.append({
            "block": row.block, "method": row.name, "metric": metric, "ours": mean, "deviation": deviation, "low": low, "high": high,
            "seeds": len(values), "printed": printed.value if printed else None,
            "difference": mean - printed.value if printed and mean is not None and not other else None,
            "differs": other or None, "source": printed.source if printed else None, "synthetic": synthetic,
        })  # fmt: skip
    return lines


def _differs(row: TableRow, printed: Printed, synthetic: bool) -> str:
    own = differs(row.runs[0], row.document, synthetic) if row.runs else ""
    return "; ".join(part for part in (own, printed.differs) if part)


def _text(lines: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> str:
    """The Markdown table: a row per method, for each metric ours and, where any is printed, the printed number and the difference."""
    with_printed = {line["metric"] for line in lines if line.get("printed") is not None}
    with_interval = {line["metric"] for line in lines if line.get("low") is not None}
    header = ["", "method"]
    for metric in metrics:
        name = metric.removeprefix("per_class.").replace("_", " ").replace(" f1", " F1")
        header += [
            name,
            *(["95 % interval"] if metric in with_interval else []),
            *(["printed", "difference"] if metric in with_printed else []),
        ]
    rows = []
    for block, method in dict.fromkeys((line["block"], line["method"]) for line in lines):
        mine = {line["metric"]: line for line in lines if (line["block"], line["method"]) == (block, method)}
        cells = [block, method]
        for metric in metrics:
            line = mine.get(metric, {})
            ours = number(line.get("ours"))
            cells.append(ours if line.get("deviation") is None else f"{ours} ± {number(line['deviation'])}")
            if metric in with_interval:
                cells.append(MISSING if line.get("low") is None else interval_text((line["low"], line["high"])))
            if metric in with_printed:
                cells += [number(line.get("printed")), line.get("differs") or number(line.get("difference"), sign=True)]
        rows.append([*cells, max((line.get("seeds") or 0) for line in mine.values())])
    if not any(row[0] for row in rows):
        header, rows = header[1:], [row[1:] for row in rows]
    holes = sum(not row[-1] for row in rows)
    note = f"\nNot run yet ({MISSING}): {holes} of {len(rows)}.\n" if holes else ""
    sources = ", ".join(dict.fromkeys(str(line["source"]) for line in lines if line.get("source")))
    note += (
        f"\nPrinted: {sources}. Ours: mean ± standard deviation over seeds; intervals over test images or their groups.\n"
        if sources
        else ""
    )
    return markdown([*header, "seeds"], rows, left=2 if header[0] == "" else 1) + note
