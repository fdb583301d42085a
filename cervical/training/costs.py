"""What a mistake costs: `--costs balanced|printed|FILE` to class costs `(K,)` or a full matrix `(K, K)`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cervical.paper import printed_costs
from common.errors import UsageError


def balanced_costs(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """`(K,)` n / (K n_c) from the training images a class; 1 for classes of equal size (scikit-learn's "balanced")."""
    counts = np.asarray(counts, dtype="float64")
    return counts.sum() / (len(counts) * counts)


def read_costs(choice: str, classes: Sequence[str], counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Costs in the order of `classes`: `(K,)`, or `(K, K)` with the truth in rows, the prediction in columns and a zero diagonal.

    Args:
        choice: "balanced" (from `counts`, the training images a class), "printed" (paper III-C.2), or a file: JSON `{class: cost}` or
            `{class: {class: cost}}`; CSV with rows `class,cost`, or a matrix with the predicted classes in its first line.

    Raises:
        UsageError: classes that the paper prints no cost for; a file that is no such table, lacks a class or holds a negative number.
    """
    if choice == "balanced":
        return balanced_costs(counts)
    if choice == "printed":
        printed = printed_costs()
        if set(classes) != set(printed):
            raise UsageError(
                "--costs printed: the paper prints costs for SIPaKMeD's five classes only; expected --costs balanced or a FILE"
            )
        return np.array([printed[name] for name in classes])
    path = Path(choice)
    try:
        table = _json_table(path) if path.suffix.lower() == ".json" else _csv_table(path)
        matrix = any(isinstance(row, dict) for row in table.values())
        costs = np.array([[table[a][b] for b in classes] if matrix else table[a] for a in classes], dtype="float64")
    except KeyError as missing:
        raise UsageError(f"--costs {path}: no entry for {missing}; expected every class: {', '.join(classes)}") from None
    except (OSError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise UsageError(f"--costs {path}: not a table of costs ({error}); expected class,cost rows or a matrix, CSV or JSON") from None
    if not np.isfinite(costs).all() or (costs < 0).any() or not costs.any():
        raise UsageError(f"--costs {path}: expected finite costs of 0 or more, not all 0")
    if costs.ndim == 2 and np.diag(costs).any():
        raise UsageError(f"--costs {path}: expected 0 on the diagonal of the matrix: a right answer costs nothing")
    return costs


def cost_matrix(costs: np.ndarray) -> np.ndarray:
    """`(K, K)` for the expected cost: a class cost is paid for every mistake on that class, whatever is predicted instead."""
    return costs if costs.ndim == 2 else costs[:, None] * (1 - np.eye(len(costs)))


def _json_table(path: Path) -> dict:
    table = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(table, dict):
        raise ValueError("expected an object")
    return table


def _csv_table(path: Path) -> dict:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(cell.strip() for cell in row)]
    if not rows:
        raise ValueError("it is empty")
    if max(len(row) for row in rows) == 2:
        if not _is_number(rows[0][1]):
            rows = rows[1:]  # a heading
        return {name: float(cost) for name, cost in rows}
    heading = rows[0][1:]
    return {row[0]: dict(zip(heading, map(float, row[1:]), strict=True)) for row in rows[1:]}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
