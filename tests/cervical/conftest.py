"""One small finished run of each method, trained once for all tests (and for all workers of pytest-xdist)."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cervical.config import ContrastiveOptions, CostSensitiveOptions, FinetuneOptions


@dataclass(frozen=True)
class Finished:
    """Working folder, the options all runs share, and the run folders."""

    home: Path
    options: dict[str, Any]
    contrastive: Path
    finetune: Path
    cost_sensitive: Path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """contrastive with control, finetune, and cost-sensitive that goes on from it: 50 drawn cells, 32 px, one epoch a stage."""
    from cervical.training import run_contrastive, run_cost_sensitive, run_finetune

    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cervical"
    home.mkdir(exist_ok=True)
    options = {"cache_dir": home / "cache", "limit": 50, "image_size": 32, "copies": 1, "epochs": 1, "batch_size": 16}
    before = Path.cwd()
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the second worker finds finished runs
        os.chdir(home)
        try:
            yield_value = Finished(
                home,
                options,
                home / run_contrastive(ContrastiveOptions(**options, control=True)),
                home / run_finetune(FinetuneOptions(**options)),
                home / run_cost_sensitive(CostSensitiveOptions(**options, init="finetuned")),
            )
        finally:
            os.chdir(before)
    yield yield_value


@pytest.fixture
def at_home(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """`finished`, with its folder as the working directory."""
    monkeypatch.chdir(finished.home)
    return finished
