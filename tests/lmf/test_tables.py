"""Rows of the printed tables: the paper's number stands beside the paper's problem and method, and beside nothing else."""

from pathlib import Path

import pytest

from common.report.provenance import differs
from common.runs.finished import FoundRun
from lmf import paper
from lmf.tables import rows_of


def row_of(**changes):
    """The row of one run of Table 3's HAM10000 cell, classes in the order that a run has them, by name."""
    counts = {name.lower(): number for name, number in paper.train_counts("ham10000").items()}
    settings = {
        "dataset": "ham10000",
        "backbone": "resnet50",
        "loss": "lmf",
        "split": "paper",
        "image_size": 224,
        "limit": None,
        "epochs": 100,
    }
    settings |= {"classes": sorted(counts), "class_counts": [counts[name] for name in sorted(counts)], "sampler": "shuffle", "seed": 0}
    (row,) = rows_of([FoundRun(Path("run"), {"study": "lmf", "experiment": "train", "settings": settings | changes})])
    return row


def test_a_run_of_the_papers_problem_differs_in_nothing() -> None:
    row = row_of()
    assert row.printed["macro_f1"].value == pytest.approx(0.8243) and differs(row.runs[0], row.document) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "balanced"}, "sampler balanced, not shuffle"),
        ({"image_size": 112}, "image size 112, not 224"),
        ({"epochs": 12}, "epochs 12, not 100"),
        ({"class_counts": [1, 2, 3]}, "class counts [1, 2, 3], not"),
    ],
)
def test_what_differs_is_named(changes, said) -> None:
    row = row_of(**changes)
    assert said in differs(row.runs[0], row.document)
