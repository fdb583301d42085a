"""Which run an explanation belongs to; the committed sheets agree with the committed predictions of the run they name."""

import json
from pathlib import Path

import pandas as pd
import pytest

from common.explanation.provenance import IDENTITY, run_id, sentence
from common.runs.folder import Run

RESULTS = Path(__file__).resolve().parents[3] / "results"


def test_the_id_ends_the_name_of_the_default_folder_and_survives_renaming(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run.open("cervical", "finetune", {"seed": 0, "weights": "some/where/w.h5"}, name_parts=("sample",), fingerprint="f00")
    config = json.loads((run.path / "config.json").read_text())
    assert run.path.name == f"sample-{run_id(config)}"
    assert run_id(config | {"git_commit": "other", "command": "other"}) == run_id(config)
    assert all(run_id(config | {key: "other"}) != run_id(config) for key in IDENTITY)


def test_the_sentence_says_what_there_is():
    facts = {"run": "r", "run_id": "1", "run_commit": "a", "commit": "b", "layer": "out_relu", "map_size": "4 x 4", "engine": "own"}
    assert "`out_relu`, 4 x 4, engine `own`" in sentence(facts)
    assert sentence(facts | {"layer": ""}).endswith("LIME only.")


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("explained.csv")), ids=lambda path: str(path.relative_to(RESULTS).parent))
def test_committed_explanations_agree_with_the_run_they_name(path):
    explained = pd.read_csv(path, dtype={"label": str, "predicted": str, "run_id": str}, keep_default_na=False)
    if "run_id" not in explained:
        pytest.skip("written before explained.csv named its run")
    named = set(explained["run_id"])
    configs = {run_id(json.loads(file.read_text())): file.parent for file in RESULTS.rglob("config.json")}
    assert len(named) == 1 and named <= set(configs), f"no published run has the settings and data {named}"
    predictions = pd.read_csv(configs[named.pop()] / "predictions.csv", dtype=str, keep_default_na=False).set_index("image")
    for _, row in explained[explained["label"] != ""].iterrows():
        written = predictions.loc[row["image"]]
        assert (row["label"], row["predicted"]) == (written["label"], written["predicted"]), row["image"]
        # The explained forward pass has its normalisation folded in: the last digits differ.
        assert row["probability"] == pytest.approx(float(written[f"prob_{row['predicted']}"]), abs=2e-3), row["image"]
