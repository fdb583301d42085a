"""Every command on the drawn sample from its command line, and on a run that `lmf train` itself has left."""

import json

import pandas as pd

from common.cli import main
from common.data.sample import ensure_sample
from lmf.__main__ import COMMANDS


def lmf(*words) -> None:
    assert main("lmf", COMMANDS, [str(word) for word in words]) == 0


def test_explain_predict_and_report_take_a_trained_run(trained, sample_cache, tmp_path, capsys):
    lmf("explain", trained.path, "--methods", "gradcam", "scorecam", "--output", tmp_path / "out", "--faithfulness-images", 7)
    explained = pd.read_csv(tmp_path / "out" / "explained.csv")
    assert set(explained["run"]) == {trained.path.name} and (tmp_path / "out" / "sheet.png").is_file()
    # The sample has lesion masks, which the run's manifest keeps, so the maps are measured against them.
    assert {"deletion", "insertion", "pointing", "jaccard"} <= set(pd.read_csv(tmp_path / "out" / "faithfulness.csv").columns)
    image = ensure_sample("ham10000", sample_cache) / explained["image"][0]
    lmf("predict", trained.path, image, "--output", tmp_path / "predicted.csv")
    predicted = pd.read_csv(tmp_path / "predicted.csv")
    assert predicted["predicted"][0] == explained["predicted"][0]
    before = json.loads((trained.path / "metrics.json").read_text())
    lmf("report", trained.path)
    assert json.loads((trained.path / "metrics.json").read_text()) == before
