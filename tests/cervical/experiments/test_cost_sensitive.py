"""Cost-sensitive training's readings, and what a file of costs decides."""

from cervical.experiments import finetune
from cervical.experiments.base import restricted
from cervical.experiments.cost_sensitive import CODED, CORRECTED, DESCRIBED, READINGS
from cervical.experiments.finetune import FinetuneSettings
from common.settings import recipe
from tests.cervical.conftest import settings_of


def test_readings_differ_from_fine_tuning_in_the_costs_alone():
    for name, reading in READINGS.items():
        assert FinetuneSettings(**restricted(reading, FinetuneSettings)) == finetune.READINGS[name]
    assert (DESCRIBED.costs, DESCRIBED.init, CODED.init, CORRECTED.costs) == ("printed", "start", "finetuned", "balanced")


def test_a_file_of_costs_enters_by_its_content(tmp_path):
    path, found = tmp_path / "costs.csv", []
    for text in ("a,1\n", "a,2\n"):
        path.write_text(text)
        found.append(recipe(settings_of("cost-sensitive", "--costs", path)))
    assert found[0]["costs"] == "costs.csv" and found[0] != found[1] and str(tmp_path) not in str(found[0])


def test_other_classes_get_balanced_costs_unless_the_user_insists(tmp_path):
    own = ("cost-sensitive", "--dataset", "folders", "--data-dir", tmp_path, "--reading", "described")
    assert settings_of(*own).costs == "balanced" and settings_of(*own, "--costs", "printed").costs == "printed"
