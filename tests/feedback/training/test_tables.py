"""The grid of Tables 5.1 to 5.4 with a very small base."""

from dataclasses import replace

import pandas as pd
import pytest

from common.cli import main
from common.runs.grid import GridOutcome
from feedback.__main__ import COMMANDS
from feedback.experiments import tables as table_settings
from feedback.training import tables
from feedback.training.simulate import run_simulate
from feedback.training.tables import cells_of, run_tables


def test_one_table_in_this_process(sample_cache, small_base, tmp_path, monkeypatch, capsys):
    def here(cells, where):
        for cell in cells:
            run_simulate(replace(cell.settings, run_dir=cell.run_dir))
        return GridOutcome(len(cells), 0, len(cells))

    monkeypatch.setattr(tables, "run_grid", here)
    words = ["tables", "--base", str(small_base), "--layer", "conv2", "--reduced-epochs", "1", "--batch-size", "16", "--limit", "24",
             "--objectives", "explanation", "--balances", "reduced", "--cache-dir", str(sample_cache),
             "--run-dir", str(tmp_path / "run")]  # fmt: skip
    assert main("feedback", COMMANDS, words) == 0
    assert "1 of 1 runs" in (tmp_path / "run" / "report.md").read_text()
    text = (tmp_path / "run" / "table-5-2" / "report.md").read_text()
    for said in ("# Table 5.2: reduced balanced data", "## Time", "mean training mask", "average sensitivity", "synthetic data"):
        assert said in text
    capsys.readouterr()
    with monkeypatch.context() as patched:  # finished means finished for the same data
        patched.setattr(tables, "fingerprint", lambda _: "of other images")
        assert main("feedback", COMMANDS, words) == 2 and "finished for other data" in capsys.readouterr().err
    assert main("feedback", COMMANDS, words) == 0
    regions = pd.read_csv(tmp_path / "run" / "table-5-2-regions" / "table.csv")
    assert regions["ours"].notna().any() and (tmp_path / "run" / "table-5-2" / "curves.png").is_file()


@pytest.mark.slow
def test_tables(sample_cache, small_base, tmp_path):
    options = replace(
        table_settings.default("described", "sample"), base=small_base, layer="conv2", epochs=1, batch_size=16, cache_dir=sample_cache,
        run_dir=tmp_path / "tables", objectives=("explanation",), balances=("reduced",), slices=2, slice_epochs=1,
    )  # fmt: skip
    folder = run_tables(options)
    for name in ("table-5-2", "table-5-4", "table-5-2-regions", "table-5-4-regions"):
        assert "Synthetic data" in (folder / name / "report.md").read_text()
    # Everything is there: the same command changes nothing.
    before = (folder / "report.md").stat().st_mtime_ns
    assert run_tables(options) == folder and (folder / "report.md").stat().st_mtime_ns == before


def test_the_cells_of_the_grid(small_base, tmp_path):
    options = replace(
        table_settings.default("corrected", "isic2018"), base=small_base, data_dir=tmp_path, epochs=3, seeds=(0, 1), slices=2,
        balances=("none", "upsampled"), faithfulness=4, kinds=("constant",),
    )  # fmt: skip
    cells = cells_of(options, tmp_path)
    assert len(cells) == 2 * (4 + 3 + 3) and len({cell.run_dir for cell in cells}) == len(cells)
    terms = {"classification": (1.0, 0.0), "explanation": (0.0, 1.0), "combined": (0.7, 0.3), "balanced-combined": (1.0, 0.3)}
    for cell in cells:
        found, balance, objective = cell.settings, cell.labels["balance"], cell.labels["objective"]
        assert (found.faithfulness, found.seed, found.split) == (4, cell.labels["seed"], "grouped")
        assert found.balance == {"slices": "upsampled"}.get(balance, "batches" if objective == "balanced-combined" else balance)
        assert found.weights_of_terms == terms[objective]
        assert found.anchor_weight == (4.0 if objective == "balanced-combined" else 0.0)
