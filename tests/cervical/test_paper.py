"""The printed numbers agree with each other and with what the texts say of them."""

from pathlib import Path

import pytest

from cervical import paper
from common.report.provenance import differs
from common.runs.finished import FoundRun

NETWORKS = ("vgg16", "vgg19", "densenet169", "mobilenetv2", "resnet50")


def test_headline_and_missing_cells():
    assert paper.printed_accuracy("contrastive", "vgg16") == 0.9729  # abstract: 97.29 %
    assert paper.printed_accuracy("finetune", "mobilenetv2") == 0.9655
    assert paper.printed_accuracy("control", "vgg16") is None
    assert paper.printed_accuracy("finetune", "efficientnetv2s") is None
    assert paper.printed_classes("finetune", "efficientnetv2s") == {}


def test_tables_are_whole_and_agree_between_the_documents_but_for_three_cells():
    differences = []
    for method in paper.TABLE_NUMBERS:
        for network in NETWORKS:
            assert paper.printed_accuracy(method, network) == paper.printed_accuracy(method, network, "thesis")
            printed, thesis = paper.printed_classes(method, network), paper.printed_classes(method, network, "thesis")
            assert len(printed) == 5 and all(set(cells) == {"precision", "recall", "f1"} for cells in printed.values())
            differences += [(network, c, k) for c in printed for k in printed[c] if printed[c][k] != thesis[c][k]]
    # facts 1.7: the contrastive MobileNetV2, where the notebook sides with the thesis.
    assert differences == [
        ("mobilenetv2", "Dyskeratotic", "recall"),
        ("mobilenetv2", "Koilocytotic", "precision"),
        ("mobilenetv2", "Koilocytotic", "recall"),
    ]


def test_printed_accuracies_round_the_notebooks():
    for method in paper.TABLE_NUMBERS:
        for network in NETWORKS:
            found = paper.notebook(method, network)
            assert found["accuracy"] == pytest.approx(paper.printed_accuracy(method, network), abs=6e-5), (method, network)
            assert found["accuracy"] * 812 == pytest.approx(round(found["accuracy"] * 812), abs=1e-3)  # of 812 test images


def test_the_unpublished_control_beats_the_printed_best():
    assert paper.notebook("control", "vgg16")["accuracy"] == 0.979064 > paper.printed_accuracy("contrastive", "vgg16")
    assert paper.notebook("control", "resnet50") is None


def test_costs_are_balanced_weights_of_the_test_set():
    # facts 1.5: 812 / (5 n_c) with the test supports, not the training set's.
    supports = {"Dyskeratotic": 163, "Koilocytotic": 165, "Metaplastic": 159, "Parabasal": 158, "Superficial-Intermediate": 167}
    assert paper.printed_costs() == pytest.approx({name: 812 / (5 * count) for name, count in supports.items()}, rel=1e-9)


def test_previous_works_hold_the_row_the_paper_left_out():
    rows = paper.previous_works()
    assert [row["accuracy"] for row in rows if row["printed in"] == "Table 7.1 only"] == ["99.14%"]
    assert len(rows) == 7


def test_loss_curves_settle_where_the_facts_say():
    assert paper.loss_curve("ntxent-coded")[-1] == 3.4333 and paper.loss_curve("ntxent-coded")[0] == 9.1193
    assert paper.loss_curve("triplet-coded")[-1] == 0.2
    assert len(paper.loss_curve("npairs")) == 50 and paper.loss_curve("npairs")[-1] == 2.0919
    assert paper.loss_curve("supcon") == []


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("contrastive", {"encoder": {"epochs": 50}, "classifier": {"epochs": 15}}),
        ("contrastive-control", {"training": {"epochs": 15}}),
        ("finetune", {"training": {"epochs": 15}}),
    ],
)
def test_fewer_epochs_than_printed_are_said(method: str, settings: dict) -> None:
    """The printed runs had 50 at most (paper IV-A); a run of 15 stands beside them with a note and without a difference."""
    printed = paper.document(method, "mobilenetv2")
    run = FoundRun(Path("run"), {"settings": {**{name: value for name, value in printed.items() if "." not in name}, **settings}})
    stage = "classifier" if method == "contrastive" else "training"
    assert differs(run, printed) == f"{stage} epochs 15, not 50"
