import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from common.errors import UsageError
from common.metrics.overlap import jaccard_index
from feedback.page import model
from feedback.page import replay as replay_module
from feedback.page import session as session_module
from feedback.page.guard import GuardLimits
from feedback.page.replay import replay
from feedback.page.session import Stale
from tests.feedback.page.conftest import CLASSES, draw

NAME = "ISIC_0000010.png"
REGION = draw(10)[1]


def other_class(session, name=NAME):
    """A class that the model does not say."""
    said = session.view(name).look.predicted
    return CLASSES[(said + 1) % 3]


def test_view_shows_probabilities_and_map(start):
    view = start().view(NAME)
    assert view.look.probabilities.shape == (3,)
    assert view.look.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert view.look.map.shape == (16, 16)
    assert 0 <= view.look.map.min() <= view.look.map.max() <= 1
    np.testing.assert_array_equal(view.picture, draw(10)[0])


def test_correction_is_on_disk_before_it_is_learned_and_complete_after(start):
    session = start()
    path, mask = session.log.path / "entries" / "0001.json", session.log.path / "masks" / "0001.png"
    on_disk = []

    def watch(share):
        on_disk.append((share, json.loads(path.read_text())["status"], np.array(Image.open(mask))))

    right, before = other_class(session), session.model.digest()
    result = session.correct(NAME, "both_wrong", right, REGION, progress=watch)
    assert [(share, status) for share, status, _ in on_disk] == [(0.5, "received"), (1.0, "received")]
    np.testing.assert_array_equal(on_disk[0][2], REGION * 255)
    entry = json.loads(path.read_text())
    assert entry == result.entry
    assert (entry["image"], entry["case"], entry["class"], entry["status"]) == (NAME, "both_wrong", right, "learned")
    assert entry["model_before"] == before
    assert entry["model_after"] == session.model.digest() != before
    assert entry["time"].endswith("Z")
    # The class was learned: two steps at a high rate are enough for the tiny network to show it.
    assert entry["after"]["probabilities"][right] > entry["before"]["probabilities"][right]
    assert entry["guard"]["images"] == 9
    assert result.region.shape == (16, 16)


def test_four_cases(start):
    session = start()
    start_digest = session.model.digest()
    said = CLASSES[session.view(NAME).look.predicted]
    confirmed = session.correct(NAME, "both_right").entry
    assert (confirmed["status"], confirmed["class"]) == ("confirmed", said)
    # Thesis, section 1.4, first case: "We keep the model as it is."
    assert session.model.digest() == start_digest == confirmed["model_after"]
    region_wrong = session.correct(NAME, "region_wrong", label="MEL", region=REGION).entry
    assert (region_wrong["class"], region_wrong["region"]) == (region_wrong["class_shown"], "drawn")
    view = session.view(NAME)
    class_wrong = session.correct(NAME, "class_wrong", other_class(session)).entry
    assert class_wrong["region"] == "model"
    shown = np.array(Image.fromarray(((view.look.map >= 0.5) * 255).astype("uint8")).resize((48, 36), Image.Resampling.NEAREST)) > 0
    np.testing.assert_array_equal(session.log.mask(class_wrong), shown)
    both_wrong = session.correct(NAME, "both_wrong", other_class(session), REGION, source="ellipse").entry
    assert both_wrong["region"] == "ellipse"
    assert len({entry["model_after"] for entry in session.log.entries()}) == 4


def test_undo_goes_back_step_by_step(start):
    session = start()
    digests = [session.model.digest()]
    for _ in range(2):
        session.correct(NAME, "both_wrong", other_class(session), REGION)
        digests.append(session.model.digest())
    stale = 1  # what a tab that saw the first correction only would send
    with pytest.raises(UsageError, match="another tab has changed the model"):
        session.undo(stale)
    assert session.undo(session.revision)["number"] == 2
    assert session.model.digest() == digests[1]
    session.log.state(0).unlink()  # lost on disk: computed again from the base model
    session.undo()
    assert session.model.digest() == digests[0]
    assert [entry["status"] for entry in session.log.entries()] == ["undone", "undone"]
    with pytest.raises(UsageError, match="no correction to undo"):
        session.undo()


@pytest.mark.parametrize(
    ("case", "label", "region", "message"),
    [
        ("", None, None, "which of the four cases"),
        ("both_wrong", None, REGION, "choose the right class"),
        ("both_wrong", "SCC", REGION, "choose the right class"),
        ("region_wrong", None, None, "draw the right region"),
        ("region_wrong", None, np.zeros((36, 48), bool), "draw the right region"),
        ("region_wrong", None, np.ones((16, 16), bool), "16 x 16 pixels, the image 48 x 36"),
    ],
)
def test_wrong_input_writes_nothing(start, case, label, region, message):
    session = start()
    with pytest.raises(UsageError, match=message):
        session.correct(NAME, case, label, region)
    assert session.log.entries() == []


def test_the_class_that_the_model_says_is_no_correction(start):
    session = start()
    said = CLASSES[session.view(NAME).look.predicted]
    with pytest.raises(UsageError, match=f"{said} is what the model says"):
        session.correct(NAME, "class_wrong", said)


def test_a_correction_that_cannot_be_learned_stays_in_the_log_and_harms_nothing(start, monkeypatch):
    session = start()
    digest = session.model.digest()

    def fail(*_, **__):
        raise UsageError("the loss of this correction is not finite")

    monkeypatch.setattr(session.model, "learn", fail)
    with pytest.raises(UsageError, match="not finite"):
        session.correct(NAME, "both_wrong", other_class(session), REGION)
    (entry,) = session.log.entries()
    assert (entry["status"], session.model.digest()) == ("refused", digest)
    assert session.log.active() == []


def test_a_tab_that_saw_another_model_cannot_write_a_label(start):
    session = start()
    seen, other = session.view(NAME), session.view("ISIC_0000009.png")
    session.correct(NAME, "both_wrong", other_class(session), REGION, revision=seen.revision)
    # "The class is right" means the class that the tab shows, and the model may say another one by now.
    with pytest.raises(Stale, match="another tab has changed the model"):
        session.correct("ISIC_0000009.png", "region_wrong", region=draw(9)[1], revision=other.revision)
    assert len(session.log.entries()) == 1
    again = session.view("ISIC_0000009.png")
    entry = session.correct("ISIC_0000009.png", "region_wrong", region=draw(9)[1], revision=again.revision).entry
    assert entry["class"] == CLASSES[again.look.predicted]


@pytest.mark.parametrize("steps", [1, 2])
def test_any_error_while_learning_refuses_the_correction(start, monkeypatch, steps):
    session = start(steps=steps)
    before, digest = session.model.weights(), session.model.digest()

    def fails(*_, **__):
        # The weights have moved already when memory runs out.
        session.model.set_weights([weight + 1 for weight in before])
        raise MemoryError("out of memory\nwith a traceback")

    with monkeypatch.context() as patched:
        patched.setattr(model, "online_step", fails)
        with pytest.raises(UsageError, match=r"could not be learned \(MemoryError: out of memory\); the model is unchanged"):
            session.correct(NAME, "both_wrong", other_class(session), REGION)
    (entry,) = session.log.entries()
    assert (entry["status"], entry["reason"]) == ("refused", "MemoryError: out of memory")
    assert session.log.active() == [] and session.model.digest() == digest and session.revision == 0
    with monkeypatch.context() as patched:  # after learning, while the state is written
        patched.setattr(session_module, "save_weights", fails)
        with pytest.raises(UsageError, match="could not be learned"):
            session.correct(NAME, "both_wrong", other_class(session), REGION)
    assert [one["status"] for one in session.log.entries()] == ["refused"] * 2 and session.model.digest() == digest


def test_a_loss_that_is_not_finite_leaves_the_weights(start):
    session = start()
    before = session.model.weights()
    session.model.model.optimizer.learning_rate.assign(np.float32("inf"))
    with pytest.raises(UsageError, match="not finite"):
        session.correct(NAME, "both_wrong", other_class(session), REGION)
    for old, new in zip(before, session.model.weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_several_tabs_at_once_keep_one_whole_log(start):
    session = start()
    names = [f"ISIC_{number:07d}.png" for number in range(6)]

    def work(number):
        return session.correct(names[number], "region_wrong", region=draw(number)[1]).entry["number"]

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(work, range(6)))
    entries = session.log.entries()
    assert sorted(numbers) == [entry["number"] for entry in entries] == list(range(1, 7))
    # One after the other: each starts from the model that the one before left.
    assert [e["model_before"] for e in entries[1:]] == [e["model_after"] for e in entries[:-1]]
    assert replay(session.log)[0].digest == session.model.digest()


def test_next_image_by_name_and_by_uncertainty(start, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        Image.fromarray(draw(number)[0]).save(images / f"{number}.png")
    (images / "2.png").write_bytes(b"\x89PNG no image")
    session = start(images=images)
    assert session.next_image("name") == "0.png"
    assert session.next_image("name", ["0.png"], "0.png") == "1.png"
    # The unreadable one is passed over, and does not come again.
    assert session.next_image("name", ["0.png", "1.png"], "1.png") == "3.png" and list(session.ordering.unreadable) == ["2.png"]
    session.ordering.unreadable.clear()
    entropies = {}
    for name in ("0.png", "1.png", "3.png"):
        p = session.view(name).look.probabilities
        entropies[name] = -(p * np.log(p)).sum()
    order = sorted(entropies, key=entropies.get, reverse=True)
    assert session.next_image("uncertain") == order[0]
    assert list(session.ordering.unreadable) == ["2.png"]
    session.correct(order[0], "both_right")
    assert session.next_image("uncertain") == order[1]
    assert session.next_image("uncertain", seen=[order[1]]) == order[2]
    for name in order[1:]:
        session.correct(name, "both_right")
    with pytest.raises(UsageError, match="every image has been looked at"):
        session.next_image("uncertain")
    with pytest.raises(UsageError, match="2.png: "):
        session.view("2.png")


def test_only_the_last_states_stay_on_disk(start):
    session = start(keep_states=1)
    for _ in range(3):
        session.correct(NAME, "both_wrong", other_class(session), REGION)
    assert [path.name for path in sorted((session.log.path / "states").iterdir())] == ["0000.npz", "0003.npz"]
    after_second = session.log.entries()[1]["model_after"]
    session.undo()
    assert session.model.digest() == after_second


def test_no_entry_names_a_folder_of_this_machine(start, base_run):
    session = start()
    session.correct(NAME, "both_right")
    text = "".join(path.read_text() for path in Path(session.log.path).rglob("*.json"))
    assert str(base_run.parent) not in text


def test_each_case_teaches_what_it_corrects(start):
    """Figure 4.1: with nothing replayed and no anchor, a corrected region leaves the logits' own layer to the explanation alone."""
    seen = []
    session = start(replay_images=0, anchor_weight=0.0, guard_images=0)
    original = model.online_step

    def watch(tuned, images, wanted):
        seen.append({name: float(wanted[name][0]) for name in ("class_weight", "region_weight", "anchor_weight")})
        return original(tuned, images, wanted)

    model.online_step, kept = watch, original
    try:
        session.correct(NAME, "region_wrong", region=REGION)
        session.correct(NAME, "class_wrong", other_class(session))
        session.correct(NAME, "both_wrong", other_class(session), REGION)
    finally:
        model.online_step = kept
    taught = [(bool(one["class_weight"]), bool(one["region_weight"]), bool(one["anchor_weight"])) for one in seen[::2]]
    assert taught == [(False, True, True), (True, False, False), (True, True, False)]
    before, after = (session.log.entries()[1][when] for when in ("before", "after"))
    right = session.log.entries()[1]["class"]
    assert after["probabilities"][right] > before["probabilities"][right]


def test_every_step_sees_a_balanced_draw_again(start):
    session = start(replay_images=3)
    replayed = session.model.replay
    drawn = replayed.labels[replayed.draw(7, 0)]
    assert np.bincount(drawn).tolist() == [5, 5, 5]  # 15 images of three classes
    assert replayed.draw(7, 0).tolist() == replayed.draw(7, 0).tolist() and session.log.session["replayed"] == 3
    assert (session.log.path / "base" / "replay.npz").is_file()


def test_without_the_training_images_it_learns_more_carefully(start, base_run):
    from feedback.page import texts

    session = start(replay_images=0)
    assert session.model.replay is None and session.log.session["replayed"] == 0
    assert "nothing is replayed" in texts.status(session)
    rate = keras.ops.convert_to_numpy(session.model.model.optimizer.learning_rate)
    assert float(rate) == pytest.approx(0.1 * model.CAREFUL)


def test_harm_is_taken_back_by_itself(start):
    """A log with rollbacks: recorded, not counted, and replayed to the same weights."""
    session = start(rollback="automatic", guard_drop=0.0, guard_share=0.0, steps=4, learning_rate=1.0)
    digest = session.model.digest()
    result = session.correct(NAME, "both_wrong", other_class(session), REGION)
    assert result.guard.harm and result.entry["status"] == "rolled_back" and result.entry["model_after"] != digest
    assert session.model.digest() == digest and session.log.active() == []
    session.guard.limits = GuardLimits(drop=1.0, share_drop=1.0, rollback=True)
    entry = session.correct("ISIC_0000009.png", "region_wrong", region=draw(9)[1]).entry
    assert entry["status"] == "learned" and entry["model_before"] == digest
    assert replay(session.log)[0].digest == session.model.digest() != digest


def test_next_image_by_disagreement_with_similar_lesions(start):
    session = start()
    first = session.next_image("disagreement")
    assert first == session.next_image("uncertain")  # nothing corrected yet
    entry = session.correct(NAME, "region_wrong", region=REGION, order="uncertain").entry
    assert entry["order"] == "uncertain"
    chosen = session.next_image("disagreement")
    overlaps = {}
    for name in session.ordering._ranking:
        look = session.view(name).look
        region = replay_module.network_mask(REGION, 16)
        overlaps[name] = float(jaccard_index(region, look.map, 0.5))
    assert overlaps[chosen] == pytest.approx(min(overlaps.values()), abs=1e-5)


def test_a_summary_says_what_was_learned_and_what_changed_elsewhere(start):
    from feedback.page import texts
    from feedback.page.summary import summarise

    session = start()
    digest = session.model.digest()
    session.correct(NAME, "both_wrong", other_class(session), REGION)
    session.correct("ISIC_0000009.png", "both_right")
    learned = session.model.digest()
    found = summarise(session)
    assert (len(found.entries), found.unseen) == (2, 10) and 0 <= found.changed <= 10 and 0 <= found.overlap <= 1
    assert session.model.digest() == learned != digest
    text = texts.summary(found)
    for said in ("2 corrections", "1 both wrong", "1 confirmed", "**Kept**: ", "On 9 validation images", "10 images that nobody corrected"):
        assert said in text
