"""The simulation from options to run folder on the sample, with a very small base; resume, slices, thresholds, search, clipping."""

import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from common.cli import main
from common.commands.report import ReportOptions
from common.errors import UsageError
from common.explanation.options import ExplainOptions
from common.runs.folder import Run
from feedback import reporting
from feedback.__main__ import COMMANDS
from feedback.assessment import Explainer
from feedback.experiments import baseline as baseline_settings
from feedback.experiments.clipping import ClippingSettings
from feedback.experiments.search import SearchSettings
from feedback.experiments.simulate import BALANCED, SimulateSettings, stored
from feedback.experiments.slices import SlicesSettings
from feedback.experiments.thresholds import ThresholdsSettings
from feedback.training import baseline, clipping, explain, faithful, online, simulate, slices
from feedback.training.clipping import run_clipping
from feedback.training.online import LossNotFinite, self_explaining
from feedback.training.search import run_search
from feedback.training.simulate import run_simulate
from feedback.training.slices import run_slices
from feedback.training.stage import load_classifier, prepare
from feedback.training.thresholds import run_thresholds
from tests.feedback.conftest import small_classifier

FILES = ("contents.json", "manifest.csv", "history.csv", "model.keras", "predictions.csv", "jaccard.csv", "metrics.json", "report.md",
         "model_card.md", "figures/curves.png", "figures/before_after.png", "figures/jaccard.png")  # fmt: skip


def _options(cache, base, run_dir, kind=SimulateSettings, **values):
    small = {"epochs": 2, "batch_size": 16, "cache_dir": cache, "base": base, "run_dir": run_dir, "layer": "conv2"}
    return kind(**{**small, **values})


@pytest.fixture(scope="module")
def run(sample_cache, small_base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "combined"
    return run_simulate(_options(sample_cache, small_base, folder, balance="upsampled", faithfulness=2))


def test_a_run_leaves_everything_behind(run):
    assert all((run / name).is_file() for name in FILES)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["synthetic"] and metrics["before"]["images"] == metrics["after"]["images"] == metrics["n"] == 16
    assert metrics["before_whole_set"]["images"] == 179 and metrics["overlap"]["test"]["same_id"] == 0
    assert sum(metrics["after"]["cases"].values()) == 16 and 0 < metrics["trivial"]["ellipse"]["mean"] < 1
    assert set(metrics["faithfulness"]) == {"before", "after", "change"} and metrics["faithfulness"]["after"]["images"] == 2
    assert metrics["training_images"] == {"MEL": 89, "NV": 89, "BCC": 0, "AK": 0, "BKL": 89, "DF": 0, "VASC": 0, "SCC": 0}
    history = pd.read_csv(run / "history.csv")
    assert len(history) == 2 and metrics["validation"]["jaccard"] == pytest.approx(history["val_jaccard"].max(), abs=1e-6)
    # The four cases of the training images are counted in every epoch.
    assert (history[["both_right", "region_wrong", "class_wrong", "both_wrong"]].sum(axis=1) == 267).all()


def test_the_averages_follow_from_the_files(run):
    table, metrics = pd.read_csv(run / "jaccard.csv"), json.loads((run / "metrics.json").read_text())
    assert metrics["jaccard"] == pytest.approx(table["jaccard_after"].mean(), abs=1e-6)
    assert metrics["before"]["jaccard"]["mean"] == pytest.approx(table["jaccard_before"].mean(), abs=1e-6)
    assert metrics["accuracy"] == pytest.approx((table["predicted_after"] == table["label"]).mean())


def test_every_images_faithfulness_is_kept(run):
    table, found = pd.read_csv(run / "faithfulness.csv"), json.loads((run / "metrics.json").read_text())["faithfulness"]
    assert len(table) == 2 and set(table["image"]) <= set(pd.read_csv(run / "jaccard.csv")["image"])
    for when in ("before", "after"):
        gap = table[f"deletion_{when}"] - table[f"random_deletion_{when}"]
        assert found[when]["deletion_minus_random"] == pytest.approx(gap.mean(), abs=1e-6)
        low, high = found[when]["deletion_minus_random_interval"]
        assert low <= found[when]["deletion_minus_random"] <= high
    change = found["change"]["insertion"]
    assert change["value"] == pytest.approx((table["insertion_after"] - table["insertion_before"]).mean(), abs=1e-6)
    assert change["interval"][0] <= change["value"] <= change["interval"][1]


def test_the_random_map_is_as_coarse_as_the_models(run, sample_cache, small_base, monkeypatch, tmp_path):
    """conv2 of a 24 px image is 6 x 6; a smoother random map would be easier, or harder, to beat."""
    asked = []

    def measure(model, images, maps, labels, *, masks, names, seed, grid):
        asked.append((grid, maps["map"].shape))
        rows = [{"image": name, "method": method, "deletion": 0.5, "insertion": 0.5} for name in names for method in ("map", "random")]
        return pd.DataFrame(rows), {}

    monkeypatch.setattr(faithful, "measure", measure)
    options = _options(sample_cache, small_base, tmp_path)
    stage = prepare(options)
    explainer = Explainer(self_explaining(load_classifier(small_base), options))
    table = faithful.measure_once(Run(tmp_path, {"settings": {}}), "before", explainer, stage, 2, 0)
    assert asked == [((6, 6), (2, 24, 24))] and table["pointing"].isna().all()
    # A resumed run reads what was measured.
    again = faithful.measure_once(Run(tmp_path, {"settings": {}}), "before", explainer, stage, 2, 0)
    assert len(asked) == 1 and again["image"].tolist() == table["image"].tolist()


def test_the_report_says_what_matters(run):
    text = (run / "report.md").read_text()
    said = ("Synthetic data", "## Before and after", "centred circle", "class right, region wrong", "Table 5.3", "The thesis found 627")
    for words in (*said, "deletion, map − random", "clipped at 1"):
        assert words in text
    before = text
    reporting.report_command(ReportOptions(run=run))
    assert "## Before and after" in (run / "report.md").read_text() and len((run / "report.md").read_text()) == len(before)


def test_a_finished_run_is_left_alone(run, sample_cache, small_base):
    before = (run / "model.keras").stat().st_mtime_ns
    assert run_simulate(_options(sample_cache, small_base, run, balance="upsampled", faithfulness=2)) == run
    assert (run / "model.keras").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="other settings"):
        run_simulate(_options(sample_cache, small_base, run, balance="upsampled", faithfulness=2, epochs=3))


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (
            ["--fuse-stages", "2", "--feedback-form", "graded", "--explanation-loss", "graded"],
            {"fuse_stages": 2, "feedback_form": "graded", "explanation_loss": "graded"},
        ),
        (["--explanation-loss", "distance"], {"fuse_stages": 1, "explanation_loss": "distance"}),
    ],
    ids=["fused and graded", "distance"],
)
def test_the_theses_future_work_runs(words, kept, sample_cache, small_base, tmp_path, monkeypatch):
    """From the options to the report."""
    _no_figures(monkeypatch)
    layer = [] if "--fuse-stages" in words else ["--layer", "conv2"]
    small = ["--epochs", "1", "--batch-size", "16", "--limit", "24", *layer, "--base", str(small_base)]
    places = ["--cache-dir", str(sample_cache), "--run-dir", str(tmp_path / "run")]
    assert main("feedback", COMMANDS, ["simulate", *words, *small, *places]) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert kept.items() <= settings.items()
    history, metrics = pd.read_csv(tmp_path / "run" / "history.csv"), json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(history["explanation"]).all() and 0 <= metrics["jaccard"] <= 1


def test_thresholds(run, sample_cache):
    run_thresholds(ThresholdsSettings(run=run, cache_dir=sample_cache))
    table = pd.read_csv(run / "thresholds.csv")
    metrics = json.loads((run / "metrics.json").read_text())
    at_half = table.loc[table["threshold"] == 0.5, "test"].item()
    assert at_half == pytest.approx(metrics["jaccard"], abs=1e-5)
    assert table.loc[table["threshold"] == 0.0, "test"].item() == pytest.approx(metrics["trivial"]["whole_image"]["mean"], abs=1e-6)
    assert (run / "figures" / "thresholds.png").is_file() and "Best on validation" in (run / "thresholds.md").read_text()


def test_an_interrupted_run_ends_as_an_unbroken_one(run, sample_cache, small_base, tmp_path, monkeypatch):
    options = _options(sample_cache, small_base, tmp_path / "again", balance="upsampled", faithfulness=2)

    def killed(*_):
        raise KeyboardInterrupt

    class Killed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations > 20:  # in the second of two epochs of 17 steps
                killed()

    with monkeypatch.context() as patched:
        patched.setattr(online, "StopOnNaN", lambda *_, **__: Killed())
        with pytest.raises(KeyboardInterrupt):
            run_simulate(options)
    assert (tmp_path / "again" / "checkpoints" / "tuning" / "state.npz").is_file() and not (tmp_path / "again" / "model.keras").exists()
    _release()
    with monkeypatch.context() as patched:
        patched.setattr(simulate, "outcome_of", killed)
        with pytest.raises(KeyboardInterrupt):
            run_simulate(options)
    simulate_lock = tmp_path / "again" / ".lock"
    assert simulate_lock.is_file() and not (tmp_path / "again" / "predictions.csv").exists()
    _release()
    again = run_simulate(options)
    assert (again / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    # The untuned scores come from before the interruption, not from the tuned weights that were restored.
    for name in ("jaccard.csv", "faithfulness.csv"):
        assert (again / name).read_bytes() == (run / name).read_bytes()


def _no_figures(monkeypatch) -> None:
    """Without a run's figures, which are half of its time and drawn in the tests above."""
    monkeypatch.setattr(reporting.figures, "simulation_figures", lambda *_: None)
    monkeypatch.setattr("common.report.plots.standard_figures", lambda *_: [])


def _release() -> None:
    """A killed process drops its lock; here the process lives on, so the abandoned run object must go."""
    import gc

    gc.collect()


def test_slices_go_on_where_they_stopped(sample_cache, small_base, tmp_path, monkeypatch):
    def options(name):
        return _options(
            sample_cache, small_base, tmp_path / name, SlicesSettings, slices=3, epochs=1, objective="explanation", faithfulness=2
        )

    whole = run_slices(options("whole"))
    table = pd.read_csv(whole / "slices.csv")
    assert table["slice"].tolist() == [-1, 0, 1, 2] and table["images"].tolist()[1:] == [89, 89, 89]
    assert (whole / "figures" / "slices.png").is_file() and "Test set after each slice" in (whole / "report.md").read_text()
    calls, original = [], slices.tune

    def killed(*arguments, **names):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*arguments, **names)

    with monkeypatch.context() as patched:
        patched.setattr(slices, "tune", killed)
        with pytest.raises(KeyboardInterrupt):
            run_slices(options("broken"))
    _release()
    broken = run_slices(options("broken"))
    for name in ("predictions.csv", "faithfulness.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    columns = ["slice", "images", "accuracy", "jaccard", "validation_jaccard"]
    pd.testing.assert_frame_equal(pd.read_csv(broken / "slices.csv")[columns], table[columns])


def test_search_over_lambda_chooses_on_validation(sample_cache, small_base, tmp_path):
    folder = run_search(_options(sample_cache, small_base, tmp_path / "search", kind=SearchSettings, lambdas=(0.0, 0.5), epochs=1))
    table, metrics = pd.read_csv(folder / "search.csv"), json.loads((folder / "metrics.json").read_text())
    assert table["lambda"].tolist() == [0.0, 0.5]
    assert metrics["chosen"] == table.loc[table["selection"].idxmax(), "lambda"]
    assert "Chosen on validation" in (folder / "report.md").read_text() and "test" not in table


def test_explain_shows_the_layer_that_was_tuned(run, sample_cache):
    assert main("feedback", COMMANDS, ["explain", str(run), "--methods", "gradcam"]) == 0
    text = (run / "explanations" / "faithfulness.md").read_text()
    assert (run / "explanations" / "sheet.png").is_file() and "conv2" in text


def test_explain_asks_for_the_runs_layer(run, monkeypatch):
    asked = []
    monkeypatch.setattr(explain, "explain_command", asked.append)
    explain.run_explain(ExplainOptions(run=run))
    explain.run_explain(ExplainOptions(run=run, layer=("conv1",)))
    assert [options.layer for options in asked] == [("conv2",), ("conv1",)]


def test_predict(run, tmp_path):
    image = next(iter(sorted(Path(json.loads((run / "local.json").read_text())["data_dir"]).rglob("*.jpg"))))
    assert main("feedback", COMMANDS, ["predict", str(run), str(image), "--output", str(tmp_path / "out.csv")]) == 0
    table = pd.read_csv(tmp_path / "out.csv")
    assert len(table) == 1 and {"MEL", "NV", "SCC"} <= {column.removeprefix("prob_") for column in table.columns}


def test_simulate_without_a_base_trains_the_samples(sample_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the base goes where it goes by default
    monkeypatch.setattr(baseline, "build_classifier", lambda _, size, classes, **__: small_classifier(classes, size))
    monkeypatch.setitem(baseline_settings.SAMPLE, "epochs", 1)
    monkeypatch.setitem(baseline_settings.SAMPLE, "image_size", 24)
    words = ["simulate", "--layer", "conv2", "--epochs", "1", "--limit", "24", "--batch-size", "16"]
    assert main("feedback", COMMANDS, [*words, "--cache-dir", str(sample_cache), "--run-dir", str(tmp_path / "run")]) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    (trained,) = (tmp_path / "runs" / "feedback" / "baseline").iterdir()
    assert settings["base"] == trained.name and settings["image_size"] == 24 and (tmp_path / "run" / "report.md").is_file()
    seen = json.loads((tmp_path / "run" / "metrics.json").read_text())["seen_by_base"]
    assert (
        set(seen) == {"train", "validation", "test"} and "no printed number stands beside" in (tmp_path / "run" / "report.md").read_text()
    )


def test_clipping_shows_both(sample_cache, small_base, tmp_path, monkeypatch):
    """What is made of the runs, which are stood in for; the next test trains them."""

    def runs(options):
        options.run_dir.mkdir(parents=True)
        (options.run_dir / "config.json").write_text('{"synthetic": true}')
        pd.DataFrame({"epoch": [1], "loss": [2.0], "val_jaccard": [0.1]}).to_csv(options.run_dir / "history.csv", index=False)
        if options.learning_rate == 10.0 and not options.clip_norm:
            raise LossNotFinite("the loss is nan at step 3 of epoch 2")
        (options.run_dir / "metrics.json").write_text('{"jaccard": 0.25, "accuracy": 0.5}')

    monkeypatch.setattr(clipping, "run_simulate", runs)
    chosen = {"rates": (1e-3, 10.0), "objective": "classification", "epochs": 2}
    folder = run_clipping(_options(sample_cache, small_base, tmp_path / "clip", ClippingSettings, **chosen))
    table = pd.read_csv(folder / "clipping.csv")
    assert table["run"].str.contains("not clipped").tolist() == [False, True, False, True]
    assert table["outcome"].tolist() == ["one epoch"] * 3 + ["not finite"] and table["epochs"].tolist() == [1] * 4
    assert table["jaccard"].isna().tolist() == [False] * 3 + [True]
    assert (folder / "figures" / "divergence.png").is_file() and "| rate 10, not clipped | not finite |" in (
        folder / "report.md"
    ).read_text()
    # What decides the result decides which run it is, the data too.
    assert json.loads((folder / "config.json").read_text())["data_fingerprint"]
    for other in ({"layer": "conv1"}, {"channel_weights": "differentiated", "objective": "explanation"}, {"objective": "combined"}):
        with pytest.raises(UsageError, match="other settings"):
            run_clipping(_options(sample_cache, small_base, folder, ClippingSettings, **{**chosen, **other}))


def test_the_same_rate_diverges_without_clipping_and_stays_with_it(sample_cache, small_base, tmp_path, monkeypatch):
    """A step of 80 times the gradient: as it is, it throws the weights far away; of a norm of 0.01 at most, it moves them by 0.8."""
    _no_figures(monkeypatch)
    chosen = {"rates": (10.0,), "clip_norm": 0.01, "epochs": 2, "batch_size": 8, "limit": 24}
    folder = run_clipping(_options(sample_cache, small_base, tmp_path / "clip", ClippingSettings, **chosen))
    clipped, free = pd.read_csv(folder / "clipping.csv").to_dict("records")
    assert (clipped["clip_norm"], free["clip_norm"]) == (0.01, 0.0)
    assert clipped["outcome"] != "not finite" and clipped["highest_loss"] < 5
    assert free["outcome"] == "not finite" or free["highest_loss"] > 20 * clipped["highest_loss"]
    assert (folder / "figures" / "divergence.png").is_file()


def test_a_loss_that_breaks_in_a_later_epoch_leaves_a_usable_model(sample_cache, small_base, tmp_path, monkeypatch, capsys):
    class Breaks(online.StopOnNaN):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch, logs)
            if epoch == 1:
                self.model.optimizer.learning_rate.assign(3e38)

    monkeypatch.setattr(online, "StopOnNaN", Breaks)
    words = ["simulate", "--base", str(small_base), "--layer", "conv2", "--epochs", "3", "--batch-size", "16", "--clip-norm", "0",
             "--cache-dir", str(sample_cache), "--run-dir", str(tmp_path / "run")]  # fmt: skip
    assert main("feedback", COMMANDS, words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "the loss is" in line]
    assert re.search(
        r"the loss is (nan|inf) at step \d+ of epoch 2, learning rate 3e\+38; the model after epoch 1 is kept as run/last_good", line
    )
    kept = keras.models.load_model(tmp_path / "run" / "last_good.keras").get_weights()
    start = keras.models.load_model(small_base / "model.keras").get_weights()
    assert all(np.isfinite(weight).all() for weight in kept)
    assert any((one != two).any() for one, two in zip(kept, start, strict=True))


def test_a_part_of_the_images_stands_beside_no_printed_number(run):
    metrics = json.loads((run / "metrics.json").read_text())
    settings = SimulateSettings(balance="upsampled")
    assert reporting.printed_cells(settings, metrics)["jaccard"] == 0.127  # Table 5.3, last row
    assert reporting.printed_cells(settings, metrics, limit=100) == {}
    sliced = {**metrics, "slices": [{}]}
    assert reporting.printed_cells(settings, sliced)["jaccard"] == 0.14  # Table 5.4, last row
    # Table 5.4 is of up-sampled data.
    assert reporting.printed_cells(SimulateSettings(), sliced) == {}
    assert "--limit 100" in reporting.limit_notes(100)[0] and reporting.limit_notes(None) == []


def test_a_label_the_base_does_not_know(sample_cache, small_base, tmp_path):
    config = json.loads((small_base / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({**config, "classes": ["MEL", "NV"]}))
    (other / "model.keras").write_bytes(b"")
    (other / "finished.json").write_text("{}")
    with pytest.raises(UsageError, match="the label BKL is outside its classes MEL, NV"):
        run_simulate(_options(sample_cache, other, tmp_path / "run"))


def test_another_base_of_the_same_name_is_another_run(sample_cache, small_base, run, tmp_path):
    other = tmp_path / small_base.name
    shutil.copytree(small_base, other)
    with (other / "model.keras").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UsageError, match="other settings .base_model was"):
        run_simulate(_options(sample_cache, other, run, balance="upsampled", faithfulness=2))


def test_minutes_leave_out_the_epoch_that_compiles():
    assert simulate.minutes_per_epoch(pd.DataFrame({"seconds": [600.0, 60.0, 90.0, 61.0]})) == pytest.approx(61 / 60)
    assert simulate.minutes_per_epoch(pd.DataFrame({"seconds": [600.0]})) == 10.0


def test_leakage_is_said_for_every_base():
    config = {"settings": {"dataset": "isic2018", "base_dataset": "ham10000"}}
    parts = ("train", "validation", "test")
    counted = {
        "overlap": {name: {"images": 10, "same_id": 2, "renamed": 3} for name in parts}, "seen_by_base": dict.fromkeys(parts, 0),
        "training_images": {"MEL": 10}, "left_out": {},
    }  # fmt: skip
    seen, held, _ = reporting.leakage_notes(config, counted)
    assert "test 0 of 10" in seen and "test 2 + 3 of 10" in held
    # A simulation on the base's own images: everything was seen, and ISIC 2019 was compared with nothing.
    config["settings"]["dataset"] = "ham10000"
    unknown = {name: {"images": 10, "same_id": None, "renamed": None} for name in parts}
    seen, held, _ = reporting.leakage_notes(config, {**counted, "overlap": unknown, "seen_by_base": {**dict.fromkeys(parts, 8)}})
    assert "(ham10000; " in seen and "train 8 of 10" in seen and "not known for ham10000" in held
    assert "not known (its run folder holds no manifest.csv)" in reporting.leakage_notes(config, {**counted, "seen_by_base": None})[0]


def test_a_broken_base_model(sample_cache, small_base, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_bytes((small_base / "config.json").read_bytes())
    (other / "model.keras").write_bytes(b"no model")
    (other / "finished.json").write_text("{}")
    with pytest.raises(UsageError, match="model.keras is damaged or cut off"):
        run_simulate(_options(sample_cache, other, tmp_path / "run"))


def test_the_balanced_recipe_adapts_balances_and_keeps_the_classifier(sample_cache, small_base, tmp_path, monkeypatch):
    """From the options to the report: what the recipe stands for, what each epoch says, and by what it was chosen."""
    _no_figures(monkeypatch)
    words = ["simulate", "--objective", "balanced-combined", "--adapt-epochs", "1", "--epochs", "2", "--batch-size", "8", "--limit", "48"]
    words += ["--layer", "conv2", "--base", str(small_base), "--cache-dir", str(sample_cache), "--run-dir", str(tmp_path / "run")]
    assert main("feedback", COMMANDS, words) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    given = {"adapt_epochs": 1, "epochs": 2, "batch_size": 8}
    assert {**BALANCED, **given}.items() <= settings.items()
    assert stored(settings).weights_of_terms == (1.0, BALANCED["explanation_weight"])
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    tuning = history[history["stage"] == "tuning"]
    assert history["stage"].tolist() == ["adaptation", "tuning", "tuning"] and (tuning["learning_rate"].diff().dropna() < 0).all()
    shares = tuning[[column for column in history if column.startswith("val_share_")]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert {"val_balanced_accuracy", "val_auc", "val_jaccard", "val_accuracy", "anchor"} <= set(tuning)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    kept = tuning.loc[tuning["val_selection"].idxmax()]
    assert metrics["validation"]["epoch"] == kept["epoch"] and metrics["after"]["average_sensitivity_interval"]
    assert set(metrics["change"]) == {"accuracy", "average_sensitivity", "auc", "jaccard"}
    text = (tmp_path / "run" / "report.md").read_text()
    for said in ("balanced-combined, weight 0.5", "| test set | base | adapted | after |", "mean training mask", "| predicted "):
        assert said in text
