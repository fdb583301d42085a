"""One small finished run of each method, trained once for all tests (and for all workers of pytest-xdist)."""

import fcntl
import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest

from common.cli import parse


def settings_of(command: str, *words: Any) -> Any:
    """The settings that `python -m cervical COMMAND WORDS…` runs with."""
    module = importlib.import_module(f"cervical.experiments.{command.replace('-', '_')}")
    return parse(module.COMMAND, [str(word) for word in words], f"python -m cervical {command}")


@dataclass(frozen=True)
class Finished:
    """Working folder, the options all runs share, and the run folders."""

    home: Path
    options: tuple[str, ...]
    contrastive: Path
    finetune: Path
    cost_sensitive: Path


def small_backbone(name: str, image_size: int, weights: str | None = None, pooling: str | None = None) -> keras.Model:
    """Stands in for `build_backbone`: two convolutions with batch normalisation, which compile in a second."""
    inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, name="conv_1")(inputs)
    x = keras.layers.BatchNormalization(name="bn_1")(x)
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="conv_2")(x)
    if pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, x, name=name)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """contrastive with control, finetune, and cost-sensitive that goes on from it: 50 drawn cells, 32 px, one epoch a
    stage, a network of two convolutions."""
    from cervical.training.contrastive import run_contrastive
    from cervical.training.cost_sensitive import run_cost_sensitive
    from cervical.training.finetune import run_finetune

    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cervical"
    home.mkdir(exist_ok=True)
    options = ("--cache-dir", str(home / "cache"), "--limit", "50", "--image-size", "32", "--copies", "1", "--epochs", "1")
    options += ("--batch-size", "16")
    with (home / "lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the second worker finds finished runs
        patch.chdir(home)
        patch.setattr("cervical.models.build_backbone", small_backbone)
        return Finished(
            home,
            options,
            home / run_contrastive(settings_of("contrastive", *options, "--control")),
            home / run_finetune(settings_of("finetune", *options)),
            home / run_cost_sensitive(settings_of("cost-sensitive", *options, "--init", "finetuned")),
        )


@pytest.fixture
def at_home(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """`finished`, with its folder as the working directory."""
    monkeypatch.chdir(finished.home)
    return finished
