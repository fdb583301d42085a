"""`--decision`: costs and kinds of classes from files, and what a run's decisions come to, as a section of its report."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UsageError
from common.metrics.decision import ARGMAX, MINIMUM_COST, decision_metrics
from common.report.markup import MISSING, markdown, value_text
from common.runs.outcome import read_predictions, write_metrics
from common.runs.reading import RunFolder


def class_table(path: Path, option: str, what: str) -> dict[str, Any]:
    """A JSON object or CSV by class: class -> text, or class -> {class: text} for a matrix with the classes in its first line.

    Raises:
        UsageError: neither; names the option, the file and what it should hold.
    """
    try:
        if path.suffix.lower() == ".json":
            table = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
            if not isinstance(table, dict):
                raise ValueError("expected an object")
            return table
        return _csv_table(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path}: not a table of {what} ({error}); expected class,… rows or a matrix, CSV or JSON") from None


def _csv_table(path: Path) -> dict[str, Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    if not rows:
        raise ValueError("it is empty")
    if max(len(row) for row in rows) == 2:
        return _once([(name, value) for name, value in (rows[1:] if rows[0][0].lower() == "class" else rows)])
    return _once([(row[0], _once(list(zip(rows[0][1:], row[1:], strict=True)))) for row in rows[1:]])


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """ValueError for a class that stands there twice: which of its values is meant nobody knows."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"{next(name for name in found if [key for key, _ in pairs].count(name) > 1)} stands there twice")
    return found


def read_costs(path: Path, classes: Sequence[str], option: str = "--costs") -> np.ndarray:
    """Costs in the order of `classes`: `(K,)`, or `(K, K)` with the truth in rows, the decision in columns and a zero diagonal.

    Raises:
        UsageError: a file that is no such table, is of other classes, or holds a negative number.
    """
    table = class_table(path, option, "costs")
    matrix = any(isinstance(row, dict) for row in table.values())
    try:
        costs = np.array([[table[a][b] for b in classes] if matrix else table[a] for a in classes], dtype="float64")
    except KeyError as missing:
        raise UsageError(f"{option} {path}: no entry for {missing}; expected every class: {', '.join(classes)}") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{option} {path}: not a table of costs ({error}); expected class,cost rows or a matrix, CSV or JSON") from None
    others = sorted(set(table) - set(classes))
    if others:
        raise UsageError(f"{option} {path}: {others[0]} is no class here; expected {', '.join(classes)}")
    if not np.isfinite(costs).all() or (costs < 0).any() or not costs.any():
        raise UsageError(f"{option} {path}: expected finite costs of 0 or more, not all 0")
    if costs.ndim == 2 and np.diag(costs).any():
        raise UsageError(f"{option} {path}: expected 0 on the diagonal of the matrix: a right answer costs nothing")
    return costs


def cost_matrix(costs: np.ndarray) -> np.ndarray:
    """`(K, K)` for the expected cost: a class cost is paid for every mistake on that class, whatever is decided instead."""
    return costs if costs.ndim == 2 else costs[:, None] * (1 - np.eye(len(costs)))


def read_kinds(path: Path, classes: Sequence[str], option: str = "--kinds") -> dict[str, tuple[str, ...]]:
    """Kind -> its classes, from class,kind rows or a JSON object {class: kind}. UsageError where a class has none or is unknown."""
    table = {name: str(kind) for name, kind in class_table(path, option, "kinds").items()}
    missing, others = [name for name in classes if name not in table], sorted(set(table) - set(classes))
    if missing:
        raise UsageError(f"{option} {path}: no kind for {missing[0]}; expected every class: {', '.join(classes)}")
    if others:
        raise UsageError(f"{option} {path}: {others[0]} is no class here; expected {', '.join(classes)}")
    return {kind: tuple(name for name in classes if table[name] == kind) for kind in dict.fromkeys(table[name] for name in classes)}


def decision_of(
    runs: Sequence[Any], costs: np.ndarray | None = None, kinds: Mapping[str, Sequence[str]] | None = None, seed: int = 0
) -> dict[str, Any]:
    """`decision_metrics` of run folders that are seeds of one method. UsageError where their test images or classes differ."""
    found = [read_predictions(run) for run in runs]
    first, classes = found[0]
    for table, others in found[1:]:
        if others != classes or table["image"].tolist() != first["image"].tolist():
            raise UsageError("the runs' test images or classes differ: they are not seeds of one method on one split")
    matrix = None if costs is None else cost_matrix(costs)
    return decision_metrics([table for table, _ in found], classes, cost_matrix=matrix, kinds=kinds, seed=seed)


def write_decision(folder: RunFolder, costs_file: Path | None = None, kinds_file: Path | None = None) -> None:
    """Put what decisions by these costs come to, and these kinds' sensitivity, into metrics.json under `decision`.

    Without either what is there already is made again from predictions.csv.
    """
    given = folder.read_json("metrics.json").get("given", {})
    extra = given.get("extra") or {}
    before = extra.get("decision")
    classes = read_predictions(folder)[1]
    kinds = before.get("kinds") if before else None
    if kinds_file is not None:
        kinds = read_kinds(kinds_file, classes)
    costs = np.array(before["cost_matrix"]) if before and "cost_matrix" in before else None
    if costs_file is not None:
        costs = read_costs(costs_file, classes, "--decision-costs")
    if costs is None and kinds is None:
        return
    found = decision_of([folder], costs, kinds, int(given.get("bootstrap_seed") or 0))
    write_metrics(folder, int(given.get("bootstrap_seed") or 0), given.get("cost_matrix"), {**extra, "decision": found})


def decision_text(found: Mapping[str, Any]) -> str:
    """Markdown: both rules beside each other, and each kind's sensitivity and specificity."""
    rules = found["rules"]
    lines = [[rule, _cell(each["accuracy"]), _cell(each.get("expected_cost"))] for rule, each in rules.items()]
    parts = []
    if MINIMUM_COST in rules:
        gap = found["difference"]
        lines.append(["difference", _cell(gap["accuracy"], sign=True), _cell(gap["expected_cost"], sign=True)])
        parts.append(markdown(("decision", "accuracy", "expected cost"), lines))
        parts.append("Minimum cost: the class k with the least Σ_j p_j C[j, k]; the model is the same.\n")
    if found.get("kinds"):
        rows = []
        for kind, names in found["kinds"].items():
            for rule in (ARGMAX, MINIMUM_COST):
                if rule in rules:
                    each = rules[rule]["kinds"][kind]
                    who = f"{kind} ({', '.join(names)}; {found['images_of_kind'][kind]} images)"
                    rows.append([who, rule, _cell(each["sensitivity"]), _cell(each["specificity"])])
        parts.append(markdown(("kind", "decision", "sensitivity", "specificity"), rows, left=2))
    seeds = f", mean over {found['seeds']} seeds" if found["seeds"] > 1 else ""
    parts.append(f"95 % intervals: one bootstrap over test groups for both decisions{seeds}.\n")
    return "\n".join(parts)


def _cell(told: Mapping[str, Any] | None, sign: bool = False) -> str:
    return MISSING if told is None else value_text(told["value"], *(told["interval"] or ()), digits=4, sign="+" if sign else "")
