"""Where the runs of a grid happen: every grid command takes these options, and each acts or is refused in one line."""

import importlib
import importlib.util

import pytest

from common.cli import parse
from common.errors import UsageError
from common.grids import Engine
from common.settings import recipe

GRIDS = (
    *(("cervical", name) for name in ("tables", "compare_losses", "freeze_depth", "tune")),
    *(("lmf", name) for name in ("tables", "sweep", "tune")),
    *(("melanoma", name) for name in ("ablation", "repeats", "multitask", "thresholds", "baselines")),
    *(("feedback", name) for name in ("tables", "search")),
)


def options(study: str, name: str, *words: str) -> Engine:
    found = parse(importlib.import_module(f"{study}.experiments.{name}").COMMAND, words)
    assert isinstance(found, Engine)
    return found


@pytest.mark.parametrize(("study", "name"), GRIDS)
def test_every_grid_command_takes_the_engine_and_no_recipe_knows_it(study, name):
    found = options(study, name, "--parallel", "3")
    assert (found.engine, found.parallel) == ("local", 3)
    with pytest.raises(UsageError, match="--gpus-per-cell: has no effect here: expected --engine ray"):
        options(study, name, "--gpus-per-cell", "0.25")
    if study == "feedback":  # whose folders are named by the command's own settings
        assert recipe(found) == recipe(options(study, name))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--parallel 0", "--parallel 0: expected between 1 and 1024"),
        ("--engine slurm", "--engine"),
        ("--engine ray --parallel 2", "--parallel: has no effect here: with --engine ray"),
        ("--engine ray --address here", "--address here: expected auto, local or HOST:PORT"),
        ("--engine ray --address head:port", "--address head:port: expected auto, local or HOST:PORT"),
        ("--engine ray --gpus-per-cell 1.5", "--gpus-per-cell 1.5: expected a part of one GPU, or whole ones"),
        ("--engine ray --gpus-per-cell nan", "--gpus-per-cell nan: expected between 0 and 64"),
        ("--engine ray --cpus-per-cell 0", "--cpus-per-cell 0: expected between 1 and 1024"),
    ],
)
def test_a_wrong_engine_is_one_line(words, said):
    with pytest.raises(UsageError) as error:
        options("lmf", "tables", *words.split())
    assert said in str(error.value) and "\n" not in str(error.value)


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else found(name, *more))
    with pytest.raises(UsageError, match="--engine ray: Ray is not installed; install requirements-ray.txt"):
        options("lmf", "tables", "--engine", "ray")
