"""ITA of colours whose CIELAB values are known from scikit-image's conversion of a single pixel."""

import math

import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from common.metrics.skin_tone import tone, typology_angle


def flat(light: float, yellow: float) -> np.ndarray:
    colour = np.round(255 * lab2rgb(np.array([[[light, 12.0, yellow]]])))[0, 0]
    return np.tile(colour.astype(np.uint8), (10, 10, 1))


@pytest.mark.parametrize(("light", "yellow"), [(75.0, 15.0), (60.0, 20.0), (45.0, 18.0), (30.0, 15.0)])
def test_the_angle_is_the_formulas(light: float, yellow: float) -> None:
    image = flat(light, yellow)
    exact = rgb2lab(image)[0, 0]
    assert typology_angle(image) == pytest.approx(math.degrees(math.atan((exact[0] - 50) / exact[2])), abs=1e-6)
    assert typology_angle(image) == pytest.approx(math.degrees(math.atan((light - 50) / yellow)), abs=3)


def test_lesion_black_corners_and_glare_do_not_count() -> None:
    image = flat(70.0, 15.0)
    before = typology_angle(image)
    lesion = np.zeros((10, 10), bool)
    lesion[2:6, 2:6] = True
    image[lesion] = (60, 30, 20)
    image[0] = 0
    image[9] = 255
    assert typology_angle(image, lesion) == pytest.approx(before)
    assert math.isnan(typology_angle(np.zeros((10, 10, 3), np.uint8)))
    with pytest.raises(ValueError, match="mask"):
        typology_angle(image, lesion[:5])


def test_classes_of_the_angle() -> None:
    angles = (60, 55, 42, 41, 30, 20, 10, 0, -30, -80, math.nan)
    names = ["very light", "light", "light", "intermediate", "intermediate", "tan", "brown", "brown", "dark", "dark", "unknown"]
    assert [tone(angle) for angle in angles] == names
