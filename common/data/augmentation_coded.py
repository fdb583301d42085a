"""The six augmenter groups that the cervical authors' notebook runs (facts file, section 1.2), with OpenCV.

The notebook used imgaug on arrays read by OpenCV, so channels were blue-green-red where imgaug expects red-green-blue;
colour operations therefore ran on swapped channels, and do so here. Groups are numbered as there: 0 geometry, 1 local
contrast, 2 edges, 3 Canny, 4 colour, 5 contrast and brightness. Each is one random draw; `coded_copy` is a pure
function of the image and the generator's state.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Operation = Callable[[np.ndarray, np.random.Generator], np.ndarray]
JPEG_QUALITY = 95  # the copies were written as JPEG with OpenCV's default quality, then read again


def coded_copy(image: np.ndarray, group: int, rng: np.random.Generator) -> np.ndarray:
    """One augmented copy of `image`, `(h, w, 3)` uint8 RGB, by the notebook's `group` 0..5, re-encoded as JPEG; same
    shape and dtype.
    """
    operations, number = GROUPS[group]
    swapped = np.ascontiguousarray(image[..., ::-1])
    for index in rng.choice(len(operations), size=number, replace=False):
        swapped = operations[index](swapped, rng)
    _, data = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])  # type: ignore[index]


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# Group 0: geometry; what comes in from outside the image is black.
def _affine(image: np.ndarray, angle: float = 0, scale=(1.0, 1.0), shift=(0.0, 0.0), shear: float = 0) -> np.ndarray:
    height, width = image.shape[:2]
    centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    turn, slant = np.deg2rad(angle), np.tan(np.deg2rad(shear))
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    shape = np.array([[scale[0], slant, shift[0] * width], [0, scale[1], shift[1] * height], [0, 0, 1]])
    matrix = centre @ rotation @ shape @ np.linalg.inv(centre)
    return cv2.warpAffine(image, matrix[:2], (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


# Group 1: local contrast. CLAHE works on the lightness of Lab, "all channels" on each channel; defaults are imgaug's.
def _equalise(channel: np.ndarray, clip: float, tiles: int) -> np.ndarray:
    return cv2.createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles)).apply(np.ascontiguousarray(channel))


def _lightness(image: np.ndarray, clip: float, tiles: int) -> np.ndarray:
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = _equalise(lab[..., 0], clip, tiles)
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def _all_channels(image: np.ndarray, clips: Sequence[float], tiles: int) -> np.ndarray:
    return np.stack([_equalise(image[..., c], clips[c], tiles) for c in range(3)], axis=-1)


# Group 2: edges. A 3x3 kernel, blended with the identity.
def _blend_kernel(image: np.ndarray, effect: np.ndarray, alpha: float) -> np.ndarray:
    identity = np.zeros((3, 3))
    identity[1, 1] = 1
    return cv2.filter2D(image, -1, (1 - alpha) * identity + alpha * effect, borderType=cv2.BORDER_REFLECT_101)


def _directed_edges(image, rng):
    """Neighbours weigh by how near they lie to a random direction, (1 - angle / 180 degrees)^4, minus the centre."""
    alpha, direction = rng.uniform(0, 0.7), 2 * np.pi * rng.uniform(0, 1)
    rows, columns = np.mgrid[-1:2, -1:2]
    angle = np.abs((np.arctan2(columns, -rows) - direction + np.pi) % (2 * np.pi) - np.pi)  # clockwise from the top
    effect = (1 - angle / np.pi) ** 4
    effect[1, 1] = 0
    effect /= effect.sum()
    effect[1, 1] = -1
    return _blend_kernel(image, effect, alpha)


# Group 3: Canny edges in one random colour on another, blended with the image.
def _canny(image: np.ndarray, rng: np.random.Generator, alpha: float, apertures: Sequence[int]) -> np.ndarray:
    low, high, aperture = rng.uniform(60, 140), rng.uniform(160, 240), int(rng.choice(apertures))
    edges = cv2.Canny(image, low, high, apertureSize=aperture) > 0
    colours = rng.integers(0, 256, (2, 3)).astype(np.uint8)
    return cv2.addWeighted(image, 1 - alpha, colours[edges.view(np.uint8)], alpha, 0)


# Group 4: colour.
def _hue_saturation(image: np.ndarray, factors: np.ndarray | tuple[int, int], amounts: np.ndarray | tuple[int, int]) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    changed = hsv[..., :2].astype(np.float64) * factors + amounts
    hsv[..., 0] = np.rint(changed[..., 0]).astype(np.int64) % 256  # hue is a circle
    hsv[..., 1] = _to_bytes(changed[..., 1])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _few_colours(image, rng):
    """k-means in Lab, 4..16 colours. The first centres are drawn here: OpenCV's own come from a generator shared by all
    threads.
    """
    colours = int(rng.integers(4, 17))
    # Clustered on about 32 x 32 of the pixels (imgaug also clusters a smaller copy); then every pixel takes its nearest
    # centre.
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    step = (max(1, image.shape[0] // 32), max(1, image.shape[1] // 32))
    sample = np.ascontiguousarray(lab[:: step[0], :: step[1]].reshape(-1, 3))
    colours = min(colours, len(sample))
    first = sample[rng.choice(len(sample), colours, replace=False)]
    labels = _nearest(sample, first).astype(np.int32)[:, None]
    stop = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 10, 1.0)
    _, _, centres = cv2.kmeans(sample, colours, labels, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    quantised = _to_bytes(centres)[_nearest(lab.reshape(-1, 3), centres)].reshape(image.shape)
    return cv2.cvtColor(quantised, cv2.COLOR_LAB2RGB)


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """For each of `points`, `(n, 3)`, the number of the nearest of `centres`, `(k, 3)`; first one on a tie."""
    best, lowest = np.zeros(len(points), dtype=np.int64), np.full(len(points), np.inf, dtype=np.float32)
    columns = np.ascontiguousarray(points.T)
    for number, centre in enumerate(centres):  # a loop, not a matrix product: that one waits for the BLAS library's threads
        distance = (columns[0] - centre[0]) ** 2 + (columns[1] - centre[1]) ** 2 + (columns[2] - centre[2]) ** 2
        nearer = distance < lowest
        best[nearer], lowest[nearer] = number, distance[nearer]
    return best


def _brightness_per_channel(image, rng):
    factors = rng.uniform(0.5, 1.5, 3) if rng.uniform() < 0.75 else np.full(3, rng.uniform(0.5, 1.5))
    return cv2.LUT(image, _to_bytes(np.arange(256)[:, None] * factors)[:, None])


OPERATIONS: dict[str, Operation] = {
    "rotate": lambda image, rng: _affine(image, angle=rng.uniform(-90, 90)),
    "scale": lambda image, rng: _affine(image, scale=tuple(rng.uniform(0.5, 0.9, 2))),
    "translate": lambda image, rng: _affine(image, shift=tuple(rng.uniform(-0.15, 0.15, 2))),
    "shear": lambda image, rng: _affine(image, shear=rng.uniform(-2, 2)),
    "flip_horizontally": lambda image, rng: cv2.flip(image, 1),
    "flip_vertically": lambda image, rng: cv2.flip(image, 0),
    "clahe": lambda image, rng: _lightness(image, rng.uniform(0.1, 8), int(rng.integers(3, 13))),
    "clahe_clip": lambda image, rng: _lightness(image, rng.uniform(1, 10), int(rng.integers(3, 13))),
    "clahe_tiles": lambda image, rng: _lightness(image, rng.uniform(0.1, 8), int(rng.integers(3, 22))),
    "gamma": lambda image, rng: cv2.LUT(image, _to_bytes(255 * (np.arange(256) / 255) ** rng.uniform(0.5, 2))),
    "clahe_all": lambda image, rng: _all_channels(image, [rng.uniform(0.1, 8)] * 3, int(rng.integers(3, 13))),
    "clahe_all_clip": lambda image, rng: _all_channels(image, tuple(rng.uniform(1, 10, 3)), int(rng.integers(3, 13))),
    "edges": lambda image, rng: _blend_kernel(image, np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=np.float64), rng.uniform(0, 0.7)),
    "directed_edges": _directed_edges,
    "canny_any": lambda image, rng: _canny(image, rng, rng.uniform(0, 1), (3, 5, 7)),
    "canny_strong": lambda image, rng: _canny(image, rng, rng.uniform(0.5, 1), (3, 7)),
    "shuffle_channels": lambda image, rng: np.ascontiguousarray(image[..., rng.permutation(3)]),
    "grey": lambda image, rng: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "multiply_hue_saturation": lambda image, rng: _hue_saturation(image, rng.uniform(0.5, 1.5, 2), (0, 0)),
    "add_hue_saturation": lambda image, rng: _hue_saturation(image, (1, 1), rng.integers(-50, 51, 2)),
    "few_colours": _few_colours,
    "contrast": lambda image, rng: cv2.LUT(image, _to_bytes(127 + rng.uniform(0.75, 1.5) * (np.arange(256) - 127.0))),
    "brightness": lambda image, rng: cv2.LUT(image, _to_bytes(np.arange(256) * rng.uniform(0.35, 1.65))),
    "brightness_per_channel": _brightness_per_channel,
}
# Each group: its operations and how many distinct ones, in random order, a copy gets.
GROUPS: tuple[tuple[tuple[Operation, ...], int], ...] = tuple(
    (tuple(OPERATIONS[name] for name in names.split()), number)
    for names, number in (
        ("rotate scale translate shear flip_horizontally flip_vertically", 2),
        ("clahe clahe_clip clahe_tiles gamma clahe_all clahe_all_clip", 2),
        ("edges directed_edges", 1),
        ("canny_any canny_strong", 1),
        ("shuffle_channels grey multiply_hue_saturation add_hue_saturation few_colours", 1),
        ("contrast brightness brightness_per_channel", 1),
    )
)
