import json

import pytest

from common.errors import UsageError
from common.runs.files import lock
from feedback.experiments.serve import ServeSettings
from feedback.experiments.simulate import DESCRIBED
from feedback.page.log import CorrectionLog
from feedback.page.model import Learning
from feedback.page.serve import PREFIX, learning_of, map_settings, pictures_folder


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
    with pytest.raises(UsageError, match=r"belongs to another model or other settings \(learning\)"):
        start(steps=3)
    log = CorrectionLog.open(tmp_path / "log")
    assert len(log.entries()) == 1
    log.release()
    path = tmp_path / "log" / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_digest": "0" * 16}))
    with pytest.raises(UsageError, match=r"session\.json: is not what it was when the log began"):
        start()


def test_a_damaged_replay_set_is_one_line(start, tmp_path):
    start(replay_images=3).close()
    kept = tmp_path / "log" / "base" / "replay.npz"
    kept.write_bytes(kept.read_bytes()[:-40])
    with pytest.raises(UsageError, match=r"replay\.npz: is damaged"):
        start(replay_images=3)


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


def test_pictures_of_a_killed_page_go_at_the_next_start(tmp_path):
    killed, alive, foreign = (tmp_path / f"{PREFIX}{name}" for name in ("killed", "alive", "foreign"))
    for folder in (killed, alive):
        folder.mkdir()
        (folder / ".lock").touch()
        (folder / "patient.png").touch()
    foreign.symlink_to(tmp_path)
    held = lock(alive)
    with pictures_folder(tmp_path) as mine:
        assert mine.is_dir() and not killed.exists() and (alive / "patient.png").exists() and foreign.is_symlink()
        (mine / "patient.png").touch()
        with pictures_folder(tmp_path) as other:
            assert mine.is_dir() and other.is_dir()
    assert not mine.exists() and not mine.parent.exists()
    held.close()
