import numpy as np

from common.explanation.resize import resize_matrix


def test_resize_matrix_against_pillow_and_scipy():
    from PIL import Image
    from scipy.ndimage import zoom

    small = np.random.default_rng(0).random((5, 7)).astype("float32")
    centres = resize_matrix(5, 20) @ small @ resize_matrix(7, 28).T
    np.testing.assert_allclose(centres, np.asarray(Image.fromarray(small).resize((28, 20), Image.Resampling.BILINEAR)), atol=1e-6)
    corners = resize_matrix(5, 20, "corners") @ small @ resize_matrix(7, 28, "corners").T
    np.testing.assert_allclose(corners, zoom(small, (4, 4), order=1, mode="nearest"), atol=1e-6)
    assert resize_matrix(1, 3).tolist() == [[1], [1], [1]]
