"""A tiny network and finished runs of it, so that the tests of training, tables and explanations take seconds."""

import keras
import pytest

from common.runs.folder import Run
from lmf.experiments.train import TrainSettings
from lmf.training import train as training

SMALL = {"image_size": 32, "epochs": 2, "batch_size": 16}


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A saved Keras model of two convolutions, given to `--network`."""
    layers = [keras.layers.Conv2D(8, 3, 2), keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.Conv2D(8, 3, 2)]
    path = tmp_path_factory.mktemp("network") / "tiny.keras"
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), *layers]).save(path)
    return path


@pytest.fixture(scope="session")
def options_of(network, sample_cache):
    """`options_of(run_dir, **values)`: settings of a run of seconds on the drawn HAM10000."""

    def make(run_dir, **values) -> TrainSettings:
        return TrainSettings(**{**SMALL, "network": network, "cache_dir": sample_cache, "run_dir": run_dir, **values})

    return make


@pytest.fixture(scope="session")
def trained(options_of, tmp_path_factory) -> Run:
    """A finished LMF run with its cross-entropy control."""
    return training.train(options_of(tmp_path_factory.mktemp("trained") / "lmf", control=True))
