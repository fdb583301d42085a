"""Labels that were changed on purpose are found among predictions of a good model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cleanlab.rank import get_self_confidence_for_each_label
from PIL import Image

from common.data.audit import audit_command
from common.data.dataset import Dataset
from common.errors import UsageError
from common.report.label_errors import likely_errors
from common.runs.outcome import write_predictions

CLASSES = ("a", "b", "c", "never")


def table(n: int = 150, wrong: int = 12) -> tuple[pd.DataFrame, np.ndarray, set[str]]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, n)
    probabilities = rng.dirichlet(np.ones(4), n) * 0.3
    probabilities[np.arange(n), truth] += 0.7
    changed = set(rng.permutation(n)[:wrong].tolist())
    labels = [CLASSES[(each + 1) % 3 if i in changed else each] for i, each in enumerate(truth)]
    rows = pd.DataFrame({"image": [f"{i:03d}.png" for i in range(n)], "label": labels})
    return rows, probabilities / probabilities.sum(axis=1, keepdims=True), {f"{i:03d}.png" for i in changed}


def test_changed_labels_are_found_and_the_right_class_is_suggested(tmp_path: Path) -> None:
    rows, probabilities, changed = table()
    written = write_predictions(tmp_path, rows, probabilities, CLASSES)
    found = likely_errors(written, CLASSES)
    # Confident learning is careful: it finds most of the twelve, and no label that is right.
    assert set(found["image"]) <= changed and len(found) >= 8 and (found["label"] != found["suggested"]).all()
    expected = get_self_confidence_for_each_label(
        np.array([CLASSES.index(each) for each in rows["label"]]), probabilities[:, :3] / probabilities[:, :3].sum(axis=1, keepdims=True)
    )
    assert found["probability_of_label"].to_numpy() == pytest.approx(expected[[int(name[:3]) for name in found["image"]]], abs=1e-5)
    assert found["probability_of_label"].is_monotonic_increasing


@pytest.fixture
def audited(tmp_path: Path) -> tuple[Path, Dataset, set[str]]:
    """A run, the data set that it is of, and the images whose label was changed."""
    rows, probabilities, changed = table()
    run, data = tmp_path / "run", tmp_path / "data"
    run.mkdir()
    data.mkdir()
    rng = np.random.default_rng(0)
    for name in rows["image"]:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(data / name)
    (run / "config.json").write_text(json.dumps({"study": "lmf", "experiment": "train", "classes": CLASSES, "synthetic": True}))
    write_predictions(run, rows, probabilities, CLASSES)
    return run, Dataset("own", data, rows.assign(group=rows["image"])), changed


def no_split(how: str) -> pd.DataFrame:
    raise UsageError("too few images")


def test_the_audit_lists_and_draws_labels_that_a_run_takes_for_wrong(audited, tmp_path: Path) -> None:
    run, dataset, changed = audited
    audit_command(dataset, no_split, tmp_path / "out", run)
    found = pd.read_csv(tmp_path / "out" / "label_errors.csv")
    assert set(found["image"]) <= changed and (tmp_path / "out" / "label_errors.png").is_file()
    assert f"{len(found)} of the test images of run have a label that is probably wrong" in (tmp_path / "out" / "audit.md").read_text()
    result = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert result["findings"][-1].startswith(f"{len(found)} of the test images")


def test_a_run_of_other_images_is_refused_before_anything_is_written(audited, tmp_path: Path) -> None:
    run, dataset, _ = audited
    other = replace(dataset, manifest=dataset.manifest[3:])
    with pytest.raises(UsageError, match="--run .*run: 3 of its test images are not in this data set \\(first: 000.png\\)"):
        audit_command(other, no_split, tmp_path / "out", run)
    assert not (tmp_path / "out").exists()


def test_one_class_is_too_few(tmp_path: Path) -> None:
    rows, probabilities, _ = table()
    written = write_predictions(tmp_path, rows.assign(label="a"), probabilities, CLASSES)
    with pytest.raises(UsageError, match="at least two classes"):
        likely_errors(written, CLASSES)
