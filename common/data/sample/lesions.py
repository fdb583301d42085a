"""Dermoscopic lesions: one lesion drawn from its diagnosis and its clinical indicators, with the lesion's mask and each indicator's mask.

The looks follow what dermatology text books name for each diagnosis (asymmetry, border, colours, the five indicators of ISIC 2018
Task 2), reduced to what a picture of about 160 pixels can show.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from common.data.sample import indicators
from common.data.sample.drawing import Rng, blur, depth, fill, mix, noise, outline, paint, stain, to_uint8

UNIT_WIDTH = 160  # sizes below are pixels of a picture this wide

TAN, BROWN, DARK, RUST, GREY = (0.74, 0.55, 0.40), (0.55, 0.36, 0.24), (0.30, 0.18, 0.13), (0.68, 0.38, 0.25), (0.60, 0.50, 0.44)
BLACK, BLUE, ROSE, WHITE, RED = (0.13, 0.10, 0.10), (0.40, 0.43, 0.52), (0.88, 0.55, 0.55), (0.93, 0.86, 0.84), (0.72, 0.16, 0.22)
YELLOW = (0.90, 0.78, 0.52)
SKINS = ((0.91, 0.74, 0.68), (0.86, 0.68, 0.62), (0.93, 0.80, 0.76), (0.80, 0.62, 0.52), (0.88, 0.66, 0.70), (0.84, 0.72, 0.70))


@dataclass(frozen=True)
class Look:
    """How a diagnosis looks. Pairs are ranges of a uniform draw."""

    colours: tuple[tuple[float, float, float], ...]  # of the whole lesion; one is drawn
    roughness: tuple[float, float]  # of the outline
    strength: tuple[float, float]  # of the pigment
    softness: tuple[float, float]  # width of the border in pixels
    radius: tuple[float, float] = (28, 44)
    patches: tuple[tuple[float, float, float], ...] = ()  # further colours, in patches off the centre
    indicators: dict[str, float] = field(default_factory=dict)  # how often each one is seen


LOOKS = {
    "NV": Look((TAN, BROWN, BROWN, RUST), (0.02, 0.10), (0.65, 0.95), (2.0, 5.0),
               indicators={"pigment_network": 0.65, "globules": 0.25, "milia_like_cyst": 0.2, "negative_network": 0.05}),
    "MEL": Look((BROWN, DARK, RUST), (0.22, 0.42), (0.75, 1.0), (1.0, 3.0), (32, 50), (BLACK, BLUE, ROSE, DARK, WHITE),
                {"pigment_network": 0.5, "globules": 0.3, "milia_like_cyst": 0.2, "negative_network": 0.25, "streaks": 0.25}),
    "BKL": Look((GREY, TAN, YELLOW, BROWN), (0.10, 0.20), (0.70, 0.95), (0.5, 1.2),
                indicators={"pigment_network": 0.25, "globules": 0.1, "milia_like_cyst": 0.75}),
    "BCC": Look((ROSE,), (0.10, 0.25), (0.35, 0.65), (2.0, 5.0)),
    "AK": Look((ROSE, (0.84, 0.42, 0.38)), (0.2, 0.35), (0.45, 0.75), (4.0, 8.0)),
    "SCC": Look(((0.84, 0.42, 0.38), ROSE), (0.1, 0.2), (0.7, 0.95), (1.5, 3.0)),
    "DF": Look((TAN, (0.82, 0.58, 0.50)), (0.03, 0.10), (0.55, 0.85), (5.0, 8.0)),
    "VASC": Look((RED, (0.62, 0.16, 0.36), (0.48, 0.16, 0.32)), (0.08, 0.2), (0.55, 0.85), (1.0, 2.5), (20, 38)),
}  # fmt: skip


@dataclass
class Drawn:
    """One photograph: image uint8 (h, w, 3), lesion bool (h, w), and a bool mask for each indicator (all False = not there)."""

    image: np.ndarray
    lesion: np.ndarray
    indicators: dict[str, np.ndarray]


def draw_lesion(diagnosis: str, present: frozenset[str], lesion_rng: Rng, photo_rng: Rng, height: int, width: int) -> Drawn:
    """Draws a lesion. `lesion_rng` decides what belongs to the lesion, `photo_rng` what belongs to one photograph of it (turn, light,
    focus, hairs), so two photographs of one lesion differ as in HAM10000. `present` names the indicators to draw."""
    rng, look, unit = lesion_rng, LOOKS[diagnosis], width / UNIT_WIDTH
    image = skin(rng, height, width)
    radius = rng.uniform(*look.radius) * unit
    centre = np.array([width, height]) / 2 + rng.uniform(-0.09, 0.09, 2) * (width, height)
    shape = outline(rng, rng.uniform(*look.roughness), rng.uniform(1.0, 1.45)) * radius
    # The whole lesion stays inside the picture.
    room = np.minimum(centre, (width, height) - centre) * 0.85 / np.abs(shape).max(axis=0)
    points = shape * min(1.0, room.min()) + centre
    radius *= min(1.0, room.min())
    lesion = fill(points, height, width, 0.5)
    body = blur(lesion, rng.uniform(*look.softness) * unit)
    colour = np.clip(np.float32(look.colours[rng.integers(len(look.colours))]) + rng.normal(0, 0.03, 3), 0.05, 1)
    strength = rng.uniform(*look.strength) + 0.08 * noise(rng, height, width, radius / 2)
    stain(image, body, colour, np.clip(strength, 0, 1))
    for index in rng.permutation(len(look.patches))[: rng.integers(2, 5)] if look.patches else ():
        turn, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.75)
        spot = outline(rng, 0.3) * radius * rng.uniform(0.3, 0.6) + centre + radius * share * np.array([np.cos(turn), np.sin(turn)])
        paint(image, fill(spot, height, width, 2.5 * unit) * body, np.float32(look.patches[index]), rng.uniform(0.55, 0.9))
    DETAILS.get(diagnosis, lambda *_: None)(rng, image, body, centre, radius, unit)

    scene = indicators.Scene(image, lesion, points, centre, radius, unit)
    masks = {name: np.zeros((height, width), np.float32) for name in indicators.NAMES}
    for name, indicator in indicators.DRAW.items():
        if name in present:
            masks[name] = indicator(rng, scene)
    return photograph(photo_rng, image, lesion, masks)


def skin(rng: Rng, height: int, width: int) -> np.ndarray:
    """Bare skin, float32 (h, w, 3) in 0..1."""
    tone = mix(SKINS[rng.integers(len(SKINS))], SKINS[rng.integers(len(SKINS))], rng.random())
    texture = 1 + 0.018 * noise(rng, height, width, 3) + 0.03 * noise(rng, height, width, 35)
    return np.ascontiguousarray(tone * texture[..., None], dtype=np.float32)


def photograph(rng: Rng, image: np.ndarray, lesion: np.ndarray, masks: dict[str, np.ndarray]) -> Drawn:
    """One photograph of the drawn skin: turned, nearer or farther, with hairs, uneven light, a lens tube's edge, focus and noise."""
    height, width = lesion.shape
    unit = width / UNIT_WIDTH
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.uniform(-25, 25)), float(rng.uniform(0.85, 1.1)))

    def turned(plane: np.ndarray, border: int) -> np.ndarray:
        return cv2.warpAffine(plane, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)

    flips = [axis for axis in (0, 1) if rng.random() < 0.5]
    image = np.flip(turned(image, cv2.BORDER_REFLECT), flips).copy()
    lesion = np.flip(turned(lesion, cv2.BORDER_CONSTANT), flips)
    masks = {name: np.flip(turned(mask, cv2.BORDER_CONSTANT), flips) for name, mask in masks.items()}
    if rng.random() < 0.3:
        hairs(rng, image, unit)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    slope = rng.uniform(-0.07, 0.07, 2)
    light = rng.uniform(0.85, 1.08) * (1 + slope[0] * x + slope[1] * y - rng.uniform(0, 0.12) * (x**2 + y**2))
    image *= light[..., None] * rng.uniform(0.95, 1.05, 3).astype(np.float32)
    if rng.random() < 0.08:
        image *= blur((np.hypot(x * width / height, y) < 1.24).astype(np.float32), 1.5 * unit)[..., None]
    image = blur(image, rng.uniform(0, 0.8) * unit) + rng.normal(0, 0.01, image.shape)
    return Drawn(to_uint8(image), lesion > 0.5, {name: mask > 0.5 for name, mask in masks.items()})


def hairs(rng: Rng, image: np.ndarray, unit: float) -> None:
    """A few dark hairs across the picture."""
    height, width = image.shape[:2]
    cover = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(2, 8)):
        start, end = rng.uniform((0, 0), (width, height), (2, 2))
        bend = (start + end) / 2 + rng.normal(0, 14 * unit, 2)
        steps = np.linspace(0, 1, 16)[:, None]
        curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * bend + steps**2 * end
        cv2.polylines(cover, [np.round(curve * 16).astype(np.int32)], False, 255, 1, cv2.LINE_AA, 4)
    paint(image, cover.astype(np.float32) / 255, np.float32((0.22, 0.16, 0.13)), 0.75)


def waxy(rng: Rng, image: np.ndarray, body: np.ndarray, centre: np.ndarray, radius: float, unit: float) -> None:
    """Seborrhoeic keratosis: rough, furrowed surface and dark plugs."""
    height, width = body.shape
    stain(image, body * np.clip(noise(rng, height, width, 6 * unit), 0, 1.5), np.float32((0.55, 0.45, 0.38)), 0.4)
    for _ in range(rng.integers(2, 7)):
        dot = outline(rng, 0.2) * rng.uniform(1.5, 3) * unit + centre + rng.uniform(-0.6, 0.6, 2) * radius
        paint(image, fill(dot, height, width, 0.6) * body, np.float32((0.35, 0.24, 0.16)), 0.8)


def pearly(rng: Rng, image: np.ndarray, body: np.ndarray, centre: np.ndarray, radius: float, unit: float) -> None:
    """Basal cell carcinoma: branching red vessels and blue-grey nests on a pink, shiny ground."""
    height, width = body.shape
    vessels = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(3, 6)):
        turn = rng.uniform(0, 2 * np.pi)
        branch(rng, vessels, centre + radius * 0.95 * np.array([np.cos(turn), np.sin(turn)]), turn + np.pi, radius * 0.5, 3)
    paint(image, blur(vessels.astype(np.float32) / 255, 0.5 * unit) * np.maximum(body, 0.3), np.float32(RED), 0.8)
    for _ in range(rng.integers(2, 6)):
        nest = outline(rng, 0.15, 1.3) * rng.uniform(2.5, 6) * unit + centre + rng.uniform(-0.6, 0.6, 2) * radius
        paint(image, fill(nest, height, width, unit), np.float32((0.36, 0.37, 0.46)), 0.75)


def branch(rng: Rng, canvas: np.ndarray, start: np.ndarray, turn: float, length: float, left: int) -> None:
    """A vessel that forks `left` times; drawn in 255 into `canvas` uint8 (h, w)."""
    end = start + length * np.array([np.cos(turn), np.sin(turn)])
    middle = (start + end) / 2 + rng.normal(0, length * 0.12, 2)
    cv2.polylines(canvas, [np.round(np.stack([start, middle, end]) * 16).astype(np.int32)], False, 255, 1, cv2.LINE_AA, 4)
    for side in (-1, 1) if left else ():
        branch(rng, canvas, end, turn + side * rng.uniform(0.3, 0.9), length * 0.7, left - 1)


def scaly(rng: Rng, image: np.ndarray, body: np.ndarray, centre: np.ndarray, radius: float, unit: float) -> None:
    """Actinic keratosis: pale follicles in a red net ("strawberry") and white scales."""
    height, width = body.shape
    holes = np.clip(indicators.lattice(rng, height, width, 8 * unit) - 1.2, 0, 1)
    paint(image, body * holes, np.float32((0.95, 0.85, 0.72)), 0.6)
    paint(image, body * (noise(rng, height, width, 5 * unit) > 1.4), np.float32(WHITE), 0.75)


def keratotic(rng: Rng, image: np.ndarray, body: np.ndarray, centre: np.ndarray, radius: float, unit: float) -> None:
    """Squamous cell carcinoma: a yellow-white horny mass in the middle of a red nodule."""
    height, width = body.shape
    core = outline(rng, 0.25) * radius * rng.uniform(0.4, 0.6) + centre
    mask = fill(core, height, width, 1.5 * unit)
    paint(image, mask, mix(YELLOW, WHITE, rng.random()), 0.9)
    stain(image, mask * np.clip(noise(rng, height, width, 4 * unit), 0, 1), np.float32((0.6, 0.42, 0.28)), 0.7)


def scarred(rng: Rng, image: np.ndarray, body: np.ndarray, centre: np.ndarray, radius: float, unit: float) -> None:
    """Dermatofibroma: a white, scar-like middle inside a fine brown net."""
    height, width = body.shape
    lines = np.clip((-0.3 - indicators.lattice(rng, height, width, 6 * unit)) / 0.6, 0, 1)
    stain(image, body * lines, np.float32(BROWN), 0.5)
    scar = outline(rng, 0.2) * radius * rng.uniform(0.4, 0.55) + centre
    paint(image, fill(scar, height, width, 2 * unit), np.float32(WHITE), 0.8)


def lacunar(rng: Rng, image: np.ndarray, body: np.ndarray, centre: np.ndarray, radius: float, unit: float) -> None:
    """Vascular lesion: red to purple lakes with sharp edges, parted by pale seams."""
    height, width = body.shape
    paint(image, body * (depth(body) < 2 * unit), np.float32(ROSE), 0.2)
    tone = mix(RED, (0.42, 0.10, 0.32), rng.random())
    for _ in range(rng.integers(9, 18)):
        lake = outline(rng, 0.12) * rng.uniform(3.5, 7) * unit + centre + rng.normal(0, 0.45, 2) * radius
        mask = fill(lake, height, width, 0.5)
        mask *= blur(body, 3 * unit) > 0.25
        paint(image, blur(mask, unit), np.float32((0.93, 0.66, 0.68)), 0.5)
        paint(image, mask * (depth(mask) > 0.8 * unit), np.clip(tone + rng.normal(0, 0.05, 3), 0, 1).astype(np.float32), 0.85)


DETAILS = {"BKL": waxy, "BCC": pearly, "AK": scaly, "SCC": keratotic, "DF": scarred, "VASC": lacunar}
