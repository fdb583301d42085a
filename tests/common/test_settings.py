"""Settings parsed over a reading, and the recipe that tells trainings apart."""

import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import pytest

from common.cli import main, parse
from common.errors import UsageError
from common.settings import Command, ExistingFolder, Settings, Training, Within, check_range, check_run_dir, recipe, require

HERE = __name__


@dataclass(frozen=True)
class Stage:
    epochs: int = 50
    learning_rate: float = 1e-3

    def check(self, name: str) -> None:
        check_range(f"{name}.epochs", self.epochs, 1, 100_000)
        check_range(f"{name}.learning-rate", self.learning_rate, 0, 1, above=True)


@dataclass(frozen=True, kw_only=True)
class Example(Training):
    """Settings of the example."""

    CONTENT = Training.CONTENT | {"costs"}

    loss: str = "npairs"
    temperature: float = 0.05
    seeds: tuple[int, ...] = (0,)
    costs: str = "balanced"
    encoder: Stage = field(default_factory=Stage)
    classifier: Stage = field(default_factory=Stage)

    def check(self) -> None:
        super().check()
        check_range("temperature", self.temperature, 0, above=True)
        self.encoder.check("encoder")
        self.classifier.check("classifier")

    def unused(self) -> dict[str, str]:
        free = {"temperature": "the triplet loss has none"} if self.loss == "triplet" else {}
        return super().unused() | free | ({"classifier.epochs": "no classifier with costs"} if self.costs == "none" else {})


DESCRIBED = Example()
READINGS = {
    "described": DESCRIBED,
    "coded": replace(DESCRIBED, reading="coded", encoder=Stage(learning_rate=1e-4)),
    "corrected": replace(DESCRIBED, reading="corrected", split="grouped"),
}


def default(reading: str, dataset: str) -> Example:
    return replace(READINGS[reading], dataset=dataset, image_size=64 if dataset == "sample" else 110)


EVERYWHERE = {
    "epochs": ("encoder.epochs", "classifier.epochs"),
    "learning-rate": ("encoder.learning-rate", "classifier.learning-rate"),
}
COMMAND = Command(Example, "os:nothing", "What it reproduces (fig. 3, Table 2). Costs nothing.", default, EVERYWHERE)


def test_an_option_overrides_one_field_of_the_reading_and_nothing_else() -> None:
    assert parse(COMMAND, ["--reading", "coded", "--temperature", "0.1"]) == replace(default("coded", "sample"), temperature=0.1)
    assert parse(COMMAND, ["--reading=coded", "--encoder.learning-rate", "0.5"]).encoder == Stage(learning_rate=0.5)


def test_the_data_set_chooses_the_settings_too(tmp_path: Path) -> None:
    assert parse(COMMAND, []).image_size == 64
    folders = parse(COMMAND, ["--dataset", "folders", "--data-dir", str(tmp_path)])
    assert (folders.reading, folders.split, folders.image_size) == ("corrected", "grouped", 110)
    assert parse(COMMAND, ["--dataset", "folders", "--data-dir", str(tmp_path), "--reading", "described"]).reading == "described"


@pytest.mark.parametrize("words", [["--epochs", "3"], ["--epochs=3"]])
def test_an_option_for_every_stage_sets_each_and_a_later_one_wins(words: list[str]) -> None:
    found = parse(COMMAND, [*words, "--classifier.epochs", "7"])
    assert (found.encoder.epochs, found.classifier.epochs) == (3, 7)
    found = parse(COMMAND, ["--classifier.epochs", "7", *words])
    assert (found.encoder.epochs, found.classifier.epochs) == (3, 3)


def test_help_shows_the_real_defaults_of_the_reading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("study", {"train": COMMAND}, ["train", "--reading", "coded", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert (
        "--encoder.learning-rate FLOAT (default: 0.0001)" in page
        and "--epochs, --learning-rate set the options of their names in encoder and classifier." in page
    )


def test_an_overview_does_not_end_a_sentence_at_an_abbreviation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("study", {"train": COMMAND}, ["--help"]) == 0
    assert "What it reproduces (fig. 3, Table 2)." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reading", "coded", "--encoder.learning-rate", "0"], "--encoder.learning-rate 0.0: expected more than 0"),
        (["--reading", "loud"], "--reading loud: expected one of described, coded, corrected"),
        (["--decoder.epochs", "3"], "--decoder.epochs"),
        (["--loss", "triplet", "--temperature", "0.05"], "--temperature: has no effect here: the triplet loss has none"),
        (["--costs", "none", "--classifier.epochs", "3"], "--classifier.epochs: has no effect here"),
        (["--epochs", "1" + 23 * "0"], "--encoder.epochs"),
        (["--epochs", "1" + 4999 * "0"], "--encoder.epochs"),
        (["--limit", "1" + 20 * "0"], "--limit"),
        (["--limit", "1"], "--limit 1: expected between 8 and"),
        (["--batch-size", "1" + 18 * "0"], "--batch-size"),
        (["--temperature", "inf"], "--temperature inf: expected more than 0"),
        (["--temperature", "nan"], "--temperature nan: expected more than 0"),
        (["--data-dir", ""], "--data-dir: expected a value, got an empty one"),
        (["--seeds"], "--seeds: expected at least one value"),
        (["--epochs"], "--epochs: expected a value"),
        (["--dataset", "sipakmed"], "--dataset sipakmed: expected --data-dir"),
        (["--data-dir", "."], "--data-dir: has no effect here: the sample is drawn on the spot"),
        (["--run-dir", "/dev/null/run"], "--run-dir /dev/null/run: "),
        (["--run-dir", "/proc/x/y"], "/proc cannot be written"),
        (["--run-dir", "x" * 5000], "cannot be a folder"),
        (["--weights", "no.h5"], "--weights no.h5: no such file"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("study", {"train": COMMAND}, ["train", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_seed_and_places_are_no_part_of_a_recipe_and_everything_else_is(tmp_path: Path) -> None:
    one = recipe(Example())
    assert recipe(Example(seed=3, run_dir=tmp_path, cache_dir=tmp_path, data_dir=tmp_path, skip_unreadable=True, log="mlflow")) == one
    changed = {"split_seed": 1, "precision": "mixed_float16", "limit": 9, "encoder": Stage(epochs=2), "loss": "supcon", "batch_size": 8}
    for name, value in changed.items():
        assert recipe(replace(Example(), **{name: value})) != one, name
    assert recipe(Example(), classes=("a", "b")) != recipe(Example(), classes=("a", "c"))


def test_the_backend_is_part_of_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    one = recipe(Example())
    monkeypatch.setenv("KERAS_BACKEND", "jax" if one["backend"] == "tensorflow" else "tensorflow")
    assert recipe(Example()) != one


def test_unused_fields_are_no_part_of_a_recipe() -> None:
    assert "temperature" in recipe(Example())
    assert "temperature" not in recipe(Example(loss="triplet"))
    assert "epochs" not in recipe(Example(costs="none"))["classifier"] and "epochs" in recipe(Example(costs="none"))["encoder"]


def test_files_count_by_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one" / "costs.csv", tmp_path / "two" / "costs.csv"
    for path in (one, two):
        path.parent.mkdir()
        path.write_text("a,1\n")
    found = recipe(Example(costs=str(one)))
    assert found["costs"] == "costs.csv" and found["costs_sha256"] == hashlib.sha256(b"a,1\n").hexdigest()
    assert recipe(Example(costs=str(two))) == found
    two.write_text("a,2\n")
    assert recipe(Example(costs=str(two))) != found


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 2, 10**400])
def test_a_number_out_of_range_names_option_and_range(value: float) -> None:
    with pytest.raises(UsageError, match="--rate .*: expected between 0 and 1"):
        check_range("rate", value, 0, 1)


def test_ranges_can_leave_their_lower_end_out() -> None:
    check_range("rate", 1, 0, 1, above=True)
    with pytest.raises(UsageError, match="expected more than 0 and at most 1"):
        check_range("rate", 0, 0, 1, above=True)


def test_a_run_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_run_dir(tmp_path / "new" / "run")
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        check_run_dir(tmp_path / "file" / "run")


def test_require() -> None:
    require(True, "x")
    with pytest.raises(UsageError, match="x"):
        require(False, "x")


@dataclass(frozen=True, kw_only=True)
class Ranged(Settings):
    share: Annotated[float, Within(0, 1)] = 0.5
    rate: Annotated[float, Within(0.0, 1.0, above=True)] = 0.5
    place: ExistingFolder = None


@dataclass(frozen=True, kw_only=True)
class OtherDefault(Ranged):
    share: float = 0.7


def test_a_field_brings_its_range_and_keeps_it_where_a_class_gives_another_default(tmp_path):
    for kind in (Ranged, OtherDefault):
        with pytest.raises(UsageError, match="--share 2: expected between 0 and 1$"):
            kind(share=2)
        with pytest.raises(UsageError, match="--rate 0: expected more than 0.0 and at most 1.0$"):
            kind(rate=0)
        kind(place=tmp_path).check_paths()
        with pytest.raises(UsageError, match="--place .*no: no such folder"):
            kind(place=tmp_path / "no").check_paths()
