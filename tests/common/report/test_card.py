import json

import pytest

from common.errors import UsageError
from common.report.card import write_model_card


def test_scores_and_classes_are_those_of_the_run(tmp_path, make_run):
    run = make_run(tmp_path / "run", backbone="vgg16", weights="none")
    metrics = json.loads((run / "metrics.json").read_text())
    text = write_model_card(run, "VGG16", data=["Images: CC BY-NC."]).read_text()
    assert text.startswith("# Model card: VGG16\n")
    assert f"| accuracy | {metrics['accuracy']:.4f} |" in text
    assert "Dyskeratotic, Koilocytotic, Parabasal" in text and "vgg16" in text and "CC BY-NC" in text
    assert text.count("recall of") == 3


def test_a_network_of_ones_own_is_named(tmp_path, make_run):
    run = make_run(tmp_path / "run", settings={"network": "tiny.keras"})
    assert "- Network: tiny.keras, input " in write_model_card(run).read_text()


def test_a_run_that_measured_nothing_has_no_card(tmp_path, make_run):
    with pytest.raises(UsageError, match="metrics.json"):
        write_model_card(make_run(tmp_path / "run", metrics=False))
