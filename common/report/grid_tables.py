"""Tables from the finished cells of a grid: mean ± deviation over seeds beside the printed number, and methods against each other."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from common.errors import UsageError
from common.metrics.classification import class_indices, class_scores, confusions_by_group
from common.metrics.pair import Comparison, compare_runs, verdict
from common.metrics.statistics import (
    RESAMPLES,
    Difference,
    group_counts,
    holm,
    mean_and_deviation,
    percentile_interval,
)
from common.report.markup import MISSING, Printed, Row, comparison_table, markdown, number
from common.report.report import find_metric
from common.runs.grid import GridCell
from common.runs.outcome import GROUP, read_predictions
from common.runs.reading import RunFolder

Key = tuple[Any, ...]
# What two methods were compared at (values of `pair_by`), the second one's name, and the outcome.
Compared = tuple[Key, Any, Comparison]
SCORES = ("precision", "recall", "f1")


def grouped(cells: Sequence[GridCell], by: Sequence[str]) -> dict[Key, list[GridCell]]:
    """Cells that agree in the labels `by` (all but the seed, usually), in the order of their first appearance."""
    groups: dict[Key, list[GridCell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.labels.get(name) for name in by), []).append(cell)
    return groups


def seed_rows(
    cells: Sequence[GridCell],
    by: Sequence[str],
    metric: str = "accuracy",
    printed: Mapping[Key, Printed] | None = None,
    resamples: int = 1000,
) -> list[Row]:
    """One row a group of cells: mean and deviation of `metric` over its seeds, an interval, and the printed number of `printed[key]`.

    The interval of several seeds is that of `shared_interval`; of one seed the one in metrics.json. A group without any finished cell has
    `measured` None.
    """
    rows = []
    for key, group in grouped(cells, by).items():
        done = [cell for cell in group if (cell.run_dir / "metrics.json").is_file()]
        name, paper = " · ".join(str(part) for part in key), (printed or {}).get(key)
        if not done:
            rows.append(Row(name, None, printed=paper, seeds=0))
            continue
        contents = [RunFolder(cell.run_dir).read_json("metrics.json") for cell in done]
        found = [find_metric(content, metric) for content in contents]
        values = [value for _, value, _ in found if value is not None]
        if not values:
            raise UsageError(f"{done[0].run_dir / 'metrics.json'} holds no metric '{metric}'")
        mean, deviation = mean_and_deviation(values)
        interval = found[0][2] if len(done) == 1 else shared_interval(done, metric, resamples)
        synthetic = any(content.get("synthetic") for content in contents)
        rows.append(Row(name, mean, interval, paper, deviation, len(values), synthetic))
    return rows


def shared_interval(cells: Sequence[GridCell], metric: str, resamples: int = 1000, seed: int = 0) -> list[float] | None:
    """95 % bootstrap interval of a metric's mean over models.

    Each resample scores every model on the same test images and takes the mean; whole slides, lesions or patients are drawn where images
    share them. Where each seed has test images of its own, images (or slides) are drawn from all of them together, and a resample scores
    each model on those of its own test images that were drawn. None where two runs know an image by another label or group, and for a
    metric that the confusion matrix does not give.
    """
    tables = [read_predictions(cell.run_dir) for cell in cells]
    classes = tables[0][1]
    score = _score(metric, classes)
    if score is None or any(other != classes for _, other in tables):
        return None
    united = _united([table for table, _ in tables])
    if united is None:
        return None
    draws = group_counts(united.count, resamples, seed)
    return list(percentile_interval(np.mean([_scores(table, classes, units, draws, score) for table, units in united.tables], axis=0)))


class _United(NamedTuple):
    """Predictions of models with test images of their own: each table with the number of every row's unit, an image or a group."""

    tables: list[tuple[pd.DataFrame, np.ndarray]]
    count: int
    grouped: bool


def _united(tables: Sequence[pd.DataFrame]) -> _United | None:
    """Number the images, or their groups, of all tables together; None where two tables know an image by another label or group."""
    known = pd.concat([table[["image", "label"]] for table in tables]).drop_duplicates()
    named = pd.concat([table[["image", GROUP]] for table in tables if GROUP in table] or [pd.DataFrame({"image": [], GROUP: []})])
    named = named.drop_duplicates()
    if known["image"].duplicated().any() or named["image"].duplicated().any():
        return None
    # Resampling groups has a meaning where every image has one, some share theirs and not all share the same.
    by_group = len(named) == len(known) and 1 < named[GROUP].nunique() < len(named)
    unit_of = named.set_index("image")[GROUP] if by_group else known.set_index("image", drop=False)["image"]
    number_of = {name: place for place, name in enumerate(sorted(set(unit_of)))}
    return _United([(table, table["image"].map(unit_of).map(number_of).to_numpy()) for table in tables], len(number_of), by_group)


def _scores(
    table: pd.DataFrame, classes: Sequence[str], units: np.ndarray, draws: np.ndarray, score: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`(resamples,)` scores of one model, from how often each resample holds each unit, `draws` `(resamples, units)`."""
    truth, called = class_indices(table["label"], classes), class_indices(table["predicted"], classes)
    present = np.unique(units)
    matrices = confusions_by_group(truth, called, np.searchsorted(present, units), len(classes))
    return score((draws[:, present] @ matrices.reshape(len(present), -1)).reshape(len(draws), len(classes), len(classes)))


def _score(metric: str, classes: Sequence[str]) -> Callable[[np.ndarray], np.ndarray] | None:
    """The metric as a function of confusion matrices `(…, K, K)` that gives `(…)`; None when it is no such function."""
    if metric == "accuracy":
        return lambda matrix: np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum(axis=(-2, -1))
    if metric.startswith("macro_") and metric.removeprefix("macro_") in SCORES:
        return lambda matrix: _mean_where(class_scores(matrix)[metric.removeprefix("macro_")], matrix.sum(axis=-1) > 0)
    owner, _, score = metric.removeprefix("per_class.").rpartition(".")
    if metric.startswith("per_class.") and owner in classes and score in SCORES:
        return lambda matrix: class_scores(matrix)[score][..., classes.index(owner)]
    return None


def _mean_where(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Mean of `(…, K)` values over the classes that are there, `(…)`."""
    return (values * there).sum(axis=-1) / there.sum(axis=-1)


def _same_images(one: pd.DataFrame, two: pd.DataFrame) -> bool:
    """Whether two predictions tables hold the same images with the same labels."""
    first, second = (table[["image", "label"]].sort_values("image", ignore_index=True) for table in (one, two))
    return first.equals(second)


def compare_methods(cells: Sequence[GridCell], method: str, baseline: Any, pair_by: Sequence[str] = ("seed",)) -> list[Compared]:
    """Every finished cell against the one whose label `method` is `baseline` and whose labels `pair_by` are the same.

    Returns (values of `pair_by`, the method, comparison). Pairs with other test images are left out: they cannot be compared.
    """
    found = []
    for key, group in grouped(cells, pair_by).items():
        done = {cell.labels.get(method): cell for cell in group if (cell.run_dir / "predictions.csv").is_file()}
        base = done.pop(baseline, None)
        for name, cell in done.items():
            if base is None:
                break
            try:
                found.append((key, name, compare_runs(base.run_dir, cell.run_dir, (str(baseline), str(name)))))
            except UsageError:
                continue
    return found


def pooled_difference(first: Sequence[GridCell], second: Sequence[GridCell], seed: int = 0) -> Difference | None:
    """Mean accuracy of the seeds of `second` minus that of the seeds of `first`, bootstrapped over the test images.

    Resampled as in `shared_interval`. The two lists hold the same seeds in the same order, since only models of one seed are sure to be
    tested on the same images. None when nothing is finished or the test images differ.
    """
    found = _pooled(first, second, seed)
    return None if found is None else found[0]


def _pooled(first: Sequence[GridCell], second: Sequence[GridCell], seed: int = 0) -> tuple[Difference, int | None] | None:
    """`pooled_difference`, and the number of groups that it resamples (None: images)."""
    cells = [*first, *second]
    if not first or not second or not all((cell.run_dir / "predictions.csv").is_file() for cell in cells):
        return None
    read = [read_predictions(cell.run_dir) for cell in cells]
    one, two = [table for table, _ in read[: len(first)]], [table for table, _ in read[len(first) :]]
    if len(one) != len(two) or not all(_same_images(*pair) for pair in zip(one, two, strict=True)):
        return None
    classes = sorted({name for _, names in read for name in names})
    united, score = _united([*one, *two]), _score("accuracy", classes)
    if united is None or score is None:
        return None

    def mean(draws: np.ndarray) -> np.ndarray:
        scores = [_scores(table, classes, units, draws, score) for table, units in united.tables]
        return np.mean(scores[len(one) :], axis=0) - np.mean(scores[: len(one)], axis=0)

    (value,) = mean(np.ones((1, united.count)))
    interval = percentile_interval(mean(group_counts(united.count, RESAMPLES, seed)))
    return Difference(float(value), *interval), united.count if united.grouped else None


class MeanDifference(NamedTuple):
    """`method` against `baseline`: difference of the accuracies' means over `seeds` seeds, bootstrapped over the test images.

    groups: how many slides, lesions or patients were resampled; None where images were.
    """

    key: Key
    method: Any
    baseline: Any
    seeds: int
    difference: Difference
    groups: int | None = None


def compare_means(cells: Sequence[GridCell], method: str, baseline: Any, by: Sequence[str]) -> list[MeanDifference]:
    """Methods against `baseline` over all the seeds that both have finished, for each value of the labels `by`; from two seeds on."""
    found = []
    for key, group in grouped(cells, by).items():
        done: dict[Any, dict[Any, GridCell]] = {}
        for cell in group:
            if (cell.run_dir / "predictions.csv").is_file():
                done.setdefault(cell.labels.get(method), {})[cell.labels.get("seed")] = cell
        base = done.pop(baseline, {})
        for name, runs in done.items():
            seeds = [seed for seed in base if seed in runs]
            pooled = _pooled([base[seed] for seed in seeds], [runs[seed] for seed in seeds]) if len(seeds) > 1 else None
            if pooled is not None:
                found.append(MeanDifference(key, name, baseline, len(seeds), *pooled))
    return found


def resampled(groups: int | None) -> str:
    """What an interval resamples, for a table's cell."""
    return "images" if groups is None or pd.isna(groups) else f"{int(groups)} groups"


def means_text(found: Sequence[MeanDifference], by: Sequence[str]) -> str:
    """`compare_means` as markdown."""
    rows = [
        [
            *item.key,
            item.method,
            item.baseline,
            item.seeds,
            resampled(item.groups),
            number(item.difference.value, sign=True),
            f"[{item.difference.low:+.4f}, {item.difference.high:+.4f}]",
            ("better" if item.difference.value > 0 else "worse") if item.difference.excludes_zero else "no difference shown",
        ]
        for item in found
    ]
    note = (
        "\nMean accuracy of the method's seeds minus that of the baseline's; the interval resamples what it says, not seeds. Where each "
        "seed drew test images of its own, both methods are scored on those, and the resamples are drawn from all of them together.\n"
    )
    return (
        markdown((*by, "method", "against", "seeds", "resampled", "accuracy", "95 % interval", "accuracy says"), rows, left=len(by) + 2)
        + note
    )


def comparisons_frame(found: Sequence[Compared], pair_by: Sequence[str]) -> pd.DataFrame:
    """The comparisons of `compare_methods` as a table that a CSV can hold; `mcnemar_p_holm` is corrected for their number."""
    rows = []
    for key, name, item in found:
        rows.append(
            {
                **dict(zip(pair_by, key, strict=True)),
                "baseline": item.first,
                "method": name,
                "n": item.n,
                "groups": item.groups,
                "baseline_accuracy": item.accuracies[0],
                "method_accuracy": item.accuracies[1],
                "difference": item.accuracy.value,
                "low": item.accuracy.low,
                "high": item.accuracy.high,
                "macro_f1_difference": item.macro_f1.value,
                "macro_f1_low": item.macro_f1.low,
                "macro_f1_high": item.macro_f1.high,
                "only_baseline_right": item.test.only_first,
                "only_method_right": item.test.only_second,
                "mcnemar_p": item.test.p_value,
                "verdict": verdict(item.accuracy, item.second, item.first, "accuracy"),
            }
        )
    frame = pd.DataFrame(rows)
    if rows:
        frame["mcnemar_p_holm"] = holm(frame["mcnemar_p"].to_numpy())
    return frame


def comparisons_text(frame: pd.DataFrame, pair_by: Sequence[str]) -> str:
    """`comparisons_frame` as markdown; "better" and "worse" only where the interval excludes zero."""
    if frame.empty:
        return "No two finished cells share their test images yet.\n"
    words = {True: "better", False: "worse"}
    rows = []
    for line in frame.to_dict("records"):
        clear = line["low"] > 0 or line["high"] < 0
        rows.append(
            [
                *(line[name] for name in pair_by),
                line["method"],
                line["baseline"],
                line["n"],
                resampled(line["groups"]),
                number(line["difference"], sign=True),
                f"[{line['low']:+.4f}, {line['high']:+.4f}]",
                number(line["macro_f1_difference"], sign=True),
                f"[{line['macro_f1_low']:+.4f}, {line['macro_f1_high']:+.4f}]",
                f"{line['mcnemar_p']:.3g}",
                f"{line['mcnemar_p_holm']:.3g}",
                words[line["difference"] > 0] if clear else "no difference shown",
            ]
        )
    scores = ("accuracy", "95 % interval", "macro F1", "95 % interval", "McNemar p", "p (Holm)", "accuracy says")
    note = (
        "\nDifferences are method minus baseline. Intervals and the plain p hold for one comparison each; among many, some exclude zero by "
        "chance, which p (Holm) allows for. Where test images share a slide, lesion or patient the intervals resample these groups; "
        "McNemar's p takes images as independent, so there it may be too small.\n"
    )
    return markdown((*pair_by, "method", "against", "images", "resampled", *scores), rows, left=len(pair_by) + 2) + note


def rows_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a table that a CSV can hold, numbers unrounded."""
    return pd.DataFrame(
        [
            {
                "name": row.name,
                "ours": row.measured,
                "deviation": row.deviation,
                "seeds": row.seeds,
                "printed": row.printed.value if row.printed else None,
                "difference": row.difference,
                "low": row.interval[0] if row.interval else None,
                "high": row.interval[1] if row.interval else None,
                "source": row.printed.source if row.printed else None,
                "synthetic": row.synthetic,
            }
            for row in rows
        ]
    )


def write_tables(folder: Path, name: str, title: str, rows: Sequence[Row], text: str = "") -> Path:
    """`<name>.md` (title, a line on holes and on synthetic data, the table, `text`) and `<name>.csv` in `folder`; returns the .md."""
    target = RunFolder(Path(folder))
    target.write_table(f"{name}.csv", rows_frame(rows))
    parts = [f"# {title}\n"]
    if any(row.synthetic for row in rows):
        parts.append("> **Synthetic data.** These numbers show that the procedure runs; they do not belong beside the printed ones.\n")
    holes = [row.name for row in rows if row.measured is None]
    if holes:
        parts.append(f"Not run yet ({MISSING} in the table): {len(holes)} of {len(rows)}.\n")
    return target.write_text(f"{name}.md", "\n".join([*parts, comparison_table(rows), *([text] if text else [])]))
