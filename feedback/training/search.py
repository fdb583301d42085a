"""The search over lambda (eq. 4.1 calls it a hyper-parameter "that can be search[ed]"): on validation, the test set is not looked at."""

import logging
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd

from common.report.tables import markdown, number
from common.runs.files import read_json
from common.runs.folder import Run
from feedback.experiments.search import SearchSettings
from feedback.experiments.simulate import SimulateSettings
from feedback.training.simulate import run_simulate

log = logging.getLogger(__name__)
COLUMNS = ("lambda", "jaccard", "balanced_accuracy", "auc", "accuracy", "selection")


def run_search(settings: SearchSettings) -> Path:
    """One `simulate` run for each of `lambdas`, in run folders of their own, then the choice; returns the search's folder.

    Chosen is the lambda whose kept epoch has the highest selection score: the validation Jaccard index where the balanced accuracy is
    kept (`KeptClassifier`). By the Jaccard index alone lambda 1 could hardly lose, and by the accuracy alone 0.
    """
    single = {item.name for item in fields(SimulateSettings)}
    folders = {}
    for weight in dict.fromkeys(settings.lambdas):
        inside = None if settings.run_dir is None else settings.run_dir / f"lambda-{weight:g}"
        chosen = SimulateSettings(**{name: value for name, value in vars(settings).items() if name in single})
        folders[weight] = run_simulate(replace(chosen, explanation_weight=weight, run_dir=inside))
    config = read_json(next(iter(folders.values())) / "config.json")
    recipe = {name: value for name, value in config["settings"].items() if name != "explanation_weight"}
    parts = (str(config["dataset"]), str(config["backbone"]), settings.balance, f"seed{settings.seed}")
    run_dir = None if settings.run_dir is None else settings.run_dir / "search"
    run = Run.open(
        "feedback",
        "search",
        {**recipe, "lambdas": list(folders)},
        run_dir=run_dir,
        name_parts=parts,
        fingerprint=config["data_fingerprint"],
    )
    if run.finished:
        return run.path
    table = search_table(folders)
    chosen_row = table.loc[table["selection"].idxmax()]
    run.write_csv("search.csv", table)
    synthetic = bool(config.get("synthetic"))
    shown = [[f"{line['lambda']:g}", *(number(line[name]) for name in COLUMNS[1:])] for line in table.to_dict("records")]
    run.write_text(
        "report.md",
        f"# Search over lambda\n\n{'Synthetic data. ' if synthetic else ''}Chosen on validation: **lambda {chosen_row['lambda']:g}** "
        f"(largest average Jaccard index whose balanced accuracy is at most {settings.allowed_drop:g} below the start's; a negative "
        "selection score says how much is missing). Validation images of the kept epochs; test images play no part.\n\n"
        + markdown([name.replace("_", " ") for name in COLUMNS], shown),
    )
    run.write_json("metrics.json", {"chosen": float(chosen_row["lambda"]), "synthetic": synthetic, "rows": table.to_dict("records")})
    run.finish()
    log.info("lambda %g has the best validation score", chosen_row["lambda"])
    return run.path


def search_table(folders: dict[float, Path]) -> pd.DataFrame:
    """One row a lambda: validation scores of the kept epoch."""
    rows = [{"lambda": weight, **read_json(folder / "metrics.json")["validation"]} for weight, folder in sorted(folders.items())]
    return pd.DataFrame(rows)[list(COLUMNS)]
