"""A finished simulation on the sample with a very small base, and what its tests share."""

import gc
from pathlib import Path

import pytest

from feedback import reporting
from feedback.experiments.simulate import SimulateSettings
from feedback.training.simulate import run_simulate


def options_of(cache, base, run_dir, kind=SimulateSettings, **values):
    """Settings of a short simulation."""
    small = {"epochs": 2, "batch_size": 16, "cache_dir": cache, "base": base, "run_dir": run_dir, "layer": "conv2"}
    return kind(**{**small, **values})


@pytest.fixture(scope="session")
def run(sample_cache, small_base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "combined"
    return run_simulate(options_of(sample_cache, small_base, folder, balance="upsampled", faithfulness=2))


def no_figures(monkeypatch) -> None:
    """Without a run's figures, which are half of its time and drawn for the fixture `run`."""
    monkeypatch.setattr(reporting.figures, "simulation_figures", lambda *_: None)
    monkeypatch.setattr("common.report.plots.standard_figures", lambda *_: [])


def release() -> None:
    """A killed process drops its lock; here the process lives on, so the abandoned run object must go."""
    gc.collect()
