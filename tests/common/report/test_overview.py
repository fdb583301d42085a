"""The README's table is made from run files and stands between its markers."""

import json
from pathlib import Path

import pytest

from common.report.overview import BEGIN, END, main, overview


def publish(folder: Path, accuracy: float, synthetic: bool = False) -> None:
    folder.mkdir(parents=True)
    config = {"study": "cervical", "experiment": "contrastive", "dataset": "sipakmed", "split": "paper", "seed": 3, "backbone": "vgg16"}
    (folder / "config.json").write_text(json.dumps({**config, "settings": {"loss": "npairs"}}))
    metrics = {"accuracy": accuracy, "accuracy_interval": [0.9, 0.95], "macro_f1": 0.91, "n": 812, "synthetic": synthetic}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "report.md").write_text("# A run\n")
    (folder / "report.json").write_text(json.dumps({"printed": {"accuracy": {"value": 0.9729, "source": "Table III"}}}))


def test_a_line_a_run_with_measured_and_printed(tmp_path: Path) -> None:
    publish(tmp_path / "results" / "b", 0.936)
    publish(tmp_path / "results" / "a", 0.5, synthetic=True)
    lines = overview(tmp_path / "results", "results/").splitlines()[2:]
    assert lines[1] == (
        "| [cervical contrastive: b](results/b/report.md) | sipakmed, paper, seed 3 | vgg16 | 812 "
        "| 0.936 (0.900 to 0.950) | 0.910 | 0.973 |"
    )
    assert "synthetic" in lines[0] and "results/a/report.md" in lines[0]
    printed = {"accuracy": {"value": 0.71, "source": "Table 5.3", "differs": "VGG16"}}
    (tmp_path / "results" / "b" / "report.json").write_text(json.dumps({"printed": printed}))
    assert overview(tmp_path / "results").splitlines()[-1].endswith("| 0.710 (VGG16) |")
    (tmp_path / "results" / "b" / "report.md").unlink()
    assert "](b) |" in overview(tmp_path / "results")


def test_only_what_is_between_the_markers_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path / "results" / "a", 0.5)
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    assert main([str(tmp_path / "results"), str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("above\n") and text.endswith("\nbelow\n") and "old" not in text and "0.500" in text
    assert main([str(tmp_path / "results"), str(readme)]) == 0
    assert readme.read_text() == text
    readme.write_text("no markers")
    assert main([str(tmp_path / "results"), str(readme)]) == 2
    assert BEGIN in capsys.readouterr().err


def test_cells_of_a_grid_are_listed_beside_the_results_only(tmp_path: Path) -> None:
    publish(tmp_path / "results" / "lmf" / "tables", 0.5)
    publish(tmp_path / "results" / "lmf" / "tables" / "cells" / "one", 0.25)
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    assert main([str(tmp_path / "results"), str(readme)]) == 0
    assert "](results/lmf/tables/report.md)" in readme.read_text() and "cells" not in readme.read_text()
    whole = (tmp_path / "results" / "README.md").read_text()
    assert "](lmf/tables/report.md)" in whole and "](lmf/tables/cells/one/report.md)" in whole
