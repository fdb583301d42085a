"""Published runs, without models and manifests, are found again and drawn."""

import json
import shutil

import pytest

from cervical.grids import found
from cervical.grids.depth import COLLECTED, draw_depths
from common.errors import UsageError
from common.runs.grid import collect


@pytest.fixture(scope="module")
def published(finished, tmp_path_factory):
    """What may be committed of fine-tuning, contrastive learning with its control, and cost-sensitive learning."""
    folder = tmp_path_factory.mktemp("published")
    for name in ("finetune", "contrastive", "cost_sensitive"):
        left_out = shutil.ignore_patterns("*.keras", "manifest.csv", "finished.json", "local.json", "checkpoints")
        shutil.copytree(getattr(finished, name), folder / name, ignore=left_out)
    assert not [*folder.rglob("*.keras"), *folder.rglob("manifest.csv"), *folder.rglob("finished.json")]
    return folder


def copied(folder, to, **settings):
    """A published run once more, with other settings."""
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, "settings": {**config["settings"], **settings}}))


def test_tables_of_published_runs(published):
    runs = found.finished_runs(published)
    assert [cell.labels["method"] for cell in runs] == ["finetune", "control", "cost-sensitive", "contrastive"]
    ((title, drawn),) = found.tables_of(runs)
    assert title == "dataset sample, split paper, image size 32, copies 1, views False, limit 50"
    text = "\n".join(drawn.sections)
    for words in ("Synthetic data", "paper Table I,", "Table II", "Table III", "HDFF", "Table 6.1"):
        assert words in text, words
    assert "Tables 4.1 and 4.2" not in text, "they count the images of the manifest, which is not published"
    assert set(drawn.figures) == {f"accuracy_{name}" for name in ("finetune", "control", "cost-sensitive", "contrastive")}
    assert len(drawn.comparisons) == 6 and {"control", "cost-sensitive"} <= set(drawn.comparisons["baseline"])
    ((title, histories, synthetic),) = found.encoder_histories(runs)
    assert list(histories) == ["npairs"] and synthetic and "paper split" in title
    assert found.depths(runs) == [] and found.summaries(published, "compare-losses") == []


def test_runs_that_are_no_pair_are_told_apart(published, tmp_path):
    shutil.copytree(published, tmp_path / "all")
    copied(published / "finetune", tmp_path / "all" / "deep", freeze=5)
    copied(published / "finetune", tmp_path / "all" / "wide", copies=7)
    copied(published / "contrastive", tmp_path / "all" / "other", loss="supcon")
    copied(published / "cost_sensitive", tmp_path / "all" / "costs", costs="my_costs.csv")
    runs = found.finished_runs(tmp_path / "all")
    (_, first), (other, _) = found.tables_of(runs)
    assert "copies 7" in other
    methods = list(dict.fromkeys(first.classes["method"]))
    ours = ["finetune, 5 frozen", "finetune", "control", "cost-sensitive", "cost-sensitive-my_costs", "contrastive"]
    assert methods == [*ours, "contrastive-supcon"]
    (searched,) = found.depths(runs)
    ((backbone, _, text),) = draw_depths(collect(searched, COLLECTED))
    assert backbone == "mobilenetv2_035" and "| 0 |" in text and "| 5 |" in text


def test_a_run_without_its_report_is_not_finished(published, tmp_path):
    shutil.copytree(published / "finetune", tmp_path / "one")
    (tmp_path / "one" / "report.md").unlink()
    with pytest.raises(UsageError, match="no finished run of cervical below it"):
        found.finished_runs(tmp_path)
