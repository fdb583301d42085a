"""The decision table: the same trained models with the largest probability and with the least expected cost, image by image.

`tables` writes it into `decisions/` where a method is given `--<method>.decision minimum-cost` with the costs of mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cervical.experiments.base import CellTraining
from common.metrics.classification import class_indices
from common.metrics.decision import ARGMAX, MINIMUM_COST, decisions
from common.metrics.metric import Metric
from common.report.markup import markdown
from common.report.tables import TableRow, write_table
from common.runs.finished import FoundRun
from common.runs.outcome import GROUP, probabilities_of

COST = Metric("expected_cost", of_confusion=lambda matrix: np.full(matrix.shape[:-2], np.nan), higher_is_better=False)
"""A label for scores per image, of which less is better."""


def write_decisions(
    folder: Path, rows: Sequence[TableRow], settings: CellTraining, costs: np.ndarray, kinds: Mapping[str, Sequence[str]]
) -> Path:
    """Both rules for the finished runs of `rows`, as a table of its own in `folder`; returns report.md.

    costs: `(K, K)` in the order of the runs' classes, rows the truth; read from `settings.decision_costs`.
    """
    blocks = {row.block for row in rows}
    found = [each for row in rows for each in decision_rows(row.runs, costs, kinds, row.block, f"{row.name}, ")]
    pairs = [(f"{name}, {ARGMAX}", f"{name}, {MINIMUM_COST}") for name in dict.fromkeys(row.name for row in rows)]
    classes = rows[0].runs[0].predictions()[1]
    lines = [[name, *(f"{cost:g}" for cost in line)] for name, line in zip(classes, costs, strict=True)]
    measures = compared(kinds)
    return write_table(
        folder,
        f"Decisions that know what a mistake costs ({', '.join(sorted(blocks))})",
        found,
        metrics=[str(getattr(each, "name", each)) for each in measures],
        compared=measures,
        pairs=pairs,
        text=f"## The costs ({Path(str(settings.decision_costs)).name})\n\nTruth in rows, decision in columns.\n\n"
        + markdown(("", *classes), lines),
        notes=["Minimum cost: the class k with the least Σ_j p_j C[j, k] (Elkan 2001, eq. 1); nothing is trained anew."],
    )


def decision_rows(
    runs: Sequence[FoundRun], cost_matrix: np.ndarray, kinds: Mapping[str, Sequence[str]], block: str, trained: str = ""
) -> list[TableRow]:
    """Two rows, one for each rule, of the seeds of one method; scored are accuracy, cost, and each kind's sensitivity and specificity.

    cost_matrix: `(K, K)` in the order of the runs' classes, rows the truth. trained: put before the rule in the row's name.
    """
    each = scores(cost_matrix, kinds)
    by_rule = {rule: {name: partial(score, rule=rule) for name, score in each.items()} for rule in (ARGMAX, MINIMUM_COST)}
    return [TableRow(f"{trained}{rule}", block, runs, scores=own) for rule, own in by_rule.items()]


def compared(kinds: Mapping[str, Sequence[str]]) -> list[str | Metric]:
    """What the rows are compared by."""
    return ["accuracy", COST, *(f"{kind} {score}" for kind in kinds for score in ("sensitivity", "specificity"))]


def scores(cost_matrix: np.ndarray, kinds: Mapping[str, Sequence[str]]) -> dict[str, Callable[..., pd.DataFrame]]:
    """Metric -> the score of each test image under a rule; sensitivity is of the kind's images, specificity of the others."""
    found: dict[str, Callable[..., pd.DataFrame]] = {
        "accuracy": partial(_scored, value=lambda truth, called, classes: truth == called),
        "expected_cost": partial(_scored, value=lambda truth, called, classes: np.asarray(cost_matrix)[truth, called]),
    }
    for kind, names in kinds.items():
        found[f"{kind} sensitivity"] = partial(_scored, value=partial(_kind, names=names), inside=names, matters=True)
        found[f"{kind} specificity"] = partial(_scored, value=partial(_kind, names=names), inside=names, matters=False)
    return {name: partial(score, cost_matrix=cost_matrix) for name, score in found.items()}


def _kind(truth: np.ndarray, called: np.ndarray, classes: Sequence[str], names: Sequence[str]) -> np.ndarray:
    members = [classes.index(name) for name in names]
    return np.isin(truth, members) == np.isin(called, members)


def _scored(
    run: FoundRun,
    rule: str,
    cost_matrix: np.ndarray,
    value: Callable[..., np.ndarray],
    inside: Sequence[str] | None = None,
    matters: bool = True,
) -> pd.DataFrame:
    table, classes = run.predictions()
    truth = class_indices(table["label"], classes)
    called = decisions(probabilities_of(table, classes), cost_matrix)[rule]
    found = table[["image", *([GROUP] if GROUP in table else [])]].assign(score=np.asarray(value(truth, called, classes), float))
    return found if inside is None else found[(table["label"].isin(inside) == matters).to_numpy()].reset_index(drop=True)
