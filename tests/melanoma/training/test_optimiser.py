"""Weight decay in its two forms, against PyTorch's documented update by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from common.optimizer import CoupledAdam
from melanoma.experiments.train import BioUNetSettings
from melanoma.training.optimiser import adam


def steps(optimiser: keras.optimizers.Optimizer, gradients: list[float], start: float) -> float:
    weight = keras.Variable(np.array([start], "float32"))
    optimiser.build([weight])
    for gradient in gradients:
        optimiser.apply([ops.convert_to_tensor(np.array([gradient], "float32"))], [weight])
    return float(ops.convert_to_numpy(weight)[0])


def by_hand(gradients: list[float], start: float, rate: float, decay: float) -> float:
    """torch.optim.Adam: g <- g + λ w before the moments; β 0.9 and 0.999."""
    weight, m, v = start, 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        g = gradient + decay * weight
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        weight -= rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-7)
    return weight


def test_l2_enters_the_moments() -> None:
    gradients = [0.3, -0.2, 0.05]
    found = steps(CoupledAdam(0.01, 0.5, epsilon=1e-7), gradients, 2.0)
    assert found == pytest.approx(by_hand(gradients, 2.0, 0.01, 0.5), abs=1e-5)
    assert found != pytest.approx(by_hand(gradients, 2.0, 0.01, 0.0), abs=1e-3)
    again = CoupledAdam.from_config(CoupledAdam(0.01, 0.5, epsilon=1e-7).get_config())
    assert again.l2 == 0.5


def test_the_setting_chooses_the_form() -> None:
    """Issue 20, fault 9: 1e-4, decoupled, acted as 1e-8 a step."""
    coupled, decoupled = adam(BioUNetSettings()), adam(BioUNetSettings(decay="decoupled"))
    assert isinstance(coupled, CoupledAdam)
    assert coupled.l2 == 1e-4
    assert not isinstance(decoupled, CoupledAdam)
    assert decoupled.weight_decay == 1e-4
    without = adam(BioUNetSettings(weight_decay=0.0))
    assert not isinstance(without, CoupledAdam)
    assert not without.weight_decay
