"""From a model's probabilities to predictions.csv, and from predictions.csv alone to metrics.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.data.splits import by_field
from common.errors import UsageError
from common.metrics.classification import class_indices, classification_metrics, expected_cost, one_vs_rest
from common.runs.reading import RunFolder
from common.runs.schema import check_predictions

PREFIX = "prob_"
GROUP = "group"
# Seven decimals: finer than float32 softmax can tell, and the file reads back to the same numbers.
DECIMALS = 7
BASELINES = "baselines.csv"


def write_predictions(run: Any, manifest_rows: pd.DataFrame, probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Write predictions.csv: image, label, predicted (class names), then one `prob_<class>` column a class, in the order of `classes`.

    manifest_rows: the test rows with `image` and `label`, in the order of `probabilities` `(n, K)`, which are 0..1 and sum to 1. Where
    they have a `group` that several of them share, it stands after `predicted`: intervals then resample whole groups. A `field`, of several
    groups that show the same, takes its place.
    `predicted` is the largest of the probabilities as written, so it can be told from the file alone. Returns the table.
    Raises ValueError when the shapes do not fit or the rows are no probabilities.
    """
    table = predictions_table(manifest_rows, probabilities, classes)
    RunFolder.of(run).write_table("predictions.csv", table)
    return table


def predictions_table(manifest_rows: pd.DataFrame, probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """What `write_predictions` writes. Raises ValueError when the shapes do not fit or the rows are no probabilities."""
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.shape != (len(manifest_rows), len(classes)):
        raise ValueError(f"expected probabilities of shape {(len(manifest_rows), len(classes))}, got {rows.shape}")
    if not np.isfinite(rows).all() or (rows < -1e-3).any() or (np.abs(rows.sum(axis=1) - 1) > 2e-2).any():
        raise ValueError("expected probabilities: finite, not negative, each row summing to 1")
    rows = np.round(rows, DECIMALS)
    table = pd.DataFrame({"image": manifest_rows["image"].to_numpy(), "label": manifest_rows["label"].to_numpy()})
    table["predicted"] = np.asarray(classes, dtype=object)[rows.argmax(axis=1)]
    groups = _shared_groups(manifest_rows)
    if groups is not None:
        table[GROUP] = groups.to_numpy()
    for index, name in enumerate(classes):
        table[PREFIX + name] = rows[:, index]
    return table


def read_predictions(run: Any) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table of predictions.csv and its classes. UsageError when the file is missing or is not such a table.

    The column `group` is there only where test images share groups; where the file (of an older run) lacks it, it comes from the
    manifest.csv beside it, if there is one.
    """
    folder = RunFolder.of(run)
    # Class names stay text, also when they look like numbers or like "NA".
    text = {"image": str, "label": str, "predicted": str}
    table = folder.read_table("predictions.csv", dtype={**text, GROUP: str}, keep_default_na=False)
    classes = tuple(name.removeprefix(PREFIX) for name in table.columns if name.startswith(PREFIX))
    missing = [name for name in text if name not in table.columns]
    if missing or not classes:
        raise UsageError(f"{folder.path / 'predictions.csv'} lacks the column {(missing or [PREFIX + '<class>'])[0]}")
    if not len(table):
        raise UsageError(f"{folder.path / 'predictions.csv'} holds no image")
    manifest = folder.read_table("manifest.csv", dtype=str, keep_default_na=False) if folder.has("manifest.csv") else None
    check_predictions(folder.path / "predictions.csv", table, classes, manifest)
    groups = _shared_groups(table if GROUP in table else _manifest_rows(folder, table["image"]))
    table = table.drop(columns=GROUP, errors="ignore")
    if groups is not None:
        table.insert(table.columns.get_loc("predicted") + 1, GROUP, groups.to_numpy())
    return table, classes


def add_groups(run: Any) -> bool:
    """Bring an older predictions.csv up to date with the groups of manifest.csv; True when the file was changed.

    Every other column keeps its very digits.
    """
    folder = RunFolder.of(run)
    table, _ = read_predictions(folder)
    written = folder.read_table("predictions.csv", dtype=str, keep_default_na=False)
    if GROUP in written or GROUP not in table:
        return False
    written.insert(table.columns.get_loc(GROUP), GROUP, table[GROUP])
    folder.write_table("predictions.csv", written)
    return True


def _manifest_rows(folder: RunFolder, images: "pd.Series[str]") -> pd.DataFrame | None:
    """The rows of manifest.csv for these images, in their order; None where the manifest is missing, has no groups or lacks an image."""
    if not folder.has("manifest.csv"):
        return None
    manifest = folder.read_table("manifest.csv", dtype=str, keep_default_na=False)
    if not {"image", GROUP} <= set(manifest.columns):
        return None
    # An image may stand there several times, with copies of its class made up; its group is the same each time.
    rows = manifest.drop_duplicates("image").set_index("image").reindex(images)
    return None if rows[GROUP].isna().any() else rows.reset_index()


def _shared_groups(rows: pd.DataFrame | None) -> "pd.Series[str] | None":
    """The rows' groups; None where there are none, or each image is alone in its own, so that the column would say nothing."""
    if rows is None or GROUP not in rows:
        return None
    # Without a name there is nothing to share.
    names = by_field(rows)[GROUP].astype(str)
    groups = names.where(names != "", rows["image"].astype(str))
    return groups if groups.duplicated().any() else None


def probabilities_of(table: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """`(n, K)` float64 from a predictions table."""
    return table[[PREFIX + name for name in classes]].to_numpy(dtype=np.float64)


def write_metrics(run: Any, seed: int, cost_matrix: np.ndarray | None = None, extra: dict | None = None) -> dict:
    """Write metrics.json from predictions.csv, and return it. Data set, split and `synthetic` are copied from config.json.

    seed: of the bootstrap. cost_matrix: `(K, K)`, rows the truth; adds `expected_cost`. extra: anything else a study measured, merged
    at the top level; it may not replace a key that is computed here (ValueError). Both are remembered under `given`, so that
    `remake_metrics` needs nothing but the folder.
    """
    folder = RunFolder.of(run)
    table, classes = read_predictions(folder)
    config = folder.read_json("config.json") if folder.has("config.json") else {}
    try:
        probabilities, groups = probabilities_of(table, classes), table.get(GROUP)
        metrics = classification_metrics(table["label"], table["predicted"], probabilities, classes, seed, groups=groups)
    except ValueError as error:
        raise UsageError(f"{folder.path / 'predictions.csv'}: {error}") from None
    metrics |= {name: config.get(name) for name in ("study", "experiment", "dataset", "split")}
    metrics |= {
        "seed": config.get("seed", seed),
        "synthetic": bool(config.get("synthetic", False)),
        "one_vs_rest": one_vs_rest(table["label"], table["predicted"], probabilities_of(table, classes), classes),
    }
    if folder.has(BASELINES):
        metrics["baselines"] = _baseline_metrics(folder, classes, seed)
    if cost_matrix is not None:
        truth, called = class_indices(table["label"], classes), class_indices(table["predicted"], classes)
        metrics["expected_cost"] = expected_cost(truth, called, cost_matrix)
    taken = sorted(set(metrics) & set(extra or {}))
    if taken:
        raise ValueError(f"extra metrics would hide computed ones: {', '.join(taken)}")
    metrics |= extra or {}
    metrics["given"] = {"bootstrap_seed": seed, "cost_matrix": cost_matrix, "extra": extra or {}}
    folder.write_json("metrics.json", metrics)
    return folder.read_json("metrics.json")


def _baseline_metrics(folder: RunFolder, classes: Sequence[str], seed: int) -> dict[str, dict]:
    """Name of a baseline -> its averages and their intervals, from baselines.csv."""
    text = dict.fromkeys(("image", "label", "predicted", "baseline", GROUP), str)
    tables, path = folder.read_table(BASELINES, dtype=text, keep_default_na=False), folder.path / BASELINES
    missing = [
        column for column in ("image", "label", "predicted", "baseline", *(PREFIX + name for name in classes)) if column not in tables
    ]
    if missing:
        raise UsageError(f"{path} lacks the column {missing[0]}; the file is damaged: restore it, or start the run anew")
    found = {}
    for name, table in tables.groupby("baseline", sort=False):
        check_predictions(path, table, tuple(classes), None)
        scores = classification_metrics(
            table["label"], table["predicted"], probabilities_of(table, classes), classes, seed, groups=table.get(GROUP)
        )
        left_out = ("per_class", "confusion", "calibration", "classes")
        found[str(name)] = {key: value for key, value in scores.items() if key not in left_out}
    return found


def remake_metrics(path: Path) -> dict:
    """metrics.json again from predictions.csv, with the cost matrix and the extra values of the first time.

    A predictions.csv from before it had groups gets them from manifest.csv (`add_groups`), so that the intervals are of today's kind.
    """
    folder = RunFolder.existing(path)
    add_groups(folder)
    given = folder.read_json("metrics.json").get("given", {}) if folder.has("metrics.json") else {}
    seed = given.get("bootstrap_seed", folder.read_json("config.json").get("seed") or 0)
    return write_metrics(folder, int(seed), given.get("cost_matrix"), given.get("extra"))
