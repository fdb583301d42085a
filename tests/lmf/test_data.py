"""The paper's split to the unit, the official layouts, and what is said when they are not as expected."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from common.data.dataset import class_names
from common.data.fingerprint import fingerprint
from common.data.sample import ensure_sample
from common.errors import UsageError
from lmf import data, paper


def manifest_of(counts: dict[str, int], per_group: int = 1) -> pd.DataFrame:
    rows = [(f"{label}/{i:05d}.jpg", label, f"{label}-{i // per_group}") for label, n in counts.items() for i in range(n)]
    return pd.DataFrame(rows, columns=["image", "label", "group"])


@pytest.mark.parametrize("name", data.OFFICIAL_COUNTS)
def test_paper_split_gives_every_count_of_tables_1_and_5(name):
    split = data.paper_split(manifest_of(data.OFFICIAL_COUNTS[name]), seed=0)
    classes = class_names(split)
    counts = {paper.printed_class(label): n for label, n in zip(classes, data.train_counts(split, classes), strict=True)}
    assert counts == paper.train_counts(name)
    assert split["split"].value_counts().to_dict() == paper.split_sizes(name)


def test_paper_split_does_not_depend_on_row_order_and_does_on_the_seed():
    manifest = manifest_of({"a": 40, "b": 17})
    split = data.paper_split(manifest, 3)
    shuffled = manifest.sample(frac=1, random_state=1)
    again = data.paper_split(shuffled, 3)
    assert list(again["image"]) == list(shuffled["image"])
    assert dict(zip(again["image"], again["split"], strict=True)) == dict(zip(split["image"], split["split"], strict=True))
    assert list(data.paper_split(manifest, 4)["split"]) != list(split["split"])


def test_paper_split_needs_four_images_of_a_class():
    with pytest.raises(UsageError, match="the class b has 3 images"):
        data.paper_split(manifest_of({"a": 40, "b": 3}), 0)


def test_grouped_split_keeps_groups_together():
    split = data.split(manifest_of({"a": 60, "b": 30}, per_group=3), "grouped", 0)
    assert (split.groupby("group")["split"].nunique() == 1).all()
    assert (split["split"] == "train").mean() == pytest.approx(0.7, abs=0.05)


@pytest.fixture(scope="module")
def sample(sample_cache):
    """A copy of a drawn data set that a test may damage."""

    def copy(kind: str, to: Path) -> Path:
        return Path(shutil.copytree(ensure_sample(kind, sample_cache), to / kind, ignore=shutil.ignore_patterns("SYNTHETIC.txt")))

    return copy


@pytest.mark.parametrize("name", data.LOADERS)
def test_the_sample_reads_like_the_official_layout(name, sample_cache):
    found = data.LOADERS[name](ensure_sample(name, sample_cache))
    assert class_names(found.manifest) == tuple(sorted(data.OFFICIAL_COUNTS[name]))
    counts = found.manifest["label"].value_counts()
    assert counts.max() >= 3 * counts.min(), "the sample should be imbalanced"
    assert all((found.data_dir / image).is_file() for image in found.manifest["image"])
    if name != "covid_radiography":
        assert found.manifest["group"].nunique() < len(found.manifest), "lesions and patients should have several images"
    assert set(data.split(found.manifest, "paper", 0)["split"]) == {"train", "validation", "test"}
    data.split(found.manifest, "grouped", 0)


@pytest.mark.parametrize(("name", "groups"), [("ham10000", 7470), ("odir5k", 3358)])
def test_the_real_data_sets(name, groups, shared_data):
    found = data.LOADERS[name](shared_data(name))
    assert found.manifest["label"].value_counts().to_dict() == data.OFFICIAL_COUNTS[name]
    assert found.manifest["group"].nunique() == groups
    if name == "ham10000":
        assert (found.manifest["mask_lesion"] != "").all()


def test_real_ham10000_with_the_classes_of_isic_2019(shared_data):
    found = data.ham10000(shared_data("ham10000"), shared_data("isic2019") / "ISIC_2019_Training_GroundTruth.csv")
    counts = found.manifest["label"].value_counts().to_dict()
    assert counts["AK"] + counts["SCC"] == 327 and len(counts) == 8
    assert list(found.left_out.values()) == [15316]


def test_real_isic_2019_without_images_says_what_can_be_done(shared_data):
    with pytest.raises(UsageError, match=r"25331 of the 25331 images .* are missing: ISIC_0000000, .*--dataset ham10000 --labels-csv"):
        data.isic2019(shared_data("isic2019"))


def test_missing_and_extra_images_are_listed(sample, tmp_path):
    root = sample("ham10000", tmp_path)
    images = sorted((root / "images").iterdir())
    images[0].unlink()
    images[1].rename(images[1].with_name("stranger.jpg"))
    with pytest.raises(UsageError) as error:
        data.ham10000(root)
    assert f"2 of the {len(images)} images of HAM10000_metadata.csv are missing: {images[0].stem}, {images[1].stem}" in str(error.value)
    assert "1 images are not in HAM10000_metadata.csv: stranger" in str(error.value)


def test_a_multi_label_odir_row_is_named(sample, tmp_path):
    root = sample("odir5k", tmp_path)
    table = pd.read_csv(root / "full_df.csv", dtype=str)
    table.loc[2, "labels"] = "['N', 'D']"
    table.to_csv(root / "full_df.csv", index=False)
    with pytest.raises(UsageError, match=rf"1 rows have none or several: {table.loc[2, 'filename']} \(N\+D\)"):
        data.odir5k(root)


def test_a_multi_label_isic_row_is_named(sample, tmp_path):
    root = sample("isic2019", tmp_path)
    path = root / "ISIC_2019_Training_GroundTruth.csv"
    table = pd.read_csv(path)
    table.loc[0, ["MEL", "NV"]] = 1.0
    table.to_csv(path, index=False)
    with pytest.raises(UsageError, match=f"1 rows have several: {table.loc[0, 'image']}"):
        data.isic2019(root)


def test_isic_2019_with_some_images_lists_the_missing_ones(sample, tmp_path):
    root = sample("isic2019", tmp_path)
    first = sorted(path for path in root.rglob("*.jpg"))[0]
    first.unlink()
    with pytest.raises(UsageError, match=f"are missing: {first.stem}; isic2019 needs all"):
        data.isic2019(root)


def test_isic_2019_without_metadata_has_one_group_an_image(sample, tmp_path):
    root = sample("isic2019", tmp_path)
    (root / "ISIC_2019_Training_Metadata.csv").unlink()
    manifest = data.isic2019(root).manifest
    assert manifest["group"].is_unique


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("ham10000", lambda root: (root / "HAM10000_metadata.csv").unlink(), "HAM10000_metadata.csv: no such file"),
        ("ham10000", lambda root: shutil.rmtree(root / "images"), "expected the images in images/ or HAM10000_images_part_1/"),
        ("ham10000", lambda root: (root / "HAM10000_metadata.csv").write_text("image_id,dx\nx,nv\n"), "lacks the column lesion_id"),
        ("odir5k", lambda root: (root / "full_df.csv").write_text(""), "not a readable CSV"),
        ("isic2019", lambda root: (root / "ISIC_2019_Training_GroundTruth.csv").write_text("a,b\n1,2\n"), "expected the columns image"),
        ("isic2019", lambda root: (root / "ISIC_2019_Training_GroundTruth.csv").write_text("image,MEL\nx,yes\n"), "expected 0 or 1"),
        ("covid_radiography", lambda root: [shutil.rmtree(p) for p in root.iterdir() if p.is_dir()], "found none of them"),
        ("covid_radiography", lambda root: [p.unlink() for p in (root / "Normal" / "images").iterdir()], "Normal holds no images"),
    ],
)
def test_wrong_layouts_are_named(name, damage, words, sample, tmp_path):
    root = sample(name, tmp_path)
    damage(root)
    with pytest.raises(UsageError, match=words):
        data.LOADERS[name](root)


def options(**values) -> SimpleNamespace:
    defaults = {"dataset": "sample", "sample": "ham10000", "data_dir": None, "labels_csv": None, "limit": None, "skip_unreadable": False}
    return SimpleNamespace(**{**defaults, "group_pattern": None, "mask_dir": None, **values})


def test_load_limits_and_marks_the_sample(sample_cache):
    found = data.load(options(sample="covid_radiography", limit=24, cache_dir=sample_cache))
    assert found.name == "sample-covid_radiography" and found.synthetic and len(found.manifest) == 24
    assert found.official_counts is None


def test_an_unreadable_image_is_named_or_skipped(sample, tmp_path):
    root = sample("ham10000", tmp_path)
    broken = sorted((root / "images").iterdir())[5]
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(UsageError, match=f"images/{broken.name}"):
        data.load(options(dataset="ham10000", data_dir=root, cache_dir=tmp_path / "cache"))
    found = data.load(options(dataset="ham10000", data_dir=root, cache_dir=tmp_path / "cache", skip_unreadable=True))
    assert f"images/{broken.name}" not in set(found.manifest["image"])
    assert found.left_out == {"unreadable images": 1} and found.official_counts == data.OFFICIAL_COUNTS["ham10000"]


def test_folders_of_anyone(tmp_path):
    from PIL import Image

    for label, n in (("cat", 5), ("dog", 9)):
        (tmp_path / label).mkdir()
        for i in range(n):
            Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / label / f"{i}.png")
    found = data.load(options(dataset="folders", data_dir=tmp_path, cache_dir=tmp_path / "cache"))
    assert data.train_counts(data.split(found.manifest, "paper", 0), ("cat", "dog")) == [3, 7]


def test_whether_the_data_name_lesions_or_patients(sample_cache, tmp_path, caplog):
    known = {name: data.groups_known(data.LOADERS[name](ensure_sample(name, sample_cache)).manifest) for name in data.LOADERS}
    assert known == {"ham10000": True, "odir5k": True, "isic2019": True, "covid_radiography": False}
    # Few images are drawn from many lesions: each then has its own, which is not the same as none.
    assert data.groups_known(data.load(options(limit=28, cache_dir=sample_cache)).manifest)
    covid = data.LOADERS["covid_radiography"](ensure_sample("covid_radiography", sample_cache)).manifest
    with caplog.at_level("WARNING"):
        data.split(covid, "paper", 0)
        assert "name no lesions" not in caplog.text
        data.split(covid, "grouped", 0)
    assert "the data name no lesions or patients" in caplog.text


def test_ham10000s_masks_are_attached_and_change_no_fingerprint(sample, tmp_path):
    root = sample("ham10000", tmp_path)
    shutil.rmtree(root / "lesion_masks", ignore_errors=True)
    plain = data.ham10000(root)
    assert not [name for name in plain.manifest if name.startswith("mask")]
    (root / "lesion_masks").mkdir()
    assert list(data.ham10000(root).manifest) == list(plain.manifest), "an empty folder is no error"
    first = Path(plain.manifest["image"][0])
    (root / "lesion_masks" / f"{first.stem}_segmentation.png").write_bytes((root / first).read_bytes())
    masked = data.ham10000(root)
    assert masked.manifest["mask_lesion"][0] == f"lesion_masks/{first.stem}_segmentation.png"
    assert set(masked.manifest["mask_lesion"][1:]) == {""}
    assert fingerprint(masked, masks=False) == fingerprint(plain)
