"""Every variable of a training comes back, with the facts and arrays beside it; files of another network are refused."""

from pathlib import Path

import keras
import numpy as np
import pytest

from common.errors import UsageError
from common.runs.checkpoints import Checkpoint


def variables(*values: float) -> list[keras.Variable]:
    return [keras.Variable(np.full((2, 3), value, "float32")) for value in values]


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "stage", variables(1.5, -2)).save(4, {"rows": [{"loss": np.float32(0.5)}]}, {"best_0": np.arange(3)})
    fresh = variables(0, 0)
    facts = Checkpoint(tmp_path / "stage", fresh).restore()
    assert facts is not None and facts["epoch"] == 4 and facts["extra"] == {"rows": [{"loss": 0.5}]}
    np.testing.assert_array_equal(facts["arrays"]["best_0"], [0, 1, 2])
    assert [float(keras.ops.convert_to_numpy(each)[0, 0]) for each in fresh] == [1.5, -2]
    assert [item.name for item in (tmp_path / "stage").iterdir()] == ["state.npz"]


def test_nothing_saved_is_none_and_changes_nothing(tmp_path: Path) -> None:
    held = variables(7)
    assert Checkpoint(tmp_path, held).restore() is None
    assert float(keras.ops.convert_to_numpy(held[0])[0, 0]) == 7


def test_the_state_of_another_network_is_refused(tmp_path: Path) -> None:
    Checkpoint(tmp_path, variables(1)).save(1)
    with pytest.raises(UsageError, match="holds 1 variables, the training has 2"):
        Checkpoint(tmp_path, variables(1, 2)).restore()


def test_a_failed_write_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Checkpoint(tmp_path, variables(1)).save(1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space"):
            Checkpoint(tmp_path, variables(2)).save(2)
    facts = Checkpoint(tmp_path, variables(0)).restore()
    assert facts is not None and facts["epoch"] == 1


def value(held: list[keras.Variable]) -> float:
    return float(keras.ops.convert_to_numpy(held[0])[0, 0])


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "empty": b"", "torn": content[:middle], "garbled": content[:middle] + b"\0XX\xff" * 40 + content[middle + 160 :],
            "text": b"not a checkpoint", "tail": content[:-30],
        }[how]
    )  # fmt: skip


@pytest.mark.parametrize("how", ["empty", "torn", "garbled", "text", "tail"])
def test_a_damaged_state_is_said_and_the_one_before_is_taken_up(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    for epoch in (1, 2, 3):
        Checkpoint(tmp_path, variables(float(epoch), 0)).save(epoch)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["previous.npz", "state.npz"]
    damage(tmp_path / "state.npz", how)
    held = variables(0, 0)
    facts = Checkpoint(tmp_path, held).restore()
    assert facts is not None and (facts["epoch"], value(held)) == (2, 2.0)
    assert "state.npz: the checkpoint is damaged" in caplog.text and "after epoch 2, is taken up" in caplog.text
    damage(tmp_path / "previous.npz", how)
    with pytest.raises(UsageError, match=r"state.npz: the checkpoint is damaged .* delete .* to train this stage"):
        Checkpoint(tmp_path, held).restore()
    assert value(held) == 2.0


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    Checkpoint(tmp_path, variables(1)).save(1)
    (tmp_path / "state.npz").rename(tmp_path / "previous.npz")
    facts = Checkpoint(tmp_path, variables(0)).restore()
    assert facts is not None and facts["epoch"] == 1


def test_dropped_files_are_gone(tmp_path: Path) -> None:
    for epoch in (1, 2):
        Checkpoint(tmp_path, variables(1)).save(epoch)
    Checkpoint(tmp_path, variables(1)).drop()
    assert not list(tmp_path.iterdir())
