import json

import pytest

from common.errors import UsageError
from common.runs.finished import FoundRun, by_recipe, differences, finished_runs, names_by_difference, select


@pytest.fixture
def study(tmp_path, make_run):
    """Two seeds of one loss, one of another, a control inside a run, a run that was killed, and one of another study."""

    def run(name, seed, loss, finished=True, **config):
        settings = {"loss": loss, "seed": seed, "encoder": {"epochs": 3}, "backend": "tensorflow"}
        path = make_run(tmp_path / name, seed=seed, settings=settings, data_fingerprint="abc", **config)
        if finished:
            (path / "finished.json").write_text("{}")
        return path

    run("b", 1, "npairs"), run("a", 0, "npairs"), run("copy", 0, "npairs"), run("c", 0, "triplet")
    run("a/control", 0, None, experiment="contrastive-control")
    run("killed", 2, "npairs", finished=False)
    run("other", 0, "npairs", study="lmf")
    return tmp_path


def test_finished_runs_of_the_study_controls_too(study):
    runs = finished_runs(study, "cervical")
    assert [run.path.relative_to(study).as_posix() for run in runs] == ["a", "a/control", "b", "c", "copy"]
    assert [run.experiment for run in finished_runs(study, "cervical", experiments=["contrastive-control"])] == ["contrastive-control"]
    assert runs[0].metrics()["n"] == 120 and len(runs[0].history()) == 3
    table, classes = runs[0].predictions()
    assert len(table) == 120 and classes == ("Dyskeratotic", "Koilocytotic", "Parabasal")


def test_seeds_of_one_recipe_stand_together_and_a_copy_is_no_seed(study):
    groups = by_recipe(finished_runs(study, "cervical"))
    assert [[(run.path.name, run.seed) for run in runs] for runs in groups.values()] == [[("a", 0), ("b", 1)], [("control", 0)], [("c", 0)]]
    npairs, control, triplet = groups
    names = names_by_difference(groups)
    assert names == {npairs: "contrastive, loss npairs", control: "contrastive-control", triplet: "contrastive, loss triplet"}


@pytest.mark.parametrize(
    "change", [{"weights": "imagenet"}, {"encoder": {"epochs": 4}}, {"batch_size": 8}, {"backend": "jax"}, {"split_seed": 1}]
)
def test_any_setting_but_the_seed_makes_another_method(study, make_run, change):
    settings = {"loss": "npairs", "seed": 5, "encoder": {"epochs": 3}, "backend": "tensorflow", **change}
    path = make_run(study / "changed", settings=settings, data_fingerprint="abc")
    (path / "finished.json").write_text("{}")
    groups = by_recipe(finished_runs(study, "cervical"))
    assert [run.path.name for run in groups[next(run.digest for run in finished_runs(study, "cervical") if run.path == path)]] == [
        "changed"
    ]


def test_select_by_nested_fields(study):
    runs = finished_runs(study, "cervical")
    assert len(select(runs, loss="npairs", **{"encoder.epochs": 3})) == 3
    assert not select(runs, **{"encoder.epochs": 4}) and len(select(runs, seed=1)) == 1


def test_differences_are_dotted_and_show_what_is_missing():
    assert differences([{"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, {"a": 1, "d": 4}]) == {"b.c": (2, 3, None), "d": (None, None, 4)}


def test_a_config_of_nobody_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"config\.json: study is missing; expected a word"):
        FoundRun.of(tmp_path)


@pytest.mark.parametrize("seed", ["one", 1.5, [0]])
def test_a_seed_that_is_no_number_is_one_line(tmp_path, make_run, seed):
    config = make_run(tmp_path / "run", settings={"seed": 0}) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"settings": {"seed": seed}}))
    for read in (lambda: FoundRun.of(tmp_path / "run"), lambda: finished_runs(tmp_path, "cervical")):
        with pytest.raises(UsageError, match=r"config\.json: settings is .*expected a JSON object with a whole number as seed"):
            read()


def test_nothing_found_is_one_line(tmp_path, make_run):
    with pytest.raises(UsageError, match=f"{tmp_path}: no finished run of melanoma train below it$"):
        finished_runs(tmp_path, "melanoma", experiments=["train"])
    make_run(tmp_path / "old", settings={"seed": 0})
    with pytest.raises(UsageError, match="older form"):
        finished_runs(tmp_path, "cervical")
