"""Tables 1 to 5 from the runs of a grid: measured beside printed, losses compared pair by pair, ranks over data sets; as Markdown."""

from collections.abc import Callable, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from common.metrics.classification import Ranks, average_ranks, holm, mean_and_deviation
from common.metrics.pair import Comparison, compare_runs, verdict
from common.report.grid_tables import comparisons_frame
from common.report.report import Printed, Row, comparison_table
from common.report.tables import MISSING, markdown, number
from common.runs.reading import RunFolder
from lmf import paper
from lmf.figures import title_of

# Table column -> key of metrics.json.
METRICS = {"accuracy": "accuracy", "precision": "macro_precision", "recall": "macro_recall", "macro_f1": "macro_f1"}
PARTS = ("train", "validation", "test")


_LMF = "lmf"


class Pair(NamedTuple):
    """`loss` against `other` on one data set, backbone and seed; `p_holm`: McNemar's p corrected for all pairs of the report."""

    dataset: str
    backbone: str
    seed: int
    loss: str
    other: str
    found: Comparison
    p_holm: float


def splits(cells: pd.DataFrame) -> str:
    """Table 1: images in each part, ours beside the printed. `cells` as from `grid.collect`: labels, `run` and metrics, a row a run."""
    rows = []
    for dataset, part in cells[cells["n"] > 0].groupby("dataset", sort=False):
        counts = RunFolder(Path(part["run"].iloc[0])).read_json("metrics.json")["images_per_split"]
        printed = paper.split_sizes(str(dataset)) or {}
        rows.append([title_of(str(dataset)), *(counts.get(name, 0) for name in PARTS), *(printed.get(name, MISSING) for name in PARTS)])
    header = ("", *PARTS, *(f"printed {name}" for name in PARTS))
    return markdown(header, rows)


def scores(cells: pd.DataFrame, backbone: str) -> str:
    """Table 2, 3 or 4: every data set and loss with one backbone; scores are shares, mean and deviation over seeds."""
    rows = []
    for (dataset, loss), part in cells[cells["backbone"] == backbone].groupby(["dataset", "loss"], sort=False):
        printed = paper.scores(str(dataset), backbone, str(loss))
        for score, metric in METRICS.items():
            known = part.dropna(subset=[metric])
            if not len(known):
                continue
            mean, deviation = mean_and_deviation(known[metric])
            # The interval of one run's test images; over several seeds the deviation stands in its place.
            interval = (known[f"{metric}_low"].iloc[0], known[f"{metric}_high"].iloc[0]) if len(known) == 1 else None
            rows.append(
                Row(
                    f"{title_of(str(dataset))}, {paper.LOSS_TITLES[str(loss)]}, {score.replace('_f1', ' F1')}",
                    mean,
                    interval if interval and pd.notna(interval[0]) else None,
                    Printed(printed[0][score] / 100, printed[1]) if printed else None,
                    deviation,
                    len(known),
                    synthetic=bool(part["synthetic"].any()),
                )
            )
    return comparison_table(rows) if rows else "No run of this backbone is finished.\n"


def classwise(cells: pd.DataFrame, dataset: str, backbone: str) -> str:
    """Table 5: F1 of each class, one column a loss (mean over seeds), the printed one in brackets where there is one."""
    part = cells[(cells["dataset"] == dataset) & (cells["backbone"] == backbone) & (cells["n"] > 0)]
    losses = list(dict.fromkeys(part["loss"]))
    found: dict[tuple[str, str], list[float]] = {}
    counts: dict[str, int] = {}
    for _, cell in part.iterrows():
        folder = RunFolder(Path(cell["run"]))
        settings = folder.read_json("config.json")["settings"]
        counts = dict(zip(settings["classes"], settings["class_counts"], strict=True))
        for name, values in folder.read_json("metrics.json")["per_class"].items():
            found.setdefault((name, cell["loss"]), []).append(values["f1"])
    rows = []
    for name, count in counts.items():
        row = [paper.printed_class(name), count]
        for loss in losses:
            values, printed = found.get((name, loss)), paper.class_f1(dataset, backbone, loss, name)
            text = number(sum(values) / len(values)) if values else MISSING
            row.append(f"{text} ({number(printed / 100)})" if printed is not None else text)
        rows.append(row)
    return markdown(("class", "train images", *(paper.LOSS_TITLES[loss] for loss in losses)), rows)


def pairs(cells: pd.DataFrame) -> list[Pair]:
    """Every two losses on the same test images: same data set, backbone and seed. In the paper's order, so LMF is the second of its pairs.

    `p_holm` is McNemar's p corrected by Holm's method for all the pairs returned.
    """
    done, found = cells[cells["n"] > 0], []
    for (dataset, backbone, seed), part in done.groupby(["dataset", "backbone", "seed"], sort=False):
        runs = dict(zip(part["loss"], part["run"], strict=True))
        for other, loss in combinations([name for name in paper.LOSS_TITLES if name in runs], 2):
            names = (paper.LOSS_TITLES[other], paper.LOSS_TITLES[loss])
            found.append((dataset, backbone, seed, loss, other, compare_runs(Path(runs[other]), Path(runs[loss]), names, int(seed))))
    corrected = holm([comparison.test.p_value for *_, comparison in found]) if found else ()
    return [Pair(*each, p_holm=float(p)) for each, p in zip(found, corrected, strict=True)]


def comparisons(found: Sequence[Pair]) -> str:
    """LMF against each other loss, where it was run, with what that allows to say; then every pair of losses in a few lines."""
    if not found:
        return "Nothing to compare: no two losses were run on the same data set, backbone and seed.\n"
    ours = [pair for pair in found if pair.loss == _LMF]
    return "\n".join([*([against_others(ours, len(found))] if ours else []), every_pair(found)])


def against_others(found: Sequence[Pair], family: int) -> str:
    """Differences LMF minus the other loss with paired bootstrap intervals and McNemar's p, corrected for `family` pairs; conclusions."""
    rows = []
    for pair in found:
        f1, accuracy = pair.found.macro_f1, pair.found.accuracy
        where = (title_of(pair.dataset), pair.backbone, pair.seed, f"{pair.found.second} - {pair.found.first}")
        spans = (f"[{gap.low:+.4f}, {gap.high:+.4f}]" for gap in (f1, accuracy))
        values = (number(f1.value, sign=True), next(spans), number(accuracy.value, sign=True), next(spans))
        rows.append([*where, *values, f"{pair.found.test.p_value:.3g}", f"{pair.p_holm:.3g}"])
    scores = ("macro F1", "95 % interval", "accuracy", "95 % interval", "McNemar p", "p (Holm)")
    lines = [f"- {sentence}\n" for sentence in conclusions(found)]
    if any(pair.found.groups for pair in found):
        lines.append(
            "\nWhere test images share a lesion or patient the intervals resample lesions or patients; McNemar's p takes images as "
            "independent, so there it may be too small.\n"
        )
    note = f"Intervals and the plain p hold for one comparison each; p (Holm) is corrected for all {family} pairs of losses.\n"
    return f"{markdown(('data set', 'backbone', 'seed', 'pair', *scores), rows, left=4)}\n{note}\n{''.join(lines)}"


def every_pair(found: Sequence[Pair]) -> str:
    """A square table a data set and backbone: above the diagonal differences in macro F1, below it p values; means over seeds."""
    parts = ["### Every pair of losses\n"]
    for (dataset, backbone), pairs_here in _grouped(found, lambda pair: (pair.dataset, pair.backbone)).items():
        by_pair = _grouped(pairs_here, lambda pair: (pair.other, pair.loss))
        losses = [name for name in paper.LOSS_TITLES if any(name in both for both in by_pair)]
        rows = []
        for line, row in enumerate(losses):
            below = [_p_value(by_pair.get((column, row))) for column in losses[:line]]
            above = [_gap(by_pair.get((row, column))) for column in losses[line + 1 :]]
            rows.append([paper.LOSS_TITLES[row], *below, MISSING, *above])
        parts.append(f"{title_of(dataset)}, {backbone}:\n\n{markdown(('', *(paper.LOSS_TITLES[loss] for loss in losses)), rows)}")
    parts.append(
        "Above the diagonal: macro F1 of the row's loss minus the column's, the mean over seeds; bold where the interval of every seed "
        "excludes zero on the same side. Below it: McNemar's p, the largest of the seeds, corrected by Holm's method for all "
        f"{len(found)} pairs. comparisons.csv has every number with its interval.\n"
    )
    return "\n".join(parts)


def comparisons_table(found: Sequence[Pair]) -> pd.DataFrame:
    """Every pair as a row of comparisons.csv: differences are `method` minus `baseline`, `mcnemar_p_holm` is corrected for all rows."""
    compared = [((pair.dataset, pair.backbone, pair.seed), pair.found.second, pair.found) for pair in found]
    return comparisons_frame(compared, ("dataset", "backbone", "seed"))


def _grouped(found: Sequence[Pair], key: Callable[[Pair], tuple[str, str]]) -> dict[tuple[str, str], list[Pair]]:
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
        groups.setdefault(key(pair), []).append(pair)
    return groups


def _gap(found: Sequence[Pair] | None) -> str:
    """Mean difference in macro F1, `other` minus `loss`; bold where every seed's interval lies on the same side of zero."""
    if not found:
        return MISSING
    gaps = [pair.found.macro_f1 for pair in found]
    text = number(-sum(gap.value for gap in gaps) / len(gaps), sign=True)
    return f"**{text}**" if all(gap.low > 0 for gap in gaps) or all(gap.high < 0 for gap in gaps) else text


def _p_value(found: Sequence[Pair] | None) -> str:
    return f"{max(pair.p_holm for pair in found):.3g}" if found else MISSING


def conclusions(found: Sequence[Pair]) -> list[str]:
    """One sentence a data set, backbone and rival: "better" or "worse" only where every seed's interval excludes zero that way."""
    said = []
    for key, group in pd.DataFrame(found).groupby(["dataset", "backbone", "loss", "other"], sort=False):
        dataset, backbone = map(str, key[:2])
        loss, other = (paper.LOSS_TITLES[str(name)] for name in key[2:])
        gaps = [comparison.macro_f1 for comparison in group["found"]]
        where = f"{title_of(dataset)}, {backbone}: "
        if len(gaps) == 1:
            said.append(where + verdict(gaps[0], loss, other, "macro F1"))
            continue
        better, worse = sum(gap.low > 0 for gap in gaps), sum(gap.high < 0 for gap in gaps)
        mean, deviation = mean_and_deviation([gap.value for gap in gaps])
        word = "better than" if better == len(gaps) else "worse than" if worse == len(gaps) else None
        start = f"{loss} is {word} {other} in macro F1 with every seed" if word else (
            f"no difference in macro F1 between {loss} and {other} is shown by all seeds"
        )  # fmt: skip
        said.append(
            f"{where}{start} (mean difference {mean:+.4f} ± {deviation:.4f} over {len(gaps)} seeds; "
            f"interval above zero in {better}, below zero in {worse})."
        )
    return said


def ranks(cells: pd.DataFrame) -> tuple[list[str], Ranks, list[str]] | None:
    """(losses, ranks, data sets): macro F1 averaged over backbones and seeds, ranked on each data set that has every loss.

    None with fewer than two such data sets or two losses: ranks over one data set have no spread.
    """
    losses = list(dict.fromkeys(cells["loss"]))
    table = (
        cells.pivot_table(index="dataset", columns="loss", values="macro_f1", aggfunc="mean", sort=False).reindex(columns=losses).dropna()
    )
    if table.shape[0] < 2 or table.shape[1] < 2:
        return None
    return losses, average_ranks(table.to_numpy()), [str(name) for name in table.index]


def ranking(cells: pd.DataFrame) -> str:
    """Average ranks, Friedman's test and Nemenyi's critical difference, and which pairs of losses differ by it."""
    found = ranks(cells)
    if found is None:
        return "Ranks need at least two data sets on which every loss was run.\n"
    losses, result, datasets = found
    ordered = sorted(zip(result.ranks, losses, strict=True))
    table = markdown(("loss", "average rank"), [(paper.LOSS_TITLES[loss], f"{rank:.2f}") for rank, loss in ordered])
    apart = [
        f"{paper.LOSS_TITLES[first]} and {paper.LOSS_TITLES[second]}"
        for (high, first), (low, second) in product(ordered, ordered)
        if low - high > result.critical_difference
    ]
    return (
        f"{table}\nOver {len(datasets)} data sets ({', '.join(title_of(name) for name in datasets)}): Friedman chi-squared "
        f"{result.friedman:.2f}, p = {result.p_value:.3g}; critical difference {result.critical_difference:.2f}. "
        f"{'Further apart than that: ' + ', '.join(apart) if apart else 'No two losses are further apart than that'}.\n"
    )
