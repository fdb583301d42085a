import json

import pytest

from common.errors import UsageError
from feedback.experiments.serve import ServeSettings
from feedback.experiments.simulate import DESCRIBED
from feedback.page.log import CorrectionLog
from feedback.page.model import Learning
from feedback.page.serve import learning_of, map_settings


def test_the_map_is_the_runs_and_the_learning_the_options(base_run):
    assert map_settings({"settings": {"image_size": 16}, "experiment": "baseline"}) == DESCRIBED
    stored = {"explanation_weight": 1.0, "explanation_loss": "distance", "layer": "conv2", "batch_size": 8, "feedback": "wrong", "seed": 3}
    tuned = map_settings({"settings": stored, "experiment": "simulate"})
    assert (tuned.explanation_loss, tuned.layer) == ("distance", "conv2")
    learning = learning_of(ServeSettings(run=base_run, images=base_run, learning_rate=0.5, steps=3, region_weight=0.25, anchor_weight=2.0))
    assert learning == Learning(steps=3, learning_rate=0.5, region_weight=0.25, anchor_weight=2.0)


def test_a_log_of_another_model_is_refused_and_left_alone(start, tmp_path):
    session = start()
    session.correct("ISIC_0000000.png", "both_right")
    session.close()
    path = tmp_path / "log" / "session.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "base_digest": "0" * 16}))
    with pytest.raises(UsageError, match=r"belongs to another model or other settings \(base_digest\)"):
        start()
    log = CorrectionLog.open(tmp_path / "log")
    assert len(log.entries()) == 1
    log.release()


def test_without_the_runs_images_there_is_no_guard(start, base_run):
    local = base_run / "local.json"
    text = local.read_text()
    local.unlink()
    try:
        session = start()
    finally:
        local.write_text(text)
    assert session.guard_reading() is None
    assert session.correct("ISIC_0000000.png", "both_right").entry["guard"] is None
