import gc
import json
import shutil

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


@pytest.mark.parametrize("torn", [None, b"", b'{"previous": "00'])
def test_a_kill_while_a_log_begins_leaves_a_folder_that_begins_again(tmp_path, model_file, monkeypatch, torn):
    def killed(folder):
        if torn is not None:
            (folder / "journal.jsonl").write_bytes(torn)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("feedback.page.log.Journal", killed)
        CorrectionLog.create(tmp_path / "log", FACTS, model_file)
    gc.collect()  # a killed process drops its lock; here the process lives on
    log = CorrectionLog.create(tmp_path / "log", FACTS, model_file)
    assert log.entries() == [] and log.journal.records[0]["changes"].keys() == {"session.json", "base/model.keras"}
    log.release()
    (tmp_path / "log" / "journal.jsonl").unlink()  # one that had begun is no such folder
    with pytest.raises(UsageError, match="the record of the corrections is gone"):
        CorrectionLog.create(tmp_path / "log", FACTS, model_file)


def test_only_entries_that_count_are_active(tmp_path, model_file):
    log = CorrectionLog.create(tmp_path / "log", FACTS, model_file)
    for status in ("learned", "undone", "confirmed", "refused", "received"):
        log.append({"status": status}, np.zeros((2, 2, 3), "uint8"), np.zeros((2, 2), bool))
    assert [entry["number"] for entry in log.active()] == [1, 3, 5]
    assert len(log.entries()) == 5
    log.release()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A log of three corrections: learned, undone, confirmed."""
    root = tmp_path_factory.mktemp("three")
    (root / "model.keras").write_bytes(b"model")
    log = CorrectionLog.create(root / "log", FACTS, root / "model.keras")
    rng = np.random.default_rng(0)
    for number, status in enumerate(("learned", "undone", "confirmed"), start=1):
        seen, mask = rng.integers(0, 256, (8, 8, 3)).astype("uint8"), rng.random((6, 9)) > 0.5
        entry = {"image": f"{number}.png", "status": "received", "class": "a", "class_shown": "b", "region": "drawn", "seed": number}
        log.append(entry, seen, mask)
        log.update(number, status=status, model_after=f"digest{number}")
    log.release()
    return root / "log"


def changed_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def changed_line(path, place, old, new):
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[place]
    path.write_text("".join([*lines[:place], lines[place].replace(old, new), *lines[place + 1 :]]))


def changed_pixel(path):
    from PIL import Image

    pixels = np.asarray(Image.open(path)).copy()
    pixels.flat[0] = 255 - pixels.flat[0]
    Image.fromarray(pixels).save(path)


CHANGES = {
    **{
        f"{field} of entry {number}": (
            rf"correction {number} \(its {field} was changed",
            lambda log, n=number, f=field, v=value: changed_json(log / "entries" / f"000{n}.json", **{f: v}),
        )
        for number in (1, 2, 3)
        for field, value in {
            "status": "received",
            "class": "b",
            "time": "2020-01-01T00:00:00Z",
            "image": "other.png",
            "seed": 99,
            "region": "model",
            "model_after": "x",
        }.items()
    },
    **{
        f"mask {n}": (rf"000{n}.png: is not what it was when correction {n}", lambda log, n=n: changed_pixel(log / "masks" / f"000{n}.png"))
        for n in (1, 2, 3)
    },
    **{
        f"mask {n} gone": (
            rf"000{n}.png: is not what it was when correction {n}",
            lambda log, n=n: (log / "masks" / f"000{n}.png").unlink(),
        )
        for n in (1, 2, 3)
    },
    **{
        f"entry {n} gone": (rf"correction {n} \(its file is gone", lambda log, n=n: (log / "entries" / f"000{n}.json").unlink())
        for n in (1, 2, 3)
    },
    **{
        f"line {n} gone": (
            r"does not fit what stands before it|changes are gone",
            lambda log, n=n: (log / "journal.jsonl").write_text(
                "".join(line for place, line in enumerate((log / "journal.jsonl").read_text().splitlines(keepends=True)) if place != n)
            ),
        )
        for n in range(7)
    },
    **{
        f"line {n} changed": (r"does not fit", lambda log, n=n: changed_line(log / "journal.jsonl", n, '"number": ', '"number":  '))
        for n in range(7)
    },
    "two lines exchanged": (
        r"does not fit what stands before it",
        lambda log: (log / "journal.jsonl").write_text(
            "".join(
                (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]])((log / "journal.jsonl").read_text().splitlines(keepends=True))
            )
        ),
    ),
    "an image": ("is not what it was when correction", lambda log: changed_pixel(sorted((log / "images").glob("*.png"))[0])),
    "the session": ("session.json: is not what it was", lambda log: changed_json(log / "session.json", steps=5)),
    "the base": ("model.keras: is not what it was", lambda log: (log / "base" / "model.keras").write_bytes(b"model2")),
    "journal gone": ("is missing: the record of the corrections is gone", lambda log: (log / "journal.jsonl").unlink()),
    "head gone": ("head.json is missing", lambda log: (log / "head.json").unlink()),
    "head changed": ("head.json: does not fit correction 3", lambda log: changed_json(log / "head.json", sha256="0" * 64)),
    "an entry more": (
        "0004.json: is no correction of",
        lambda log: shutil.copy(log / "entries" / "0003.json", log / "entries" / "0004.json"),
    ),
    "a link": ("is a link", lambda log: ((log / ".lock").unlink(missing_ok=True), (log / ".lock").symlink_to(log / "session.json"))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_a_log_is_named(three, tmp_path, name):
    said, change = CHANGES[name]
    shutil.copytree(three, tmp_path / "log")
    CorrectionLog.open(tmp_path / "log").release()
    change(tmp_path / "log")
    with pytest.raises(UsageError, match=said):
        CorrectionLog.open(tmp_path / "log")


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_torn_last_line_costs_that_change_not_the_log(three, tmp_path, kept, caplog):
    shutil.copytree(three, tmp_path / "log")
    path = tmp_path / "log" / "journal.jsonl"
    *lines, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + last[:kept])
    changed_json(tmp_path / "log" / "entries" / "0003.json", status="received")  # what the file said before the change that is lost
    view = json.loads((tmp_path / "log" / "entries" / "0003.json").read_text())
    del view["model_after"]
    (tmp_path / "log" / "entries" / "0003.json").write_text(json.dumps(view))
    log = CorrectionLog.open(tmp_path / "log")
    assert "the last line is torn" in caplog.text
    assert [entry["status"] for entry in log.entries()] == ["learned", "undone", "received"]
    log.update(3, status="confirmed")
    log.release()
    CorrectionLog.open(tmp_path / "log").release()


def test_a_kill_between_journal_and_entry_loses_nothing(three, tmp_path):
    for damage in (lambda path: path.write_text('{"torn'), lambda path: path.write_text("")):
        log = tmp_path / "log"
        shutil.copytree(three, log)
        damage(log / "entries" / "0003.json")
        opened = CorrectionLog.open(log)
        assert opened.entries()[2]["status"] == "confirmed"
        opened.release()
        assert json.loads((log / "entries" / "0003.json").read_text())["status"] == "confirmed"
        shutil.rmtree(log)


def test_a_session_writes_nothing_to_a_log_that_was_changed_under_it(three, tmp_path):
    shutil.copytree(three, tmp_path / "log")
    log = CorrectionLog.open(tmp_path / "log")
    with (tmp_path / "log" / "journal.jsonl").open("a") as journal:
        journal.write("{}\n")
    with pytest.raises(UsageError, match="was changed while this session had it open"):
        log.update(3, status="undone")
    with pytest.raises(UsageError, match="does not fit what stands before it"):
        log.verify()
    log.release()
