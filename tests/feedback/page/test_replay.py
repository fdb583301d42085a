import json

import keras
import numpy as np
import pytest
from PIL import Image

from common.errors import UsageError
from feedback.experiments.replay import ReplaySettings
from feedback.page.export import export
from feedback.page.log import CorrectionLog
from feedback.page.model import load_weights
from feedback.page.replay import network_mask, replay, run_replay
from tests.feedback.page.conftest import CLASSES, draw


def corrected(session, count=3):
    """`count` corrections of class and region, one that confirms, and one that is undone."""
    for number in range(count):
        name = f"ISIC_{number:07d}.png"
        said = session.view(name).look.predicted
        session.correct(name, "both_wrong", CLASSES[(said + 1) % 3], draw(number)[1])
    session.correct("ISIC_0000008.png", "region_wrong", region=draw(8)[1])
    session.undo()
    session.correct("ISIC_0000009.png", "both_right")
    return session


def test_log_replays_to_equal_weights(start, tmp_path):
    session = corrected(start())
    weights = session.model.weights()
    session.close()
    # States on disk must not be what makes it equal.
    for path in (tmp_path / "log" / "states").iterdir():
        path.unlink()
    log = CorrectionLog.open(tmp_path / "log")
    found, model = replay(log)
    log.release()
    assert (found.corrections, found.equal, found.difference) == (3, True, None)
    assert found.digest == found.recorded
    for ours, theirs in zip(model.weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_command_writes_the_tuned_model(start, tmp_path, caplog):
    session = corrected(start(), count=1)
    view = session.view("ISIC_0000003.png")
    session.close()
    with caplog.at_level("INFO"):
        found = run_replay(ReplaySettings(log=tmp_path / "log", output=tmp_path / "tuned.keras"))
    assert found.difference == 0
    assert "1 corrections replayed; the weights equal the recorded ones bit by bit" in caplog.text
    tuned = keras.models.load_model(tmp_path / "tuned.keras")
    small = np.asarray(Image.fromarray(view.picture).resize((16, 16), Image.Resampling.BILINEAR), "float32")
    np.testing.assert_allclose(tuned.predict(small[None], verbose=0)[0], view.look.probabilities, atol=1e-5)


def test_a_log_whose_region_was_changed_is_found_out(start, tmp_path):
    corrected(start(), count=1).close()
    Image.fromarray(np.full((36, 48), 255, "uint8")).save(tmp_path / "log" / "masks" / "0001.png")
    with pytest.raises(UsageError, match="0001.png: is not what it was when correction 1 was made"):
        run_replay(ReplaySettings(log=tmp_path / "log"))


def test_a_log_whose_image_was_changed_is_found_out(start, tmp_path):
    corrected(start(), count=1).close()
    entry = json.loads((tmp_path / "log" / "entries" / "0001.json").read_text())
    Image.fromarray(np.zeros((16, 16, 3), "uint8")).save(tmp_path / "log" / entry["seen"])
    with pytest.raises(UsageError, match="is not what it was when correction 1 was made"):
        run_replay(ReplaySettings(log=tmp_path / "log"))


def test_a_log_that_lost_its_replayed_images_is_found_out(start, tmp_path):
    corrected(start(), count=1).close()
    (tmp_path / "log" / "base" / "replay.npz").unlink()
    for command in (lambda: run_replay(ReplaySettings(log=tmp_path / "log")), start):
        with pytest.raises(UsageError, match=r"replay\.npz: is not what it was when the log began; restore it"):
            command()


def test_a_session_takes_up_where_it_stopped(start):
    first = corrected(start())
    digest, entries = first.model.digest(), first.log.entries()
    first.close()
    again = start()
    assert (again.model.digest(), again.log.entries()) == (digest, entries)
    # The guard's beginning is the base model, not the state that was taken up.
    assert again.guard_reading().start == entries[0]["guard"]["start"]
    again.undo()  # the confirmation
    again.undo()
    assert again.model.digest() == entries[1]["model_after"]


def test_a_kill_while_learning_loses_nothing(start, tmp_path):
    unbroken = start("unbroken")
    said = unbroken.view("ISIC_0000000.png").look.predicted
    given = "ISIC_0000000.png", "both_wrong", CLASSES[(said + 1) % 3], draw(0)[1]
    unbroken.correct(*given)
    digest = unbroken.model.digest()

    def kill(share):
        raise SystemExit("killed between two steps")

    broken = start()
    with pytest.raises(SystemExit):
        broken.correct(*given, progress=kill)
    broken.close()
    (tmp_path / "log" / "entries" / "0002.tmp-99.json").write_text('{"torn')
    torn = tmp_path / "log" / "export-0001.tmp-123"  # a kill while an export was written
    (torn / "figures").mkdir(parents=True)
    (torn / "report.tmp-123.md").write_text("torn")
    again = start()
    (entry,) = again.log.entries()
    assert (entry["status"], entry["model_after"], again.model.digest()) == ("learned", digest, digest)
    assert not list((tmp_path / "log").rglob("*.tmp-*"))
    # Such a folder of a process that is still there counts for no number.
    (tmp_path / "log" / "export-0007.tmp-123").mkdir()
    assert export(again).name == "export-0001"


def test_damaged_states_are_computed_again(start, tmp_path):
    first = corrected(start(), count=2)
    digest = first.model.digest()
    first.close()
    for path in (tmp_path / "log" / "states").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    assert load_weights(tmp_path / "log" / "states" / "0001.npz") is None
    assert start().model.digest() == digest


def test_thin_regions_survive_the_networks_size():
    mask = np.zeros((100, 200), bool)
    mask[51, 101] = True
    small = network_mask(mask, 10)
    assert small.sum() == 1
    assert small[5, 5]
    assert not network_mask(np.zeros((100, 200), bool), 10).any()
