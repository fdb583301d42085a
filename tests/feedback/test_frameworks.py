"""Table 4.2: one network on TensorFlow, JAX and, its weights converted, PyTorch gives the same probabilities and maps."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from common.backbones import keep_batchnorm_frozen, recompute_batchnorm
from feedback.models import SelfExplaining, build_classifier, map_layers

pytestmark = pytest.mark.slow  # each starts other frameworks in processes of their own

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64
SCRIPT = """
import sys, keras, numpy as np
from feedback.models import SelfExplaining
folder, layer = sys.argv[1:]
model = SelfExplaining(keras.models.load_model(folder + '/model.keras'), layers=(layer,))
found = model.explain(np.load(folder + '/images.npy').astype('float32'))
np.savez(folder + '/found.npz', *[keras.ops.convert_to_numpy(x) for x in found])
"""

STEP = """
import sys, keras, numpy as np
from feedback.models import SelfExplaining
with np.load(sys.argv[1] + '/batch.npz') as batch:
    images, targets = batch['images'], {name: batch[name] for name in ('label', 'mask', 'anchor')}
model = SelfExplaining(
    keras.models.load_model(sys.argv[1] + '/model.keras'), explanation_weight=0.5, classification_weight=1.0, normalise_terms=True,
    anchor_weight=2.0, differentiate_weights=True, layers=('conv2',),
)
model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
losses = [model.train_on_batch(images, targets, return_dict=True)[name] for name in ('anchor', 'loss')]
found = [keras.ops.convert_to_numpy(weight) for weight in model.classifier.trainable_weights]
np.savez(sys.argv[1] + '/' + keras.backend.backend() + '.npz', np.array(losses, 'float32'), *found)
"""


@pytest.fixture(scope="module", params=["vgg16", "mobilenetv2_035"])
def network(request, tmp_path_factory):
    """The network, its map's layer, images, and its own probabilities `(4, 8)` and maps; saved in the folder that comes with them."""
    keras.utils.set_random_seed(0)
    head = {"head": "flatten"} if request.param == "vgg16" else {"head": "average"}
    model = build_classifier(request.param, SIZE, 8, units=32, **head)
    images = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3)).astype("float32")
    recompute_batchnorm(model, [images])  # untrained and without statistics the activations fade to nothing
    folder = tmp_path_factory.mktemp(request.param)
    model.save(folder / "model.keras")
    np.save(folder / "images.npy", images)
    (layer,) = map_layers(model)
    found = [ops.convert_to_numpy(one) for one in SelfExplaining(model, layers=(layer,)).explain(images)]
    assert found[1].max() == pytest.approx(1.0) and found[1].std() > 0.05
    return model, layer, images, found, folder


def test_the_other_backend(network):
    other = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"
    pytest.importorskip(other)
    *_, layer, _, found, folder = network
    environment = {**os.environ, "KERAS_BACKEND": other}
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder), layer], check=True, cwd=ROOT, env=environment)
    with np.load(folder / "found.npz") as theirs:
        for ours, other_backend in zip(found, theirs.values(), strict=True):
            np.testing.assert_allclose(ours, other_backend, atol=1e-4)


def test_pytorch(network):
    pytest.importorskip("torch", reason="PyTorch is not installed (requirements-bench.txt)", exc_type=ImportError)
    from benchmarks.torch_network import TorchNetwork

    model, layer, images, found, _ = network
    for ours, theirs in zip(found, TorchNetwork(model, layer).explain(images), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_step_of_the_balanced_recipe_is_the_same_on_both_backends(make_classifier, lesions, tmp_path):
    """Anchor, two normalised terms and differentiated channel weights: losses and all weights after two steps."""
    pytest.importorskip("jax")
    pytest.importorskip("tensorflow")
    images, labels, masks = (part[:6] for part in lesions)
    classifier = make_classifier()
    classifier.get_layer("dropout_1").rate = 0.0  # the backends draw other units
    anchor = np.random.default_rng(0).dirichlet(np.ones(3), 6).astype("float32")
    np.savez(tmp_path / "batch.npz", images=images.astype("float32"), label=labels, mask=masks, anchor=anchor)
    classifier.save(tmp_path / "model.keras")
    keep_batchnorm_frozen(classifier)  # as the step does
    start = [ops.convert_to_numpy(weight) for weight in classifier.trainable_weights]
    found = []
    for backend in ("tensorflow", "jax"):
        environment = {**os.environ, "KERAS_BACKEND": backend}
        subprocess.run([sys.executable, "-c", STEP, str(tmp_path)], check=True, cwd=ROOT, env=environment)
        with np.load(tmp_path / f"{backend}.npz") as kept:
            found.append(list(kept.values()))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert max(np.abs(after - before).max() for after, before in zip(found[1][1:], start, strict=True)) > 1e-2
