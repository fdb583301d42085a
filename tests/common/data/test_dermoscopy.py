"""One strict reader of the ISIC and HAM10000 tables for every study."""

from pathlib import Path

import pytest

from common.data.dermoscopy import image_id, is_beside, read_labels, read_lesions, read_table, sort_files
from common.errors import UsageError


def _table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_ground_truth_and_metadata(tmp_path: Path) -> None:
    truth = _table(
        tmp_path / "ISIC_GroundTruth.csv", "\ufeffimage, mel ,NV,UNK,age", "i1,1.0,0.0,0.0,45", " i2 ,0,1,0,60", "i3,0,0,1,1", "i4,0,0,0,0"
    )
    assert read_labels(truth).to_dict() == {"i1": "MEL", "i2": "NV", "i3": "", "i4": ""}
    ham = _table(tmp_path / "ham.csv", "lesion_id,image_id,dx", "l1,i1,NV ", "l1,i2, Mel", ",i3,akiec")
    assert read_labels(ham).to_dict() == {"i1": "nv", "i2": "mel", "i3": "akiec"}
    assert read_lesions(ham) == {"i1": "l1", "i2": "l1"} and read_lesions(truth) == {}
    _table(tmp_path / "ISIC_Metadata.csv", "image,age,lesion_id", "i1,45,a", "i2,60,")
    assert read_lesions(truth) == {"i1": "a"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["image,MEL,NV", "a,1,1", "b,1,0"], "expected one label a row, but 1 rows have several: a"),
        (["image,MEL,NV", "a,1,0", "b,0,1", "a,0,1"], "1 images are listed more than once: a"),
        (["image,MEL,NV", "a,0.4,0.6", "b,1,0"], "expected 0 or 1 in every class column, but 1 rows hold something else: a"),
        (["image,MEL,NV", "a,yes,no"], "1 rows hold something else: a"),
        (["image,MEL, MEL", "a,1,0"], "has the column MEL twice"),
        (["image", "a"], "expected one column a class"),
        (["image,x,y", "a,1,7"], "hold something else: a"),
        (["a,b", "1,2"], "expected the columns image and one a class"),
        (["image_id,dx", "a,nv", "b,"], r"the diagnosis \(empty\) is none of akiec.*1 such rows: b"),
        (["image_id,dx", "a,nv", "b,melanoma", "c,unknown"], "the diagnosis melanoma is none of .*2 such rows: b, c"),
    ],
)
def test_what_is_not_one_label_a_row_is_refused_by_name(tmp_path: Path, rows: list[str], message: str) -> None:
    """laihaoran/CARZero#7, BMEII-AI/RadImageNet#17; unknown is never "other"."""
    with pytest.raises(UsageError, match=f"--labels-csv .*t.csv: .*{message}") as caught:
        read_labels(_table(tmp_path / "t.csv", *rows), "--labels-csv")
    assert "\n" not in str(caught.value)


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    for content in (b"", b"\xff\xfe\x00\x80", b'image,MEL\n"a,1\n'):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(UsageError, match="t.csv: (not a readable CSV|expected|lacks)"):
            read_labels(tmp_path / "t.csv")
    with pytest.raises(UsageError, match="no.csv: no such file; expected a CSV with the columns a, b"):
        read_table(tmp_path / "no.csv", ("a", "b"))
    with pytest.raises(UsageError, match="lacks the column b; expected a, b"):
        read_table(_table(tmp_path / "t.csv", "a,c", "1,2"), ("a", "b"))


def test_official_names_tell_images_from_masks() -> None:
    paths = ["i/ISIC_1.jpg", "m/ISIC_1_attribute_milia_like_cyst.png", "m/ISIC_1_Segmentation.PNG", "i/ISIC_1_superpixels.png"]
    found = sort_files(paths, "here")
    assert found.images == {"ISIC_1": paths[0]}
    assert found.masks == {"milia_like_cyst": {"ISIC_1": paths[1]}, "lesion": {"ISIC_1": paths[2]}}
    assert [is_beside(path) for path in paths] == [False, True, True, True]
    with pytest.raises(UsageError, match="here: the image ISIC_1 is there twice: i/ISIC_1.jpg, j/ISIC_1.png"):
        sort_files([*paths, "j/ISIC_1.png"], "here")
    with pytest.raises(UsageError, match="the lesion mask of ISIC_1 is there twice"):
        sort_files([*paths, "n/ISIC_1_segmentation.png"], "here")
    assert image_id("a/ISIC_2_downsampled.jpg") == image_id("ISIC_2.png") == "ISIC_2"
