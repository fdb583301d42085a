import csv

import keras
import numpy as np
import pytest
from PIL import Image

from common.errors import UsageError
from feedback.isic import isic2018
from feedback.page.export import NOTICE, export, export_names, isic_name
from tests.feedback.page.conftest import CLASSES, draw


@pytest.fixture
def session(start, tmp_path):
    """Two corrections of one image, one upload corrected, one confirmed, one undone."""
    session = start()
    for label in ("MEL", "NV"):
        said = CLASSES[session.view("ISIC_0000000.png").look.predicted]
        other = label if label != said else "BKL"
        session.correct("ISIC_0000000.png", "both_wrong", other, draw(0)[1])
    Image.fromarray(draw(20)[0]).save(tmp_path / "mine.jpg")
    session.correct(session.folder.add(tmp_path / "mine.jpg"), "region_wrong", region=draw(20)[1])
    session.correct("ISIC_0000005.png", "both_right")
    session.correct("ISIC_0000006.png", "region_wrong", region=draw(6)[1])
    session.undo()
    return session


def test_export_is_read_by_the_isic_loader(session, tmp_path):
    folder = export(session)
    assert folder == tmp_path / "log" / "export-0001"
    found = isic2018(folder).manifest.set_index("group")
    active = {isic_name(entry["image"]): entry for entry in session.log.active()}
    assert set(found.index) == set(active)
    assert len(active) == 3
    for name, entry in active.items():  # the last correction of an image counts
        assert found.loc[name, "label"] == entry["class"]
        mask = np.asarray(Image.open(folder / found.loc[name, "mask_lesion"])) > 0
        np.testing.assert_array_equal(mask, session.log.mask(entry))
    np.testing.assert_array_equal(np.asarray(Image.open(folder / found.loc["ISIC_0000000", "mask_lesion"])) > 0, draw(0)[1])
    with (folder / "corrections.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["status"] for row in rows] == ["learned", "learned", "learned", "confirmed", "undone"]
    assert rows[1]["model_before"] == rows[0]["model_after"]


def test_export_holds_the_tuned_model_and_a_report(session):
    digest, view = session.model.digest(), session.view("ISIC_0000003.png")
    folder = export(session)
    assert session.model.digest() == digest  # the report looks through the base model and must put the tuned one back
    tuned = keras.models.load_model(folder / "model.keras")
    small = np.asarray(Image.fromarray(view.picture).resize((16, 16), Image.Resampling.BILINEAR), "float32")
    np.testing.assert_allclose(tuned.predict(small[None], verbose=0)[0], view.look.probabilities, atol=1e-5)
    report = (folder / "report.md").read_text()
    assert NOTICE in report
    assert "The images are synthetic." in report
    assert f"state {digest} after 4 corrections (1 more were undone)" in report
    assert "- both wrong: 2\n" in report
    assert report.count("| ISIC_0000000 |") == 1
    assert str(folder.parent.parent) not in report
    with Image.open(folder / "figures" / "before_after_01.png") as figure:
        assert min(figure.size) > 300
    assert export(session).name == "export-0002"


def test_no_image_is_lost_in_an_export(start, tmp_path):
    images = tmp_path / "images"
    for number, name in enumerate(("a/b.png", "a_b.png", "gone.png", "other.png")):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(number)[0]).save(images / name)
    session = start(images=images)
    for number, name in enumerate(("a/b.png", "a_b.png", "gone.png", "other.png")):
        session.correct(name, "region_wrong", region=draw(number)[1])
    (images / "gone.png").unlink()
    Image.fromarray(draw(9)[0]).save(images / "other.png")
    folder = export(session)
    found = isic2018(folder).manifest.set_index("group")
    names = export_names(["a/b.png", "a_b.png", "gone.png", "other.png"])
    assert set(found.index) == set(names.values()) and len(found) == 4 and names["gone.png"] == "gone"
    for number, name in enumerate(("a/b.png", "a_b.png")):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / found.loc[names[name], "image"])), draw(number)[0])
    for name in ("gone", "other"):  # as the network saw them, with regions of that size
        assert Image.open(folder / found.loc[name, "image"]).size == Image.open(folder / found.loc[name, "mask_lesion"]).size == (16, 16)
    assert (folder / "report.md").read_text().count("gone from the folder, or another one") == 2


def test_nothing_to_export(start):
    with pytest.raises(UsageError, match="no correction to export yet"):
        export(start())


def test_names_of_images_in_folders():
    assert isic_name("a/b/ISIC_1.jpg") == "a_b_ISIC_1"
    assert isic_name("upload/0123456789abcdef") == "upload_0123456789abcdef"
