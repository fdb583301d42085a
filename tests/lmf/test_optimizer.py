"""Macro F1 against the shared metric."""

import numpy as np
import pytest

from common.metrics.classification import macro_f1
from lmf.optimizer import MacroF1


def test_macro_f1_equals_the_shared_metric():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 4, 50), rng.normal(size=(50, 4)).astype("float32")
    metric = MacroF1(4)
    for rows in (slice(0, 20), slice(20, 50)):
        metric.update_state(labels[rows], logits[rows])
    assert float(metric.result()) == pytest.approx(macro_f1(labels, logits.argmax(axis=1), 4), rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_macro_f1_ignores_classes_that_do_not_occur():
    metric = MacroF1(3)
    metric.update_state(np.array([[0], [1]]), np.array([[3.0, 0, 0], [0, 3, 0]], "float32"))
    assert float(metric.result()) == 1
    metric.reset_state()
    # Class 2 is predicted but never right: it counts, with F1 0. Class 0: one of two found.
    metric.update_state(np.array([0, 0]), np.array([[3.0, 0, 0], [0, 0, 3]], "float32"))
    assert float(metric.result()) == pytest.approx((2 / 3 + 0) / 2)
    # The report means the same by macro F1 as the selection.
    assert macro_f1(np.array([0, 0]), np.array([0, 2]), 3) == pytest.approx((2 / 3 + 0) / 2)
    metric.reset_state()
    metric.update_state(np.array([0, 1]), np.array([[3.0, 0, 0], [3, 0, 0]], "float32"), sample_weight=np.array([1.0, 0.0]))
    assert float(metric.result()) == pytest.approx(1)
