"""Gradients beside cross-entropy's: against what the backend differentiates, and pinned at a committed model's predictions."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from keras import ops

from common.errors import UsageError
from lmf.experiments.gradients import GradientsSettings
from lmf.gradients import ONE_READING, TWO_READINGS, gradients_command, parts, table_of
from lmf.losses import build_loss

SETTINGS = GradientsSettings(run=Path())
COUNTS = [229, 360, 769, 81, 779, 4693, 100]
CLASSES = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
LOSS_ARGUMENTS = {
    "focal": ("gamma", "max_margin"),
    "ldam": ("max_margin",),
    "lmf": ("alpha", "beta", "gamma", "max_margin"),
    "logit_adjusted": ("tau",),
}


@pytest.fixture(scope="module")
def predictions():
    """Every fifth test image of the cross-entropy run on HAM10000 by lesion (MobileNetV2 0.35, 112 px): probabilities and class numbers."""
    table = pd.read_csv(Path(__file__).parent / "ham10000_predictions.csv")
    return table[[f"prob_{name}" for name in CLASSES]].to_numpy(), table["label"].map(CLASSES.index).to_numpy()


def differentiated(loss, labels, logits):
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda z: loss(labels, z))(ops.convert_to_tensor(logits)))
    import tensorflow as tf

    z = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(labels, z)
    return np.asarray(tape.gradient(value, z))


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("name", ["cce", *TWO_READINGS, *ONE_READING])
def test_closed_forms_are_what_the_backend_differentiates(name, coded):
    rng = np.random.default_rng(5)
    logits, labels = rng.normal(0, 1, (9, 7)).astype("float32"), rng.integers(0, 7, 9)
    settings = dataclasses.replace(SETTINGS, alpha=0.7, beta=1.9, gamma=2.0, max_margin=0.4, tau=1.5)
    own = {key: getattr(settings, key) for key in LOSS_ARGUMENTS.get(name, ())}
    loss = build_loss(name, COUNTS, "coded" if coded else "described", **own)
    exponentials = np.exp(logits.astype("float64"))
    found = np.sum(parts(name, exponentials / exponentials.sum(1, keepdims=True), labels, COUNTS, settings, coded), axis=0) / 9
    assert found == pytest.approx(differentiated(loss, labels, logits), rel=2e-4, abs=1e-6)


def test_the_published_losses_are_almost_cross_entropy(predictions):
    """As described LDAM has cosine 0.999 and LMF 0.998; as coded about 0.89, the focal part 0.7 to 0.8 % of LDAM's."""
    probabilities, labels = predictions
    table = table_of(probabilities, labels, CLASSES, COUNTS, SETTINGS)
    whole = table[table["class"] == "all"].set_index(["loss", "reading"])
    assert whole.loc[("ldam", "described"), "cosine"] == pytest.approx(0.999, abs=5e-4)
    assert whole.loc[("lmf", "described"), "cosine"] == pytest.approx(0.998, abs=1e-3)
    for name in ("ldam", "lmf"):
        assert whole.loc[(name, "coded"), "cosine"] == pytest.approx(0.89, abs=0.02)
    row = whole.loc[("lmf", "coded")]
    assert 0.006 < row["focal_share"] / row["ldam_share"] < 0.009
    assert whole["focal_share"].notna().sum() == 2
    assert (table.loc[table["class"] != "all", "images"].sum(), len(table)) == (301 * 12, 12 * 8)


def test_a_class_alone_and_a_class_without_images(predictions):
    probabilities, labels = predictions
    keep = labels != 3
    table = table_of(probabilities[keep], labels[keep], CLASSES, COUNTS, dataclasses.replace(SETTINGS, losses=("wcce",)))
    rows = table[table["reading"] == "described"].set_index("class")
    # Within a class a class weight changes the length alone: N / (K n).
    assert rows.loc["nv", "cosine"] == pytest.approx(1) and rows.loc["nv", "norm_ratio"] == pytest.approx(sum(COUNTS) / 7 / 4693)
    assert np.isnan(rows.loc["df", "cosine"]) and rows.loc["df", "images"] == 0


def write_run(folder: Path, predictions, counts=COUNTS, **settings) -> Path:
    """A finished run folder with these predictions."""
    from common.runs.folder import Run

    run = Run.open("lmf", "train", {"loss": "cce", "seed": 0, "class_counts": counts, **settings}, run_dir=folder, fingerprint="0")
    probabilities, labels = predictions
    table = pd.DataFrame({"image": [f"{i}.jpg" for i in range(len(labels))], "label": np.array(CLASSES)[labels]})
    table["predicted"] = np.array(CLASSES)[probabilities.argmax(1)]
    run.write_csv("predictions.csv", table.assign(**{f"prob_{name}": probabilities[:, i] for i, name in enumerate(CLASSES)}))
    (folder / "metrics.json").write_text("{}")
    run.finish()
    return folder


def test_the_command_writes_both_files(predictions, tmp_path, capsys):
    folder = write_run(tmp_path / "run", predictions)
    report = gradients_command(GradientsSettings(run=folder, losses=("ldam", "lmf"), output=tmp_path / "out"))
    assert report == tmp_path / "out" / "report.md"
    written = pd.read_csv(tmp_path / "out" / "table.csv")
    assert len(written) == 4 * 8 and set(written["reading"]) == {"described", "coded"}
    assert "lmf coded" in capsys.readouterr().out


def test_runs_of_different_recipes_have_sections_of_their_own(predictions, tmp_path):
    for alpha in (0.5, 2.0):
        write_run(tmp_path / f"alpha{alpha}", predictions, loss="lmf", alpha=alpha)
    text = gradients_command(GradientsSettings(run=tmp_path, losses=("lmf",), output=tmp_path / "out")).read_text()
    assert text.count("## lmf, seed 0, recipe ") == 2 and len(pd.read_csv(tmp_path / "out" / "table.csv")) == 2 * 2 * 8


def test_a_run_without_counts_is_named(predictions, tmp_path):
    folder = write_run(tmp_path / "run", predictions, counts=[1, 2])
    with pytest.raises(UsageError, match="names no class_counts"):
        gradients_command(GradientsSettings(run=folder))
