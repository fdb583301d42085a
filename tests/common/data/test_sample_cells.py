"""The drawn Pap-smear cells: SIPaKMeD's layout, the same bytes each time, learnable by shape but not by a linear model on pixels."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from common.data.sample import ensure_sample

CLASSES = ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")


@pytest.fixture(scope="module")
def folder(sample_cache: Path) -> Path:
    return ensure_sample("sipakmed", sample_cache)


@pytest.fixture(scope="module")
def cells(folder: Path) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Images, class names and slides (groups) of all single cells."""
    paths = sorted(folder.glob("im_*/im_*/CROPPED/*.bmp"))
    images = [np.asarray(Image.open(path)) for path in paths]
    names = np.array([path.parts[-3].removeprefix("im_") for path in paths])
    slides = np.array([f"{path.parts[-3]}/{path.stem.split('_')[0]}" for path in paths])
    return images, names, slides


def test_layout_and_counts_are_those_of_the_official_set(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [f"im_{name}" for name in CLASSES]
    for name in CLASSES:
        inner = folder / f"im_{name}" / f"im_{name}"
        cropped, slides = sorted(inner.glob("CROPPED/*.bmp")), sorted(inner.glob("*.bmp"))
        assert len(cropped) == 60 and len(slides) == 12
        assert all(re.fullmatch(r"\d{3}_\d{2}", path.stem) for path in cropped)
        assert {path.stem.split("_")[0] for path in cropped} == {path.stem for path in slides}
        assert len(list(inner.glob("*_cyt*.dat"))) == len(list(inner.glob("*_nuc*.dat"))) == 60


def test_cells_are_rgb_bitmaps_of_many_native_sizes(cells: tuple) -> None:
    images, _, _ = cells
    sizes = {image.shape for image in images}
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in images)
    assert len(sizes) > 200
    assert min(min(shape[:2]) for shape in sizes) >= 48 and max(max(shape[:2]) for shape in sizes) <= 340


def test_a_cell_is_cut_from_its_slide_where_its_outline_says(folder: Path) -> None:
    inner = folder / "im_Parabasal" / "im_Parabasal"
    slide = np.asarray(Image.open(inner / "001.bmp"))
    cell = np.asarray(Image.open(inner / "CROPPED" / "001_01.bmp"))
    cytoplasm = np.loadtxt(inner / "001_cyt01.dat", delimiter=",")
    left, top = np.maximum(cytoplasm.min(axis=0), 0).astype(int)
    place = cv2.minMaxLoc(cv2.matchTemplate(slide, cell, cv2.TM_SQDIFF))[2]
    assert place[0] <= left + 1 and place[1] <= top + 1
    np.testing.assert_array_equal(slide[place[1] : place[1] + cell.shape[0], place[0] : place[0] + cell.shape[1]], cell)


def test_the_nucleus_is_darker_than_the_cytoplasm_around_it(folder: Path) -> None:
    darker = []
    for path in sorted(folder.glob("im_*/im_*/*_nuc01.dat")):
        slide = np.asarray(Image.open(path.with_name(f"{path.name[:3]}.bmp")).convert("L"))
        masks = []
        for outline in (path, path.with_name(path.name.replace("_nuc", "_cyt"))):
            mask = np.zeros(slide.shape, np.uint8)
            cv2.fillPoly(mask, [np.loadtxt(outline, delimiter=",").astype(np.int32)], 1)
            masks.append(mask.astype(bool))
        nucleus, cytoplasm = masks
        darker.append(slide[nucleus].mean() < slide[cytoplasm & ~nucleus].mean() - 10)
    assert np.mean(darker) > 0.95


def test_each_slide_has_its_own_stain(cells: tuple) -> None:
    images, _, slides = cells
    colours = np.array([image.reshape(-1, 3).mean(axis=0) for image in images])
    within = np.mean([colours[slides == slide].std(axis=0).mean() for slide in np.unique(slides)])
    assert colours.std(axis=0).mean() > 2 * within


def test_a_linear_model_on_pixels_stays_low(cells: tuple) -> None:
    images, names, slides = cells
    pixels = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in images]).reshape(len(images), -1) / 255
    # 150 principal components hold nearly all of the pixels' variance, and the model stays linear but fits in a second.
    model = make_pipeline(StandardScaler(), PCA(150, random_state=0), LogisticRegression(C=0.01, max_iter=1000))
    with threadpool_limits(1):  # several test processes that each take all cores slow one another down
        accuracy = cross_val_score(model, pixels, names, cv=GroupKFold(5, shuffle=True, random_state=0), groups=slides).mean()
    assert 0.3 < accuracy < 0.65  # above chance (0.2): there is a hint in the colours


def shape_features(image: np.ndarray) -> np.ndarray:
    """Granulometry and edges: how much of the picture is dark at which size, bright at which size, how it is textured."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (64, 64), interpolation=cv2.INTER_AREA)
    grey = cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX)
    features = list(np.percentile(grey, (2, 5, 10, 20, 30, 50, 70, 90)))
    for size in (3, 5, 7, 9, 13, 17, 21, 27, 33):
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        for operation in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT):
            response = cv2.morphologyEx(grey, operation, disc)
            features += [response.mean(), response.std(), np.percentile(response, 99)]
    fine = cv2.Laplacian(grey, cv2.CV_32F)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.array([*features, fine.std(), np.abs(fine).mean(), gradient.mean(), *np.percentile(gradient, (50, 90, 99))])


def test_features_of_shape_and_texture_tell_the_kinds_apart(cells: tuple) -> None:
    images, names, slides = cells
    features = np.stack([shape_features(image) for image in images])
    forest = RandomForestClassifier(200, random_state=0)
    accuracy = cross_val_score(forest, features, names, cv=GroupKFold(5, shuffle=True, random_state=0), groups=slides).mean()
    assert accuracy > 0.8


@pytest.mark.slow
def test_features_of_a_real_network_tell_the_kinds_apart(cells: tuple, shared_weights: Callable[[str], Path]) -> None:
    import keras

    images, names, slides = cells
    network = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None, pooling="avg")
    network.load_weights(shared_weights("mobilenet_v2_0.35_224_no_top"))
    scaled = np.stack([cv2.resize(image, (96, 96), interpolation=cv2.INTER_AREA) for image in images]).astype(np.float32) / 127.5 - 1
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    with threadpool_limits(1):
        features = network.predict(scaled, batch_size=64, verbose=0)
        accuracy = cross_val_score(model, features, names, cv=GroupKFold(5, shuffle=True, random_state=0), groups=slides).mean()
    assert accuracy > 0.9
