"""Operations counted by hand, the paper's 43.2 billion, and Table 7 and fig. 6 from built networks."""

import keras
import pytest

from melanoma import models
from melanoma.flops import BILLION, flops, measured

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")
SETTINGS = {"backbone": "mobilenetv2_035", "image_size": 64, "normalise": "image", "projection": 16, "seed": 3}


def test_layers_by_hand() -> None:
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(x)  # 2 * 9 * 3 * 8*8*4 = 13824
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)  # 2 * 9 * 8*8*4 = 4608
    x = keras.layers.Conv2DTranspose(2, 2, strides=2)(x)  # 2 * 8*8*4 * 4 * 2 = 4096
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5)(x)  # 2 * 2 * 5 = 20
    assert flops(keras.Model(inputs, x)) == 13824 + 4608 + 4096 + 20


def test_sub_models_are_followed_and_a_layer_used_twice_counts_twice() -> None:
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, keras.layers.Dense(3)(inner_input))  # 24
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, keras.layers.Add()([inner(inputs), inner(inputs)]))
    assert flops(outer) == 48


def test_an_open_size_is_refused() -> None:
    inputs = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="fixed size"):
        flops(keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs)))


def test_resnet50_at_512_is_the_printed_43_2_billion() -> None:
    """Table 7: a multiply-add counted as two, one forward pass. torchvision strides in the 3x3 convolution, Keras in the 1x1 before it, and
    saves 6 % so."""
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(512, 512, 3))
    assert flops(model) / BILLION == pytest.approx(43.2, rel=0.08)


def test_rows_add_up_and_are_built_once(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, boxes = measured(SETTINGS)
    parts = {key: value for key, value in rows.values() if key}
    assert parts["total"] == pytest.approx(parts["simclr"] + parts["classifier"] + parts["segmentation"])
    assert rows["subnetwork 4, 5 encoders, forward"][1] == pytest.approx(5 * rows["subnetwork 2, classifier, forward"][1], rel=1e-3)
    monkeypatch.setattr(models, "build_encoder", lambda *_: pytest.fail("built again"))
    assert measured({**SETTINGS, "seed": 4})[0] == rows
    lines = dict(boxes)
    assert ("mask", "64 x 64 x 1") in lines["Subnetwork 3, U-Net"]
    assert ("stage 4", "2 x 2 x 3") in lines["Heatmaps (Grad-CAM)"]
