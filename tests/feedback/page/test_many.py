"""Many true corrections in a row: the map follows, the classifier stays. A small version on discs, the real one on ISIC 2018."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from common.data.images import read_image, resize
from common.data.masks import read_mask
from common.metrics.overlap import jaccard_index
from feedback.assessment import class_scores
from feedback.experiments import baseline, simulate
from feedback.experiments.serve import ServeSettings
from feedback.page import serve
from feedback.page.session import CorrectionSession
from feedback.training.baseline import run_baseline
from feedback.training.simulate import run_simulate
from tests.feedback.page.conftest import CLASSES, draw


def scores(session: CorrectionSession, pictures: list[np.ndarray], labels: list[str], masks: list[np.ndarray]) -> tuple[float, float]:
    """Balanced accuracy and mean Jaccard index of the predicted class's maps on images that nobody corrects."""
    size = session.model.size
    images = np.stack([resize(picture, size, session.log.session["resize_filter"]) for picture in pictures])
    regions = np.stack([resize(mask.astype("uint8"), size, "nearest") for mask in masks]) > 0
    truth = np.array([session.classes.index(label) for label in labels])
    found = class_scores(truth, session.model.probabilities(images), session.classes)
    return found["balanced_accuracy"], float(np.mean(jaccard_index(regions, session.model.maps(images), session.threshold)))


def correct_truly(session: CorrectionSession, name: str, label: str, mask: np.ndarray) -> bool:
    """What a user who knows the truth says of an image; False where both are right and there is nothing to learn."""
    look = session.view(name).look
    region = np.asarray(resize(mask.astype("uint8"), session.model.size, "nearest")) > 0
    class_right = session.classes[look.predicted] == label
    region_right = float(jaccard_index(region, look.map, session.threshold)) >= 0.5
    if class_right and region_right:
        return False
    case = "region_wrong" if class_right else "class_wrong" if region_right else "both_wrong"
    session.correct(name, case, None if class_right else label, None if region_right else mask)
    return True


def wider(region: np.ndarray) -> np.ndarray:
    """The disc with its surroundings: what the user wants shown is not what the network was built to show."""
    return binary_dilation(region, iterations=5)


def test_ten_true_corrections_of_discs(start, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20, 40):
        Image.fromarray(draw(number)[0]).save(images / f"{number}.png")
    session = start(images=images, steps=5, learning_rate=0.05)
    unseen = [draw(number) for number in range(60, 84)]
    truth = [picture for picture, _ in unseen], [CLASSES[number % 3] for number in range(60, 84)], [wider(region) for _, region in unseen]
    before = scores(session, *truth)
    learned = sum(correct_truly(session, f"{number}.png", CLASSES[number % 3], wider(draw(number)[1])) for number in range(20, 30))
    after = scores(session, *truth)
    assert learned >= 5 and after[0] >= before[0] - 0.05 and after[1] > before[1]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_25_true_corrections_of_isic_2018(shared_data, shared_weights, tmp_path):
    """An adapted base of HAM10000 and 25 corrections in a row of test images, the guard rolling back: balanced accuracy within 0.03."""
    folder = shared_data("isic2018_task1")
    weights = str(shared_weights("mobilenet_v2_0.35_224_no_top"))
    base = run_baseline(replace(
        baseline.CORRECTED, dataset="ham10000", data_dir=shared_data("ham10000"), backbone="mobilenetv2_035", weights=weights, limit=2000,
        image_size=112, epochs=8, learning_rate=5e-4, head="average", head_units=256, cache_dir=tmp_path, run_dir=tmp_path / "base",
    ))  # fmt: skip
    run = run_simulate(replace(
        simulate.CORRECTED, dataset="isic2018", data_dir=folder, labels_csv=shared_data("isic2019") / "ISIC_2019_Training_GroundTruth.csv",
        base=base, adapt_epochs=2, epochs=0, anchor_weight=0.0, cache_dir=tmp_path, run_dir=tmp_path / "adapted",
    ))  # fmt: skip
    table = pd.read_csv(run / "manifest.csv", keep_default_na=False)
    table = table[table["split"] == "test"].sample(frac=1, random_state=0)
    given, unseen = table.iloc[: len(table) // 2], table.iloc[len(table) // 2 :]
    session = serve.open_session(
        ServeSettings(run=run, images=folder / "images", log=tmp_path / "log", rollback="automatic", guard_drop=0.03)
    )
    truth = (
        [read_image(folder / name) for name in unseen["image"]], unseen["label"].tolist(),
        [read_mask(folder / name) for name in unseen["mask_lesion"]],
    )  # fmt: skip
    before, learned = scores(session, *truth), 0
    for row in given.itertuples():
        learned += correct_truly(session, Path(row.image).name, row.label, read_mask(folder / row.mask_lesion)) if learned < 25 else 0
    after = scores(session, *truth)
    session.close()
    assert learned == 25 and after[0] >= before[0] - 0.03 and after[1] > before[1]
