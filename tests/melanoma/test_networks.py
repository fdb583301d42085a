"""Table 7 and fig. 6 from built networks."""

import pytest

from melanoma import networks

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")
SETTINGS = {"backbone": "mobilenetv2_035", "image_size": 64, "normalise": "image", "projection": 16, "seed": 3}


def test_rows_add_up_and_are_built_once(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, boxes = networks.measured(SETTINGS)
    parts = {key: value for key, value in rows.values() if key}
    assert parts["total"] == pytest.approx(parts["simclr"] + parts["classifier"] + parts["segmentation"])
    assert rows["subnetwork 4, 5 encoders, forward"][1] == pytest.approx(5 * rows["subnetwork 2, classifier, forward"][1], rel=1e-3)
    monkeypatch.setattr(networks.models, "build_encoder", lambda *_: pytest.fail("built again"))
    assert networks.measured({**SETTINGS, "seed": 4})[0] == rows
    lines = dict(boxes)
    assert ("mask", "64 x 64 x 1") in lines["Subnetwork 3, U-Net"]
    assert ("stage 4", "2 x 2 x 3") in lines["Heatmaps (Grad-CAM)"]
