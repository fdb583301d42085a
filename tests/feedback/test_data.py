"""Loaders, the split to the printed unit, balances and masks: on tables made up here, on the sample, on the real files where present."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.cli import main
from common.data.dataset import class_names
from common.errors import UsageError
from feedback import data
from feedback.__main__ import COMMANDS
from feedback.isic import CLASSES, ISIC2019_COUNTS, ham10000, isic2018, isic2019, read_labels


def _manifest(counts: dict[str, int], same: dict[str, int] | None = None) -> pd.DataFrame:
    rows = []
    for label, count in counts.items():
        for number in range(count):
            overlap = "same" if number < (same or {}).get(label, 0) else "renamed"
            rows.append({"image": f"{label}_{number:05d}.jpg", "label": label, "group": f"{label}{number}", "overlap": overlap})
    return pd.DataFrame(rows)


def _options(**values) -> SimpleNamespace:
    plain = {"dataset": "sample", "data_dir": None, "labels_csv": None, "mask_dir": None, "group_pattern": None, "limit": None,
             "skip_unreadable": False, "reading": "described"}  # fmt: skip
    return SimpleNamespace(**{**plain, **values})


def test_the_split_gives_the_printed_sizes():
    # Section 3.2.1: 20,273 images to train, 2529 for validation, 2529 for testing (Table 3.1 has 2530 for validation).
    split = data.paper_split(_manifest(ISIC2019_COUNTS).drop(columns="overlap"), seed=0)["split"].value_counts()
    assert split.to_dict() == {"train": 20273, "validation": 2529, "test": 2529}


def test_the_split_does_not_depend_on_the_order_and_keeps_it():
    manifest = _manifest({"MEL": 30, "NV": 100}, {"NV": 40})
    mixed = manifest.sample(frac=1, random_state=1)
    first, second = data.paper_split(manifest, 3), data.paper_split(mixed, 3)
    assert second["image"].tolist() == mixed["image"].tolist()
    assert first.set_index("image")["split"].to_dict() == second.set_index("image")["split"].to_dict()
    assert data.paper_split(manifest, 4)["split"].tolist() != first["split"].tolist()


def test_images_of_isic_2019_under_the_same_id_stay_in_training():
    manifest = _manifest({"MEL": 30, "NV": 100}, {"NV": 60, "MEL": 10})
    described = data.split_rows(manifest, "paper", 0, keep_overlap_in_training=True)
    assert set(described.loc[described["overlap"] == "same", "split"]) == {"train"}
    counts = pd.crosstab(described["label"], described["split"])
    assert counts.loc["NV", ["validation", "test"]].tolist() == [10, 10]
    free = data.split_rows(manifest, "paper", 0, keep_overlap_in_training=False)
    assert list(free.columns) == list(described.columns)
    assert "same" in set(free.loc[free["split"] == "test", "overlap"])
    assert data.overlap_counts(described)["train"]["same_id"] == 70 and data.overlap_counts(described)["test"]["same_id"] == 0


def test_too_few_images_of_a_class():
    with pytest.raises(UsageError, match="the class MEL has 2"):
        data.paper_split(_manifest({"MEL": 2, "NV": 30}), 0)


def test_balances():
    split = data.paper_split(_manifest({"MEL": 40, "NV": 160, "BKL": 20}), 0)
    train = split[split["split"] == "train"]
    up = data.balanced(split, "upsampled", 0)
    assert up[up["split"] == "train"]["label"].value_counts().to_dict() == {"NV": 128, "MEL": 128, "BKL": 128}
    # Split first: no copy of a test image is trained on, and validation and test are what they were.
    assert not set(up.loc[up["copy"] > 0, "image"]) - set(train["image"])
    held = up[up["split"] != "train"]
    assert held["image"].tolist() == split[split["split"] != "train"]["image"].tolist() and (held["copy"] == 0).all()
    reduced = data.balanced(split, "reduced", 0)
    assert reduced[reduced["split"] == "train"]["label"].value_counts().to_dict() == {"NV": 32, "MEL": 32}
    assert set(reduced["label"]) == {"NV", "MEL"} and (reduced["split"] == "test").sum() == 20
    pd.testing.assert_frame_equal(data.balanced(split, "upsampled", 0), up)
    assert data.balanced(split, "none", 0)["image"].tolist() == split["image"].tolist()


@pytest.fixture(scope="module")
def simulation(sample_cache):
    return data.load(_options(cache_dir=sample_cache), "simulation")


def test_the_sample_is_read_like_the_real_thing(simulation):
    assert simulation.synthetic and simulation.name == "sample-isic2018"
    assert class_names(simulation.manifest) == ("BKL", "MEL", "NV") and data.classes_of(simulation) == CLASSES
    assert simulation.left_out == {"images without a diagnosis": 1}
    assert data.mask_columns(simulation.manifest) == [f"mask_{name}" for name in
        ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks")]  # fmt: skip
    assert set(simulation.manifest["overlap"]) == {"same", "renamed"}


def test_masks_are_the_union_and_the_graded_form_keeps_more(simulation, sample_cache):
    union = data.feedback_masks(simulation, 24, sample_cache)
    graded = data.feedback_masks(simulation, 24, sample_cache, "graded")
    assert union.shape == (len(simulation.manifest), 24, 24) and set(np.unique(union)) == {0, 255}
    np.testing.assert_array_equal(graded > 0, union > 0)
    assert len(np.unique(graded)) > 2 and graded.max() == 255
    assert (~union.any(axis=(1, 2))).sum() > 0  # some images have no attribute at all, as in the real set


def test_the_bases_of_both_readings(sample_cache):
    described = data.load(_options(cache_dir=sample_cache), "base")
    corrected = data.load(_options(cache_dir=sample_cache, reading="corrected"), "base")
    assert described.name == "sample-isic2019" and set(described.manifest["label"]) == set(CLASSES)
    # The ground truth parts akiec into AK and SCC, so all eight classes are filled.
    assert corrected.name == "sample-ham10000" and set(corrected.manifest["label"]) == set(CLASSES)


def _write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def tiny(tmp_path):
    """Four images with lesion masks in the `images/` + `lesion_masks/` layout, and their labels."""
    rng = np.random.default_rng(0)
    for number in range(4):
        _write(tmp_path / "images" / f"ISIC_000000{number}.jpg", rng.integers(0, 255, (12, 16, 3)).astype("uint8"))
        mask = np.zeros((12, 16), "uint8")
        mask[3:6, 4:9] = 255
        _write(tmp_path / "lesion_masks" / f"ISIC_000000{number}_segmentation.png", mask)
    rows = ["image," + ",".join(CLASSES), "ISIC_0000000,1,0,0,0,0,0,0,0", "ISIC_0000001_downsampled,0,1,0,0,0,0,0,0"]
    rows += ["ISIC_0000002,0,0,0,0,1,0,0,0", "ISIC_0000009,0,1,0,0,0,0,0,0"]
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_labels_are_found_under_both_ids(tiny):
    found = isic2018(tiny)
    assert found.manifest["label"].tolist() == ["MEL", "NV", "BKL"]
    assert found.manifest["overlap"].tolist() == ["same", "renamed", "same"]
    assert found.left_out == {"images without a diagnosis": 1}
    assert found.manifest["mask_lesion"].tolist()[0] == "lesion_masks/ISIC_0000000_segmentation.png"
    data.check_masks(found)


def test_groups_are_lesions_where_the_metadata_knows_them(tiny):
    assert isic2018(tiny).manifest["group"].tolist() == ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002"]
    rows = "image,lesion_id\nISIC_0000000,L7\nISIC_0000001_downsampled,L7\nISIC_0000002,\n"
    (tiny / "ISIC_2019_Training_Metadata.csv").write_text(rows)
    assert isic2018(tiny).manifest["group"].tolist() == ["L7", "L7", "ISIC_0000002"]


def test_what_was_not_counted_is_not_zero(tiny, tmp_path):
    base = pd.DataFrame({
        "image": ["x/ISIC_0000000_downsampled.jpg", "x/ISIC_0000001.jpg", "x/ISIC_0000002.jpg"], "split": ["train", "train", "test"],
    })  # fmt: skip
    base.to_csv(tmp_path / "manifest.csv", index=False)
    manifest = isic2018(tiny).manifest.assign(split=["train", "test", "test"])
    assert data.seen_by_base(manifest, tmp_path) == {"train": 1, "validation": 0, "test": 1}
    assert data.seen_by_base(manifest, tmp_path / "published") is None
    assert data.overlap_counts(manifest)["test"] == {"images": 2, "same_id": 1, "renamed": 1}
    # HAM10000, ISIC 2019 and folders are compared with nothing.
    assert data.overlap_counts(manifest.assign(overlap=""))["test"] == {"images": 2, "same_id": None, "renamed": None}


def test_bad_masks_are_named(tiny):
    _write(tiny / "lesion_masks" / "ISIC_0000002_segmentation.png", np.zeros((6, 8), "uint8"))
    with pytest.raises(UsageError, match=r"ISIC_0000002_segmentation.png: the mask is 8x6 pixels, its image .* 16x12"):
        data.check_masks(isic2018(tiny))
    _write(tiny / "lesion_masks" / "ISIC_7777777_segmentation.png", np.zeros((12, 16), "uint8"))
    with pytest.raises(UsageError, match="feedback for an unknown image; there is no image ISIC_7777777"):
        isic2018(tiny)


@pytest.fixture
def folders(tmp_path):
    """Six images in two class folders, with a mask each in `masks/<class>/`, in which a square is marked."""
    mask = np.zeros((12, 16), "uint8")
    mask[3:6, 4:9] = 255
    for number in range(6):
        name = f"{'MEL' if number % 2 else 'NV'}/image{number}"
        _write(tmp_path / "images" / f"{name}.png", np.full((12, 16, 3), 40 * number, "uint8"))
        _write(tmp_path / "masks" / f"{name}_segmentation.png", mask)
    return tmp_path


def _load_folders(folders):
    return data.load(
        _options(dataset="folders", data_dir=folders / "images", mask_dir=folders / "masks", cache_dir=folders / "c"), "simulation"
    )


def test_masks_of_unknown_images_in_folders_are_named(folders):
    assert _load_folders(folders).manifest["mask_lesion"].ne("").all()
    mask = np.full((12, 16), 255, "uint8")
    _write(folders / "masks" / "NV" / "imgae0.png", mask)
    with pytest.raises(UsageError, match=r"masks of unknown images: NV/imgae0.png; expected <image>.png"):
        _load_folders(folders)
    for number in range(4):
        _write(folders / "masks" / f"other{number}_segmentation.png", mask)
    with pytest.raises(UsageError, match=r"other1_segmentation.png and 2 more; expected"):
        _load_folders(folders)


def _other_size(folders):
    _write(folders / "masks" / "NV" / "image0_segmentation.png", np.zeros((6, 8), "uint8"))


def _empty(folders):
    for path in (folders / "masks").rglob("*.png"):
        _write(path, np.zeros((12, 16), "uint8"))


def _unknown_image(folders):
    _write(folders / "masks" / "image77.png", np.zeros((12, 16), "uint8"))


def _unknown_label(folders):
    (folders / "images" / "MEL").rename(folders / "images" / "naevus")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_other_size, "the mask is 8x6 pixels"),
        (_empty, "all masks are empty"),
        (_unknown_image, "masks of unknown images: image77.png"),
        (_unknown_label, "the label naevus is outside its classes"),
    ],
    ids=["mask size", "all empty", "unknown image", "unknown label"],
)
def test_bad_input_is_one_line_and_exit_code_2(spoil, said, folders, small_base, capsys):
    spoil(folders)
    words = ["simulate", "--dataset", "folders", "--data-dir", str(folders / "images"), "--mask-dir", str(folders / "masks")]
    words += ["--base", str(small_base), "--cache-dir", str(folders / "cache"), "--run-dir", str(folders / "run")]
    assert main("feedback", COMMANDS, words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert said in lines[-1] and "Traceback" not in "".join(lines)
    assert not (folders / "run" / "model.keras").exists()


def test_empty_masks_everywhere(tiny):
    for number in range(4):
        _write(tiny / "lesion_masks" / f"ISIC_000000{number}_segmentation.png", np.zeros((12, 16), "uint8"))
    with pytest.raises(UsageError, match="all masks are empty"):
        data.feedback_masks(isic2018(tiny), 8, tiny / "cache")


def test_graded_lesions_are_the_depth_inside(tiny):
    """Against the definition: the distance to the nearest pixel outside, the image's frame being outside, divided by its largest value."""
    whole = np.full((12, 16), 255, "uint8")
    _write(tiny / "lesion_masks" / "ISIC_0000001_segmentation.png", whole)  # reaches the frame everywhere
    found = isic2018(tiny)
    union = data.feedback_masks(found, 12, tiny / "cache") > 0
    graded = data.feedback_masks(found, 12, tiny / "cache", "graded")
    for mask, grades in zip(union, graded, strict=True):
        outside = np.argwhere(~np.pad(mask, 1)) - 1
        depth = np.array([[np.hypot(*(outside - (r, c)).T).min() if mask[r, c] else 0.0 for c in range(12)] for r in range(12)])
        np.testing.assert_array_equal(grades, np.round(255 * depth / depth.max()).astype("uint8"))


def test_no_masks_at_all(tiny):
    for path in (tiny / "lesion_masks").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="no masks found"):
        data.check_masks(isic2018(tiny))


def test_labels_outside_the_classes(tiny):
    (tiny / "wrong.csv").write_text("image,MEL,XYZ\nISIC_0000000,0,1\n")
    with pytest.raises(UsageError, match="the class XYZ is none of"):
        read_labels(tiny / "wrong.csv")
    (tiny / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="expected the columns image"):
        read_labels(tiny / "other.csv")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00broken\x80", b'lesion_id,image_id,dx\n"open,1,2\n'])
def test_damaged_tables_are_named(tiny, content):
    (tiny / "HAM10000_metadata.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"HAM10000_metadata.csv: ") as raised:
        ham10000(tiny)
    assert "\n" not in str(raised.value)
    (tiny / "ISIC_2019_Training_Metadata.csv").write_bytes(b"")
    with pytest.raises(UsageError, match="ISIC_2019_Training_Metadata.csv: not a readable CSV"):
        isic2018(tiny)


def test_isic2019_without_its_images(tiny):
    with pytest.raises(UsageError, match="2 of 4 labelled images are missing"):
        isic2019(tiny)
    assert isic2019(tiny, skip_missing=True).left_out == {"labelled images that are missing": 2}


def test_real_isic2018(shared_data):
    labels = shared_data("isic2019") / "ISIC_2019_Training_GroundTruth.csv"
    found = isic2018(shared_data("isic2018_task1"), labels)
    assert found.manifest["label"].value_counts().to_dict() == {"NV": 1866, "MEL": 519, "BKL": 208}
    assert found.manifest["overlap"].value_counts().to_dict() == {"renamed": 1821, "same": 772}
    split = data.paper_split(found.manifest, 0)
    assert set(split.loc[split["overlap"] == "same", "split"]) == {"train"}
    assert split["split"].value_counts().to_dict() == {"train": 2593 - 2 * 257, "validation": 257, "test": 257}


def test_real_isic2018_is_split_by_lesion(shared_data):
    labels = shared_data("isic2019") / "ISIC_2019_Training_GroundTruth.csv"
    manifest = isic2018(shared_data("isic2018_task1"), labels).manifest
    sizes = manifest["group"].value_counts()
    assert (sizes > 1).sum() == 12
    split = data.split_rows(manifest, "grouped", 0, keep_overlap_in_training=False)
    assert (split.groupby("group")["split"].nunique() == 1).all()
    assert (data.split_rows(manifest, "paper", 0, True).groupby("group")["split"].nunique() > 1).any()


def test_real_ham10000_fills_eight_classes(shared_data):
    folder = shared_data("ham10000")
    assert class_names(ham10000(folder).manifest) == ("AK", "BCC", "BKL", "DF", "MEL", "NV", "VASC")
    found = ham10000(folder, shared_data("isic2019") / "ISIC_2019_Training_GroundTruth.csv").manifest
    assert len(found) == 10015 and set(found["label"]) == set(CLASSES) and found["group"].nunique() == 7470
