import json

import pandas as pd
import pytest

from common.commands.report import ReportOptions
from common.errors import UsageError
from common.report.report import Printed, find_metric, report_command, write_model_card, write_report


@pytest.fixture(scope="module")
def reported(tmp_path_factory, make_run):
    """A run with a control inside it, another run to compare with, and its report."""
    root = tmp_path_factory.mktemp("runs")
    run = make_run(root / "method", 4.0, command="python -m cervical contrastive", versions={"keras": "3"}, settings={"reading": "coded"})
    make_run(run / "control", 1.0, seed=1)
    make_run(root / "other", 4.0, seed=2)
    printed = {"accuracy": Printed(0.9581, "paper, Table III"), "per_class.Parabasal.f1": Printed(0.97, "paper, Table III")}
    write_report(run, "Contrastive", printed, ["87 % of test cells share a slide."], {"the other loss": root / "other"})
    write_model_card(run, intended="To repeat the study.", limits=["The split shares slides."])
    return run


def test_measured_stands_beside_printed(reported):
    text = (reported / "report.md").read_text()
    accuracy = json.loads((reported / "metrics.json").read_text())["accuracy"]
    assert f"| accuracy | {accuracy:.4f} | 0.9581 | {accuracy - 0.9581:+.4f} |" in text
    assert "| F1 of Parabasal |" in text and "| macro F1 |" in text
    assert "Synthetic" not in text


def test_the_report_names_what_was_run(reported):
    text = (reported / "report.md").read_text()
    for said in ("sipakmed", "paper split, seed 0", "tensorflow", "2-core CPU", "`python -m cervical contrastive`", "coded", "7.5 s"):
        assert said in text
    assert "87 % of test cells share a slide." in text


def test_controls_are_compared_on_the_same_images(reported):
    text = (reported / "report.md").read_text()
    assert "## Beside the control" in text and "## Beside the other loss" in text
    assert "better" not in text
    assert text.count("The intervals resample the 120 test images, the same for both runs. One seed gives no verdict") == 2


def test_every_figure_that_is_shown_exists(reported):
    text = (reported / "report.md").read_text()
    for name in ("confusion", "reliability", "training_curves"):
        assert f"(figures/{name}.png)" in text
        assert (reported / "figures" / f"{name}.png").stat().st_size > 5000


def test_the_model_card_warns(reported):
    text = (reported / "model_card.md").read_text()
    assert "no medical device" in text and "To repeat the study." in text and "The split shares slides." in text


def test_the_report_command_makes_the_same_files_without_the_model(reported, capsys):
    names = ("report.md", "model_card.md", "metrics.json", "figures/confusion.png")
    before = {name: (reported / name).read_bytes() for name in names}
    (reported / "report.md").unlink()
    (reported / "metrics.json").unlink()
    report_command(ReportOptions(run=reported))
    assert {name: (reported / name).read_bytes() for name in names} == before
    assert "report.md" in capsys.readouterr().out


def test_no_folder_of_this_machine_is_named(reported, tmp_path_factory):
    for name in ("report.md", "report.json", "model_card.md", "metrics.json"):
        assert str(tmp_path_factory.getbasetemp()) not in (reported / name).read_text()


def test_synthetic_runs_are_labelled_everywhere(tmp_path, make_run):
    run = make_run(tmp_path / "run", synthetic=True)
    write_report(run, "Sample", {"accuracy": Printed(0.96, "Table I")}, figures=False)
    write_model_card(run)
    assert "**Synthetic data.**" in (run / "report.md").read_text()
    assert "not comparable" in (run / "report.md").read_text()
    assert "**Synthetic data.**" in (run / "model_card.md").read_text()


def test_a_perfect_score_does_not_claim_a_perfect_model(tmp_path, make_run):
    run = make_run(tmp_path / "run", skill=50)
    write_report(run, "Perfect", figures=False)
    assert "error rate may still be up to 0.025" in (run / "report.md").read_text()


def test_a_control_with_other_images_is_named_not_compared(tmp_path, make_run):
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other", n=90)
    write_report(run, "Title", controls={"grouped": other}, figures=False)
    assert "Not compared: contrastive, seed 0: its test images or labels are not those of the others" in (run / "report.md").read_text()


def test_a_run_without_training_or_report_can_be_reported(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    (run / "history.csv").unlink()
    report_command(ReportOptions(run=run))
    assert "# cervical: contrastive" in (run / "report.md").read_text()
    assert "nothing was trained" in (run / "report.md").read_text()


def test_a_printed_number_for_nothing_measured_stays_visible(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    write_report(run, "Title", {"per_class.Nobody.f1": Printed(0.9, "T")}, figures=False)
    assert "| F1 of Nobody | – | 0.9000 | – | – |" in (run / "report.md").read_text()


def test_a_run_without_metrics_cannot_be_reported(tmp_path, make_run):
    with pytest.raises(UsageError, match="metrics.json is missing"):
        write_report(make_run(tmp_path / "run", metrics=False), "Title")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="config.json is missing"):
        report_command(ReportOptions(run=tmp_path))


def test_metrics_are_found_through_dots():
    metrics = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6], "per_class": {"St. 1": {"f1": 0.3, "intervals": {"f1": [0.2, 0.4]}}}}
    assert find_metric(metrics, "accuracy") == (True, 0.5, [0.4, 0.6])
    assert find_metric(metrics, "per_class.St. 1.f1") == (True, 0.3, [0.2, 0.4])
    assert find_metric(metrics, "per_class")[0] is False


def test_the_report_says_what_is_resampled_and_brings_older_runs_up_to_date(tmp_path, make_run):
    run = make_run(tmp_path / "run", 4.0, per_group=3)
    make_run(run / "control", 1.0, seed=1, per_group=3)
    manifests = {path: path.read_bytes() for path in (run / "manifest.csv", run / "control" / "manifest.csv")}
    for path in manifests:  # as it was before predictions.csv had groups
        path.unlink()
        table = pd.read_csv(path.with_name("predictions.csv"), dtype=str).drop(columns="group")
        table.to_csv(path.with_name("predictions.csv"), index=False)
    report_command(ReportOptions(run=run))
    text = (run / "report.md").read_text()
    assert "resampling the 120 test images as independent" in text and "cluster images of the images" not in text
    for path, content in manifests.items():
        path.write_bytes(content)
    report_command(ReportOptions(run=run))
    text = (run / "report.md").read_text()
    assert "resampling the 40 cluster images of the 120 test images" in text and "So few" not in text
    assert "The intervals resample the 40 cluster images of the images, the same for both runs" in text
    for folder in (run, run / "control"):
        assert json.loads((folder / "metrics.json").read_text())["resampled_groups"] == 40
        assert "group" in pd.read_csv(folder / "predictions.csv")


def test_few_groups_are_called_few(tmp_path, make_run):
    run = make_run(tmp_path / "run", per_group=6, dataset="odir5k")
    write_report(run, "Title", figures=False)
    assert "So few patients" in (run / "report.md").read_text()
