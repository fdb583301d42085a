import keras
import numpy as np
import pandas as pd
import pytest

from common.errors import UsageError
from common.explanation.graph import flatten as flat
from common.report.report import write_report
from common.runs.baselines import feature_model, write_baselines
from common.runs.folder import Run
from common.runs.outcome import write_metrics, write_predictions


def network(flatten: bool = False) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    pooled = layers.Flatten() if flatten else layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(6, 3, activation="relu"), pooled, layers.Dense(4), layers.Dense(2)])


@pytest.mark.parametrize("flatten", [False, True])
def test_features_are_the_mean_of_the_last_feature_map(flatten):
    model, images = network(flatten), np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    maps = keras.Model(model.inputs, model.layers[0].output).predict(images, verbose=0)
    assert feature_model(model).predict(images, verbose=0) == pytest.approx(maps.mean(axis=(1, 2)), abs=1e-5)


def test_features_of_a_pooled_backbone_are_its_output():
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    inner = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inner))
    inputs = keras.Input((8, 8, 3))
    encoder = keras.Model(inputs, keras.Model(inner, pooled)(keras.layers.Rescaling(2.0)(inputs)))
    assert feature_model(encoder).predict(images, verbose=0).shape == (2, 4)


@pytest.mark.parametrize("flatten", [False, True])
def test_features_of_a_flattened_network_are_those_of_its_own_graph(flatten):
    """Its layers stand in the nested graph too, which they name first."""
    inner = network(flatten)
    inputs = keras.Input((8, 8, 3), name="images")
    whole = keras.Model(
        inputs, inner.layers[-1](inner.layers[-2](inner.layers[1](keras.Model(inner.inputs, inner.layers[0].output)(inputs))))
    )
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    expected = feature_model(inner).predict(images, verbose=0)
    assert feature_model(flat(whole)[0]).predict(images, verbose=0) == pytest.approx(expected, abs=1e-6)


def test_both_baselines_stand_in_metrics_and_report(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.array([0, 0, 1] * 20)
    images = (rng.random((60, 8, 8, 3)) * 60 + 150 * labels[:, None, None, None]).astype(np.uint8)
    split = np.where(np.arange(60) < 39, "train", "test")
    manifest = pd.DataFrame({"image": [f"{i}.png" for i in range(60)], "label": np.array(["a", "b"])[labels], "split": split})
    run = Run.open("lmf", "train", {"seed": 0}, run_dir=tmp_path / "run")
    write_baselines(run, network(), images, labels, manifest, ("a", "b"), 0)
    before = (run.path / "baselines.csv").read_bytes()
    write_baselines(run, network(True), images, 1 - labels, manifest, ("a", "b"), 0)  # resumed: not made again
    assert (run.path / "baselines.csv").read_bytes() == before
    test = manifest[manifest["split"] == "test"]
    write_predictions(run, test, np.eye(2)[labels[39:]], ("a", "b"))
    found = write_metrics(run, 0)["baselines"]
    assert found["majority class"]["accuracy"] == pytest.approx(14 / 21) and found["majority class"]["balanced_accuracy"] == 0.5
    assert found["logistic probe"]["accuracy"] == 1.0 and found["logistic probe"]["auc"]["macro"] == 1.0
    text = write_report(run, "t", figures=False).read_text()
    assert "| majority class | 0.6667 | 0.5000 | 0.4000 | 0.5000 |" in text and "| logistic probe | 1.0000 |" in text


@pytest.mark.parametrize(("old", "new"), [("0.", "x."), ("prob_b", "b"), (",a,", ",z,")])
def test_damaged_baselines_are_one_line(tmp_path, old, new):
    rows = pd.DataFrame({"image": ["1", "2"], "label": ["a", "b"], "predicted": "a", "prob_a": [0.75, 0.5], "prob_b": [0.25, 0.5]})
    rows.to_csv(tmp_path / "predictions.csv", index=False)
    both = pd.concat([rows.assign(baseline=name) for name in ("majority class", "logistic probe")])
    text = both[["baseline", *rows.columns]].to_csv(index=False)
    (tmp_path / "baselines.csv").write_text(text)
    assert set(write_metrics(tmp_path, 0)["baselines"]) == {"majority class", "logistic probe"}
    (tmp_path / "baselines.csv").write_text(text.replace(old, new))
    with pytest.raises(UsageError, match="baselines.csv"):
        write_metrics(tmp_path, 0)
