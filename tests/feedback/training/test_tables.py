"""The grid of Tables 5.1 to 5.4 with a very small base."""

import json

import pandas as pd
import pytest

from common.cli import main
from common.runs.grid import GridOutcome
from feedback.__main__ import COMMANDS
from feedback.config import AuditOptions, TablesOptions
from feedback.training import tables
from feedback.training.audit import run_audit
from feedback.training.tables import run_tables


def test_one_table_in_this_process(sample_cache, small_base, tmp_path, monkeypatch):
    def here(cells):
        for cell in cells:
            assert main("feedback", COMMANDS, cell.command()[3:]) == 0
        return GridOutcome(len(cells), 0, len(cells))

    monkeypatch.setattr(tables, "run_grid", here)
    words = ["tables", "--base", str(small_base), "--layer", "conv2", "--epochs", "1", "--batch-size", "16", "--limit", "24",
             "--objectives", "explanation", "--balances", "reduced", "--cache-dir", str(sample_cache),
             "--run-dir", str(tmp_path / "run")]  # fmt: skip
    assert main("feedback", COMMANDS, words) == 0
    text = (tmp_path / "run" / "report.md").read_text()
    for said in ("1 of 1 runs", "## The untuned model", "## Table 5.2", "## Time", "no printed number stands beside"):
        assert said in text
    assert pd.read_csv(tmp_path / "run" / "cells.csv")["jaccard"].notna().all()


@pytest.mark.slow
def test_tables(sample_cache, small_base, tmp_path):
    options = TablesOptions(
        base=small_base, layer="conv2", epochs=1, batch_size=16, cache_dir=sample_cache, run_dir=tmp_path / "tables",
        objectives=("explanation",), balances=("reduced",), slices=2, slice_epochs=1,
    )  # fmt: skip
    folder = run_tables(options)
    text = (folder / "report.md").read_text()
    for words in ("Synthetic data", "## Table 5.2", "## Table 5.4", "explanation, last slice: average Jaccard index", "centred ellipse"):
        assert words in text
    cells = pd.read_csv(folder / "cells.csv")
    assert cells["balance"].tolist() == ["reduced", "slices"] and cells["jaccard"].notna().all()
    assert (folder / "figures" / "slices.png").is_file() and (folder / "figures" / "curves_reduced.png").is_file()
    # Everything is there: the same command changes nothing.
    before = (folder / "report.md").stat().st_mtime_ns
    assert run_tables(options) == folder and (folder / "report.md").stat().st_mtime_ns == before


def test_audit(sample_cache, tmp_path):
    folder = run_audit(AuditOptions(cache_dir=sample_cache, run_dir=tmp_path / "audit"))
    found = json.loads((folder / "audit.json").read_text())
    assert found["synthetic"] and found["images"] == 179 and set(found["splits"]) == {"paper", "grouped"}
    assert "test | 16 | 0 | 16" in (folder / "overlap.md").read_text()
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "class_distribution_paper", "class_distribution_grouped", "class_distribution_reduced", "class_distribution_upsampled", "samples",
    }  # fmt: skip
