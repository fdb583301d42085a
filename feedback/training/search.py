"""The search over lambda (eq. 4.1 calls it a hyper-parameter "that can be search[ed]"): on validation, the test set is not looked at."""

import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd

from common.report.plots import curves, save
from common.report.tables import markdown, number
from common.runs import Run, read_json
from feedback.config import SimulateOptions

log = logging.getLogger(__name__)


def run_search(options: SimulateOptions) -> Path:
    """One `simulate` run for each --explanation-weight, in run folders of their own, then the choice; returns the search's folder.

    Chosen is the lambda with the highest mean of validation accuracy and validation Jaccard index: by the Jaccard index alone lambda 1
    could hardly lose, and by the accuracy alone 0.
    """
    from feedback.training.simulate import run_simulate

    weights = tuple(dict.fromkeys(options.explanation_weight))
    folders = {}
    for weight in weights:
        inside = None if options.run_dir is None else options.run_dir / f"lambda-{weight:g}"
        folders[weight] = run_simulate(replace(options, explanation_weight=(weight,), run_dir=inside))
    config = read_json(folders[weights[0]] / "config.json")
    settings = {**config["settings"], "explanation_weight": list(weights), "runs": [folder.name for folder in folders.values()]}
    name_parts = (str(config["dataset"]), str(config["backbone"]), str(config["settings"]["balance"]), f"seed{options.seed}")
    run_dir = None if options.run_dir is None else options.run_dir / "search"
    run = Run.open("feedback", "search", settings, run_dir=run_dir, name_parts=name_parts, fingerprint=config["data_fingerprint"])
    if run.finished:
        return run.path
    table = search_table(folders)
    chosen = table.loc[table["score"].idxmax()]
    run.write_csv("search.csv", table)
    synthetic = bool(config.get("synthetic"))
    lines = {
        name: (table["lambda"].tolist(), table[column].tolist())
        for name, column in (("accuracy", "validation_accuracy"), ("average Jaccard index", "validation_jaccard"), ("their mean", "score"))
    }
    save(curves(lines, "lambda", "on validation", "Search over lambda", synthetic=synthetic), run.path / "figures" / "search.png")
    shown = [[f"{line['lambda']:g}", *(number(line[name]) for name in table.columns[1:])] for line in table.to_dict("records")]
    run.write_text(
        "report.md",
        f"# Search over lambda\n\n{'Synthetic data. ' if synthetic else ''}Chosen on validation: **lambda {chosen['lambda']:g}** (highest "
        "mean of accuracy and average Jaccard index). The test columns play no part in the choice.\n\n"
        + markdown([name.replace("_", " ") for name in table.columns], shown)
        + "\n![search](figures/search.png)\n",
    )
    run.write_json("metrics.json", {"chosen": float(chosen["lambda"]), "synthetic": synthetic, "rows": table.to_dict("records")})
    run.finish()
    log.info("lambda %g has the best validation score", chosen["lambda"])
    return run.path


def search_table(folders: dict[float, Path]) -> pd.DataFrame:
    """One row a lambda: validation scores of the kept epoch, their mean as `score`, and the test scores for the record."""
    rows = []
    for weight, folder in sorted(folders.items()):
        metrics = read_json(folder / "metrics.json")
        kept = metrics["validation"]
        rows.append({
            "lambda": weight, "validation_accuracy": kept["accuracy"], "validation_jaccard": kept["jaccard"],
            "score": (kept["accuracy"] + kept["jaccard"]) / 2, "test_accuracy": metrics["accuracy"], "test_jaccard": metrics["jaccard"],
        })  # fmt: skip
    return pd.DataFrame(rows)
