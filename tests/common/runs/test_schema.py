"""Fields of received files: types, ranges and names, each named when it does not fit."""

from pathlib import Path

import pandas as pd
import pytest

from common.errors import UsageError
from common.runs.schema import check, check_manifest, check_predictions

HERE = Path("run")


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("config.json", "study", "../evil"), ("config.json", "classes", "ab"), ("config.json", "classes", ["a", "a"]),
        ("config.json", "classes", ["a", 1]), ("config.json", "classes", []), ("config.json", "image_size", 10**9),
        ("config.json", "image_size", True), ("config.json", "image_size", "64"), ("config.json", "settings", []),
        ("config.json", "resize_filter", "os.system"), ("config.json", "seed", -1), ("config.json", "versions", {"a": 1}),
        ("config.json", "dataset", "x" * 1000), ("config.json", "command", "a\nb"), ("metrics.json", "accuracy", 1.5),
        ("metrics.json", "accuracy_interval", [0.1]), ("metrics.json", "n", -1), ("metrics.json", "per_class", {"a": 1}),
        ("metrics.json", "given", {"bootstrap_seed": "x"}), ("metrics.json", "given", {"cost_matrix": [[1, 2]]}),
        ("report.json", "printed", {"a": {"value": "x", "source": "s"}}), ("report.json", "printed", {"a": {"value": 1}}),
        ("report.json", "notes", "text"), ("model_card.json", "path", "x"), ("session.json", "replayed", -1),
        ("calibration.json", "score", "max"), ("calibration.json", "scores", ["x"]), ("calibration.json", "temperature", 0),
        ("finished.json", "files", []), ("local.json", "data_dir", 7),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(name: str, field: str, value: object) -> None:
    with pytest.raises(UsageError, match=field) as error:
        check(HERE / name, {field: value})
    assert name in str(error.value) and "expected" in str(error.value) and "\n" not in str(error.value)
    check(HERE / name, {})


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.png", "a/../../x.png", "a\\b.png", "a\x00.png"])
def test_a_manifest_leads_nowhere_else(name: str) -> None:
    for column in ("image", "mask_lesion"):
        with pytest.raises(UsageError, match=f"{column} is .* expected a path inside the data folder"):
            check_manifest(HERE / "manifest.csv", pd.DataFrame({"image": "a.png", column: [name]}))
    check_manifest(HERE / "manifest.csv", pd.DataFrame({"image": ["deep/a.png"], "mask_lesion": [""]}))


def table(**changes: list) -> pd.DataFrame:
    return pd.DataFrame(
        {"image": ["1", "2"], "label": ["a", "b"], "predicted": ["a", "a"], "prob_a": [0.9, 0.6], "prob_b": [0.1, 0.4]} | changes
    )


MANIFEST = pd.DataFrame({"image": ["1", "2", "3"], "label": ["a", "b", "a"], "split": ["test", "test", "train"]})


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (table(label=["a", "z"]), "label is 'z'"), (table(predicted=["a", ""]), "predicted is ''"),
        (table(prob_a=[0.9, float("nan")]), "line 3"), (table(prob_a=[0.9, 0.9]), "line 3"), (table(prob_a=["x", 0.6]), "no number"),
        (table()[:1], "holds 1 images, manifest.csv 2"), (table(label=["a", "a"]), "2 is a; manifest.csv says b"),
        (table(image=["1", "3"]), "3 is b; manifest.csv says nothing of it"),
    ],
)  # fmt: skip
def test_torn_and_changed_predictions_are_no_result(damaged: pd.DataFrame, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_predictions(HERE / "predictions.csv", damaged, ("a", "b"), MANIFEST)
    check_predictions(HERE / "predictions.csv", table(), ("a", "b"), MANIFEST)
