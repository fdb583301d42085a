"""The contrastive readings hold what their documents say; the control follows the encoder."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cervical.experiments.contrastive import CODED, CORRECTED, DESCRIBED, REDUCED
from common.errors import UsageError
from common.settings import recipe
from tests.cervical.conftest import settings_of


def test_readings_hold_the_documented_values():
    for stage in (DESCRIBED.encoder, DESCRIBED.classifier):
        assert (stage.learning_rate, stage.epochs) == (1e-3, 50)
    assert (DESCRIBED.encoder.schedule, DESCRIBED.encoder.keep, DESCRIBED.weights, DESCRIBED.loss) == ("constant", "last", "none", "npairs")
    assert (CODED.encoder.learning_rate, CODED.classifier.monitor, CODED.classifier.keep, CODED.temperature) == (1e-4, "loss", "last", 0.05)
    assert CODED.classifier_views and not DESCRIBED.classifier_views
    assert CORRECTED.split == "grouped" and CORRECTED.control
    assert all(stage.keep == "best" and stage.looks_at_validation for stage in (CORRECTED.encoder, CORRECTED.classifier))


def test_the_reduced_protocol_is_what_its_runs_were_made_with():
    """The values of the runs under results/ that were trained before the settings had this form."""
    assert (REDUCED.resize_filter, REDUCED.copies, REDUCED.image_size, REDUCED.batch_size, REDUCED.dropout) == ("bilinear", 0, 110, 32, 0.5)
    assert (REDUCED.temperature, REDUCED.pixels, REDUCED.classifier_views, REDUCED.head_input) == (0.05, "adapted", True, "features")
    assert REDUCED.split == "paper" and REDUCED.split_seed == 42 and REDUCED.control
    for stage in (REDUCED.encoder, REDUCED.classifier, REDUCED.control_stage):
        assert (stage.epochs, stage.learning_rate, stage.schedule, stage.keep) == (15, 1e-3, "cosine", "last")


def test_options_go_over_the_reading():
    words = ("--epochs", 7, "--classifier.epochs", 3, "--loss", "supcon", "--seed", 5, "--batch-size", 64, "--learning-rate", 0.01)
    found = settings_of("contrastive", *words)
    assert (found.encoder.epochs, found.classifier.epochs, found.loss, found.batch_size) == (7, 3, "supcon", 64)
    assert (found.encoder.learning_rate, found.classifier.learning_rate, found.split_seed) == (0.01, 0.01, 42)
    assert settings_of("contrastive", "--split", "grouped", "--seed", 5).split_seed == 42


def test_seed_folder_and_control_are_no_part_of_the_recipe(tmp_path):
    plain = recipe(settings_of("contrastive"))
    assert plain == recipe(settings_of("contrastive", "--seed", 3, "--run-dir", tmp_path, "--control"))
    assert plain != recipe(settings_of("contrastive", "--loss", "supcon")) and "margin" not in plain


def test_a_control_can_be_switched_off_in_the_corrected_reading():
    found = {word: settings_of("contrastive", "--reading", "corrected", *word).control for word in ((), ("--no-control",))}
    assert found == {(): True, ("--no-control",): False}


@pytest.mark.parametrize(("settings", "schedule"), [(DESCRIBED, "constant"), (CODED, "constant"), (CORRECTED, "plateau")])
def test_control_gets_the_encoders_epochs_rate_and_schedule_and_no_early_end(settings, schedule):
    stage = replace(settings, encoder=replace(settings.encoder, epochs=9, learning_rate=0.5)).control_stage
    assert (stage.epochs, stage.patience, stage.learning_rate, stage.schedule) == (9, 9, 0.5, schedule)
    assert stage.keep == settings.classifier.keep


def test_nothing_heavy_is_imported_for_help():
    code = (
        "import sys, cervical.__main__ as m\n"
        "assert all(m.main('cervical', m.COMMANDS, [name, '--help']) == 0 for name in m.COMMANDS)\n"
        "heavy = {'keras', 'numpy', 'pandas', 'PIL', 'tensorflow', 'jax', 'cv2', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert ended.returncode == 0, ended.stderr
    assert "0.9729" in ended.stdout and "--encoder.epochs" in ended.stdout


def test_a_loss_of_pairs_needs_a_batch_of_two():
    """HobbitLong/SupContrast#122: with one image a batch the loss is 0 and nothing is learnt."""
    with pytest.raises(UsageError, match="--batch-size 1: expected between 2 and"):
        replace(DESCRIBED, batch_size=1)
