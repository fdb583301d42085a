"""Cross-validation (`--folds`): the folds' test images together as one run, whose predictions are all out of fold."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.runs.finished import FoundRun
from common.runs.outcome import write_metrics
from common.runs.reading import RunFolder
from melanoma.training.scores import diagnosis_metrics, indicator_metrics, summary

log = logging.getLogger(__name__)
KEPT = ("outputs", "drawn", "indicators", "lesion_masks_for")  # of metrics.json: equal in all folds
TABLES = ("manifest.csv", "predictions.csv", "localisation.csv", "indicators.csv", "history.csv")


def pooled(runs: Sequence[FoundRun], target: Path) -> list[FoundRun]:
    """`runs` with those of one recipe, seed and cross-validation as one run, written into a folder below `target`; folds of an unfinished
    one are left out, and said.
    """
    found, folds = [], {}  # type: list[FoundRun], dict[str, dict[int, FoundRun]]
    for run in runs:
        if run.value("folds"):
            same = [run.experiment, run.seed, run.fingerprint, {name: value for name, value in run.recipe.items() if name != "fold"}]
            digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:6]
            folds.setdefault(digest, {})[run.value("fold")] = run
        else:
            found.append(run)
    for digest, parts in folds.items():
        first, wanted = next(iter(parts.values())), range(parts[min(parts)].value("folds"))
        if set(parts) == set(wanted):
            found.append(_pool([parts[number] for number in wanted], target / f"{first.experiment}-{digest}-seed{first.seed}"))
        else:
            missing = ", ".join(str(number) for number in wanted if number not in parts)
            log.info("left out: the folds beside %s, of which %s of %d is not finished", first.path, missing, len(wanted))
    return found


def _pool(parts: Sequence[FoundRun], path: Path) -> FoundRun:
    """One run folder from the runs of all folds, in order."""
    folder, first = RunFolder(path), parts[0]
    settings = {name: value for name, value in first.config["settings"].items() if name != "fold"}
    config = {**first.config, "settings": settings}
    folder.write_json("config.json", config)
    for name in TABLES:
        tables = [run.table(name, dtype=str, keep_default_na=False) for run in parts if (run.path / name).is_file()]
        if name == "manifest.csv":
            tables = [table[table["split"] == "test"] for table in tables]
        if name == "history.csv":
            tables = [table.assign(stage=[f"{stage}, fold {fold}" for stage in table["stage"]]) for fold, table in enumerate(tables)]
        if tables:
            folder.write_table(name, pd.concat(tables, ignore_index=True))
    judged = folder.read_table("indicators.csv") if folder.has("indicators.csv") else pd.DataFrame({"indicator": []})
    extra = diagnosis_metrics(folder.read_table("predictions.csv"), first.seed) | {
        "localisation": summary(folder.read_table("localisation.csv"), first.seed),
        "indicator_scores": indicator_metrics(judged, first.seed),
        **{name: first.metrics()[name] for name in KEPT if name in first.metrics()},
    }
    write_metrics(folder, first.seed, extra=extra)
    return FoundRun(path, config)
