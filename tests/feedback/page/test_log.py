import numpy as np
import pytest

from common.errors import UsageError
from feedback.page.log import CorrectionLog

FACTS = {"classes": ["a", "b"], "steps": 2}


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"model")
    return path


def test_entry_image_and_mask_come_back_as_they_were(tmp_path, model_file):
    log = CorrectionLog.create(tmp_path / "log", FACTS, model_file)
    rng = np.random.default_rng(0)
    seen, mask = rng.integers(0, 256, (8, 8, 3)).astype("uint8"), rng.random((30, 40)) > 0.5
    number = log.append({"image": "x.png", "status": "received"}, seen, mask)
    log.update(number, status="learned")
    log.release()
    again = CorrectionLog.open(tmp_path / "log")
    (entry,) = again.entries()
    assert (entry["number"], entry["image"], entry["status"]) == (1, "x.png", "learned")
    np.testing.assert_array_equal(again.seen(entry), seen)
    np.testing.assert_array_equal(again.mask(entry), mask)
    assert (tmp_path / "log" / "base" / "model.keras").read_bytes() == b"model"
    again.release()


def test_only_one_process_at_a_time(tmp_path, model_file):
    log = CorrectionLog.create(tmp_path / "log", FACTS, model_file)
    with pytest.raises(UsageError, match="another process works with this log"):
        CorrectionLog.create(tmp_path / "log", FACTS, model_file)
    log.release()
    CorrectionLog.create(tmp_path / "log", FACTS, model_file).release()


def test_other_settings_and_other_folders_are_refused(tmp_path, model_file):
    CorrectionLog.create(tmp_path / "log", FACTS, model_file).release()
    with pytest.raises(UsageError, match=r"belongs to another model or other settings \(steps\)"):
        CorrectionLog.create(tmp_path / "log", {**FACTS, "steps": 3}, model_file)
    CorrectionLog.create(tmp_path / "log", FACTS, model_file).release()  # and the refusal has let go of the lock
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.docx").touch()
    with pytest.raises(UsageError, match="holds files but no session.json"):
        CorrectionLog.create(tmp_path / "other", FACTS, model_file)


def test_only_entries_that_count_are_active(tmp_path, model_file):
    log = CorrectionLog.create(tmp_path / "log", FACTS, model_file)
    for status in ("learned", "undone", "confirmed", "refused", "received"):
        log.append({"status": status}, np.zeros((2, 2, 3), "uint8"), np.zeros((2, 2), bool))
    assert [entry["number"] for entry in log.active()] == [1, 3, 5]
    assert len(log.entries()) == 5
    log.release()
