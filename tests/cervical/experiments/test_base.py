"""Settings are effective values: what separates two readings can be varied alone, and what has no effect is refused."""

from dataclasses import asdict, fields, replace

import pytest

from cervical.experiments import contrastive, cost_sensitive, finetune
from cervical.experiments.base import SAMPLE, Stage
from common.errors import UsageError
from common.settings import recipe
from tests.cervical.conftest import settings_of

COMMANDS = {"finetune": finetune, "cost-sensitive": cost_sensitive, "contrastive": contrastive}
# Of a stage whose schedule does not look at anything there is no patience; it comes with the schedule.
RULES = ("patience", "reduce_factor", "reduce_patience", "min_learning_rate", "monitor")


def flat(values: dict, prefix: str = "") -> dict:
    found = {}
    for name, value in values.items():
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def written(option: str, value) -> list[str]:
    name = option.replace("_", "-")
    if isinstance(value, bool):
        before, dot, last = name.rpartition(".")
        return [f"--{before}{dot}{'' if value else 'no-'}{last}"]
    return [f"--{name}", str(value)]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_setting_that_separates_two_readings_can_be_varied_alone(command, tmp_path):
    module = COMMANDS[command]
    varied = 0
    for first in module.READINGS:
        for second in module.READINGS:
            one, other = (flat(asdict(module.default(name, "sipakmed"))) for name in (first, second))
            for option in one:
                if one[option] == other[option] or option == "reading":
                    continue
                words = ["--reading", first, "--dataset", "sipakmed", "--data-dir", tmp_path]
                words += ["--backbone", "vgg16"] if option == "body" else []  # the others are not cut
                plain, words = settings_of(command, *words), [*words, *written(option, other[option])]
                if option.rpartition(".")[2] in RULES and option in module.default(first, "sipakmed").unused():
                    with pytest.raises(UsageError, match="has no effect here"):
                        settings_of(command, *words)
                    continue
                if option == "copies_kind" and one["copies"] == 0:
                    continue
                found = settings_of(command, *words)
                changed = {name for name, value in flat(asdict(found)).items() if value != flat(asdict(plain))[name]}
                assert changed == {option}
                decides = recipe(found) != recipe(plain)
                assert decides or option in found.NOT_RECIPE, (first, second, option)
                varied += 1
    assert varied > 20


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("reading", ["described", "coded", "corrected", "reduced"])
def test_every_reading_is_small_on_the_sample(command, reading):
    found = settings_of(command, "--reading", reading)
    assert {name: getattr(found, name) for name in SAMPLE} == SAMPLE and found.reading == reading
    assert all(getattr(found, name).epochs <= 24 for name in found.STAGES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("contrastive", "--dataset", "ham10000"), "--dataset"),
        (("contrastive", "--dataset", "sipakmed"), "--data-dir"),
        (("contrastive", "--reading", "coded", "--encoder.learning-rate", "0"), "--encoder.learning-rate 0"),
        (("contrastive", "--epochs", "-1"), "--encoder.epochs -1"),
        (("contrastive", "--classifier.patience", "0"), "--classifier.patience 0"),
        (("contrastive", "--encoder.depth", "3"), "encoder.depth"),
        (("contrastive", "--temperature", "0"), "--temperature 0"),
        (("contrastive", "--backbone", "alexnet"), "--backbone alexnet"),
        (("finetune", "--copies", "7"), "--copies 7: expected between 0 and 6"),
        (("finetune", "--freeze", "-1"), "--freeze -1"),
        (("finetune", "--weights", "nowhere.h5"), "--weights nowhere.h5"),
        (("cost-sensitive", "--costs", "nowhere.csv"), "--costs nowhere.csv"),
        (("tables", "--backbones", "alexnet"), "--backbones alexnet"),
        (("tables", "--seeds", "1", "1"), "--seeds 1 1: one is given twice"),
        (("freeze-depth", "--depths", "-2"), "--depths -2"),
        # Without effect:
        (("contrastive", "--group-pattern", "(x)"), "--group-pattern: has no effect here"),
        (("contrastive", "--mask-dir", "."), "--mask-dir: has no effect here"),
        (("contrastive", "--loss", "triplet", "--temperature", "0.1"), "--temperature: has no effect here: the loss triplet has no"),
        (("contrastive", "--loss", "multiclass-npair", "--temperature", "0.1"), "--temperature: has no effect here"),
        (("contrastive", "--margin", "0.3"), "--margin: has no effect here"),
        (("contrastive", "--encoder.patience", "4"), "--encoder.patience: has no effect here"),
        (("contrastive", "--encoder.monitor", "loss"), "--encoder.monitor: has no effect here"),
        (("finetune", "--copies", "0", "--copies-kind", "coded"), "--copies-kind: has no effect here"),
        (("finetune", "--body", "truncated"), "--body: has no effect here"),
        (("finetune", "--training.schedule", "cosine", "--training.patience", "4"), "--training.patience: has no effect here"),
        (("audit", "--skip-unreadable"), "--skip-unreadable: has no effect here"),
        (("tables", "--contrastive.seed", "3"), "--contrastive.seed: has no effect here"),
        (("compare-losses", "--contrastive.loss", "triplet"), "--contrastive.loss: has no effect here"),
        (("freeze-depth", "--finetune.freeze", "3"), "--finetune.freeze: has no effect here"),
        (("contrastive", "--decision-costs", "."), "--decision-costs: has no effect here"),
        (("contrastive", "--decision", "minimum-cost"), "--decision minimum-cost: expected --decision-costs FILE"),
        (("tables", "--contrastive.limit", "40"), "--contrastive.limit: expected one limit for all runs"),
        (
            ("tables", "--methods", "finetune", "--contrastive.temperature", "0.1"),
            "--contrastive.temperature: has no effect here",
        ),
        (("tune", "--methods", "contrastive", "--finetune.dropout", "0.1"), "--finetune.dropout: has no effect here: --methods leaves"),
        # No such option:
        (("contrastive", "--labels-csv", "."), "--labels-csv"),
        (("tables", "--backbone", "vgg16"), "--backbone"),
    ],
)
def test_bad_options_are_one_clear_line(words, message):
    with pytest.raises(UsageError) as raised:
        settings_of(*words)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_options_that_act_are_no_unused_ones():
    assert settings_of("tables", "--methods", "contrastive", "--contrastive.limit", "40", "--epochs", "2").limit == 40
    assert settings_of("contrastive", "--encoder.keep", "best").encoder.looks_at_validation
    assert not contrastive.DESCRIBED.encoder.looks_at_validation
    assert settings_of("contrastive", "--encoder.keep", "best", "--encoder.monitor", "loss").encoder.monitor == "loss"


def test_a_stage_without_looks_has_no_rules():
    stage = replace(Stage(), schedule="cosine", keep="last")
    assert set(stage.unused("s")) == {f"s.{name}" for name in RULES}
    assert "s.monitor" not in replace(stage, keep="best").unused("s") and Stage().unused("s") == {}
    assert {field.name for field in fields(Stage)} == {*RULES, "epochs", "learning_rate", "schedule", "keep"}
