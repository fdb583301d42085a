"""The printed size comes out of the files, and figures show what they should."""

from pathlib import Path

import numpy as np
import pandas as pd

from cervical import figures
from cervical.data import sipakmed_dataset
from cervical.experiments.size_analysis import SizeAnalysisSettings
from cervical.paper import document
from cervical.sections import accuracy_figures
from common.report.tables import TableRow
from common.runs.finished import FoundRun


def test_densest_size_is_the_lower_corner_of_the_fullest_cell():
    widths = np.array([0, 30, 11, 11.5, 10.2, 25])
    heights = np.array([0, 60, 41, 40.5, 41.9, 3])
    found = figures.densest_size(widths, heights, bins=30)  # cells of 1 x 2
    assert (found["densest_width"], found["densest_height"]) == ([11.0, 12.0], [40.0, 42.0])
    assert found["images_there"] == 2 and found["smallest"] == [0, 0] and found["largest"] == [30, 60]


def test_real_files_give_the_printed_sizes(shared_data):
    widths, heights = figures.image_sizes(sipakmed_dataset(shared_data("sipakmed")))
    found = figures.densest_size(widths, heights)
    # paper III-B: 98.5 x 108.9, smallest 62x48, largest 531x553.
    assert round(found["densest_height"][0], 1) == 98.5 and round(found["densest_width"][0], 1) == 108.9
    assert (found["smallest"], found["largest"]) == ([62, 48], [531, 553])


def test_size_analysis_of_the_sample(tmp_path, sample_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = figures.run_size_analysis(SizeAnalysisSettings(cache_dir=sample_cache))
    assert {path.name for path in (folder / "figures").iterdir()} == {"sizes.png", "cells.png"}
    assert "Synthetic data" in (folder / "report.md").read_text() and "98.5x108.9" in (folder / "report.md").read_text()
    assert len(pd.read_csv(folder / "sizes.csv")) == 300
    assert figures.run_size_analysis(SizeAnalysisSettings(cache_dir=sample_cache)) == folder


def texts(figure) -> set[str]:
    legends = figure.legends + [axis.get_legend() for axis in figure.axes if axis.get_legend()]
    return {text.get_text() for legend in legends for text in legend.get_texts()}


def test_printed_accuracies_stand_beside_runs_of_the_document_only():
    settings = {**document("finetune", "vgg16"), "seed": 0}

    class Made(FoundRun):
        def metrics(self):
            return {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95]}

    def drawn(**changes):
        run = Made(Path("run"), {"study": "cervical", "experiment": "finetune", "settings": settings | changes})
        return accuracy_figures([TableRow("fine-tuning", "VGG16", [run], document=document("finetune", "vgg16"))])["finetune"]

    assert "printed" in texts(drawn()) and "printed" not in texts(drawn(copies=0)) | texts(drawn(limit=64)) | texts(drawn(split="grouped"))


def test_accuracy_bars_keep_the_papers_order():
    rows = {"mobilenetv2": (0.95, (0.93, 0.97), 0.9655), "vgg16": (0.96, None, None)}
    real = figures.accuracy_bars("finetune", rows)
    assert [label.get_text() for label in real.axes[0].get_xticklabels()] == ["VGG16", "MobileNetV2"]  # the paper's order
    assert "printed" in texts(real)
    assert real.axes[0].get_ylim()[0] <= 0.93


def test_loss_curves_stand_beside_the_authors_where_they_have_one():
    history = pd.DataFrame({"stage": ["encoder"] * 2 + ["classifier"], "epoch": [1, 2, 1], "loss": [3.0, 2.5, 0.4]})
    first, second = figures.loss_curves({"npairs": history, "supcon": history}).axes
    ours, both = {"ours"}, {"ours", "authors (DenseNet169)"}
    assert {text.get_text() for text in first.get_legend().get_texts()} == both
    assert {text.get_text() for text in second.get_legend().get_texts()} == ours
    assert second.lines[0].get_ydata().tolist() == [3.0, 2.5]
    assert texts(figures.loss_curves({"npairs": history}, synthetic=True)) == ours
