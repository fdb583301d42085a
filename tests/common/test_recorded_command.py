import sys

import pytest

from common.device import recorded_command


@pytest.mark.parametrize(
    ("typed", "recorded"),
    [
        ("train --data-dir /home/somebody/ham --seed 1", "train --data-dir ham --seed 1"),
        ("train --run-dir=/home/somebody/run", "train --run-dir=run"),
        ("train --weights imagenet --cache-dir ../cache", "train --weights imagenet --cache-dir cache"),
        ("report /home/somebody/run", "report run"),
        ("train --unlabelled-dir=data/lesions", "train --unlabelled-dir=lesions"),
        ("train --data_dir=/home/somebody/ham", "train --data_dir=ham"),
        ("train --decision-costs=/home/somebody/costs.csv", "train --decision-costs=costs.csv"),
        ("tables --finetune.weights=/home/somebody/w.h5", "tables --finetune.weights=w.h5"),
        ("tables --contrastive.kinds mine/kinds.csv", "tables --contrastive.kinds kinds.csv"),
        ("explain run --beside ../shared/a ../shared/b", "explain run --beside a b"),
    ],
)
def test_the_recorded_command_names_no_folder_of_this_machine(monkeypatch, typed, recorded):
    monkeypatch.setattr(sys, "argv", ["/somewhere/cervical/__main__.py", *typed.split()])
    assert recorded_command() == f"python -m cervical {recorded}"
