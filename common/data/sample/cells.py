"""Pap-smear cells in SIPaKMeD's layout: five kinds, several cells a slide, each slide with its own stain, light and focus.

Layout: `im_<Class>/im_<Class>/CROPPED/<slide>_<cell>.bmp` (the single cells), and in `im_<Class>/im_<Class>/` the slides they were cut
from (`<slide>.bmp`); the outlines of cytoplasm and nucleus, one "x,y" per line, in the slide's pixels (`<slide>_cyt01.dat`,
`<slide>_nuc01.dat`) and beside each cell in its own (`CROPPED/<slide>_<cell>_cyt.dat`, `…_nuc.dat`). What tells the kinds apart is shape
and texture (nucleus against cytoplasm, halo, rim, folds, crowding); the stain varies so much from slide to slide that colour alone does
not.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.data.sample.drawing import Rng, blur, depth, fill, mix, noise, outline, stain, to_uint8, write_image

SLIDE_HEIGHT, SLIDE_WIDTH = 360, 480
CELLS_PER_CLASS = 60
CELLS_ON_SLIDE = (5, 4, 6, 3, 7, 5, 6, 4, 5, 5, 7, 3)  # sums to CELLS_PER_CLASS; slides differ in size as in the real set

PINK, ORANGE, CYAN, BLUE, VIOLET, TEAL = (
    (0.93, 0.58, 0.62), (0.88, 0.50, 0.30), (0.52, 0.80, 0.84), (0.50, 0.62, 0.82), (0.70, 0.58, 0.78), (0.36, 0.66, 0.68),
)  # fmt: skip
PALETTE = (PINK, ORANGE, CYAN, BLUE, VIOLET, TEAL)


@dataclass(frozen=True)
class CellKind:
    """How one class looks. Radii in pixels; pairs are ranges of a uniform draw."""

    radius: tuple[float, float]  # of the cytoplasm
    nucleus: tuple[float, float]  # radius of the nucleus relative to the cytoplasm's
    darkness: tuple[float, float]  # of the nucleus: 0 as the cytoplasm, 1 black
    opacity: tuple[float, float]  # of the cytoplasm
    favourite: tuple[float, float, float]  # stain that this kind takes up more often than the others
    elongation: tuple[float, float] = (1.0, 1.25)
    roughness: float = 0.06
    corners: int = 0
    binucleate: float = 0.0  # share of cells with two nuclei
    halo: float = 0.0  # clearing around the nucleus
    rim: float = 0.0  # darker edge of the cytoplasm
    folds: int = 0
    granules: float = 0.0  # coarse texture of the cytoplasm
    spacing: float = 1.0  # distance between cells relative to the sum of their radii


KINDS = {
    "Dyskeratotic": CellKind((30, 46), (0.34, 0.50), (0.70, 0.95), (0.60, 0.95), ORANGE, (1.0, 1.8), 0.15, granules=0.10, rim=0.2,
                             spacing=0.58),
    "Koilocytotic": CellKind((40, 62), (0.24, 0.36), (0.50, 0.80), (0.50, 0.85), VIOLET, (1.0, 1.5), 0.10, binucleate=0.35, halo=0.75,
                             rim=0.55, granules=0.06, spacing=0.85),
    "Metaplastic": CellKind((36, 58), (0.26, 0.38), (0.50, 0.85), (0.60, 0.95), TEAL, (1.0, 1.5), 0.08, rim=0.75, granules=0.22,
                            spacing=0.85),
    "Parabasal": CellKind((30, 48), (0.42, 0.58), (0.30, 0.75), (0.45, 0.85), CYAN, (1.0, 1.3), 0.03, granules=0.03, spacing=0.9),
    "Superficial-Intermediate": CellKind((62, 92), (0.09, 0.15), (0.70, 0.95), (0.35, 0.75), PINK, (1.0, 1.4), 0.04, corners=6, folds=3,
                                         granules=0.04, spacing=0.75),
}  # fmt: skip


@dataclass
class Cell:
    """One drawn cell: the outlines (n, 2) of cytoplasm and first nucleus in slide pixels."""

    cytoplasm: np.ndarray
    nucleus: np.ndarray


def draw(kind: str, folder: Path, seed: int) -> None:
    """Writes the whole data set under `folder`."""
    for class_index, (name, look) in enumerate(KINDS.items()):
        inner = folder / f"im_{name}" / f"im_{name}"
        for slide_index, count in enumerate(CELLS_ON_SLIDE):
            rng = np.random.default_rng([seed, class_index, slide_index])
            image, cells = draw_slide(rng, look, count)
            slide = f"{slide_index + 1:03d}"
            write_image(inner / f"{slide}.bmp", image)
            for number, cell in enumerate(cells, start=1):
                pixels, corner = crop(rng, image, cell)
                write_image(inner / "CROPPED" / f"{slide}_{number:02d}.bmp", pixels)
                last = np.array(pixels.shape[1::-1]) - 1
                for part, points in (("cyt", cell.cytoplasm), ("nuc", cell.nucleus)):
                    write_outline(inner / "CROPPED" / f"{slide}_{number:02d}_{part}.dat", np.clip(points - corner, 0, last))
                write_outline(inner / f"{slide}_cyt{number:02d}.dat", cell.cytoplasm)
                write_outline(inner / f"{slide}_nuc{number:02d}.dat", cell.nucleus)


def draw_slide(rng: Rng, look: CellKind, count: int) -> tuple[np.ndarray, list[Cell]]:
    """One field of view with `count` cells of one kind: image uint8 (360, 480, 3) and the cells."""
    height, width = SLIDE_HEIGHT, SLIDE_WIDTH
    # The favourite stain is only a hint: two slides in three take any stain of the palette, and each mixes in a second one.
    first = look.favourite if rng.random() < 0.35 else PALETTE[rng.integers(len(PALETTE))]
    colour = mix(first, PALETTE[rng.integers(len(PALETTE))], rng.uniform(0.0, 0.45))
    image = background(rng, height, width)
    radii = rng.uniform(*look.radius, count)
    centres = place(rng, radii, look.spacing, height, width)
    bystanders(rng, image, colour)
    cells = [draw_cell(rng, image, look, centre, radius, colour) for centre, radius in zip(centres, radii, strict=True)]
    image = blur(image, rng.uniform(0.3, 1.5))  # focus
    light = (rng.uniform(0.8, 1.06) * rng.uniform(0.88, 1.08, 3)).astype(np.float32)
    image = image ** rng.uniform(0.8, 1.3) * light + 0.012 * rng.standard_normal(image.shape, np.float32)
    return to_uint8(image), cells


def background(rng: Rng, height: int, width: int) -> np.ndarray:
    """Empty slide: nearly clear, tinted, with faint mucus; float32 (h, w, 3) in 0..1."""
    image = np.ones((height, width, 3), np.float32) * rng.uniform((0.80, 0.80, 0.84), (0.97, 0.95, 0.97)).astype(np.float32)
    tint = mix((1, 1, 1), PALETTE[rng.integers(len(PALETTE))], rng.uniform(0.1, 0.6))
    stain(image, np.clip(0.45 + 0.25 * noise(rng, height, width, 110), 0, 1), tint)
    return image


def bystanders(rng: Rng, image: np.ndarray, colour: np.ndarray) -> None:
    """Pieces of out-of-focus cytoplasm and white blood cells, so that not all that is dark is a nucleus."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 6)):
        shape = outline(rng, 0.1, rng.uniform(1, 1.6)) * rng.uniform(25, 70) + rng.uniform((0, 0), (width, height))
        stain(image, fill(shape, height, width, 4), mix(colour, PALETTE[rng.integers(len(PALETTE))], 0.6), rng.uniform(0.15, 0.4))
    for _ in range(rng.integers(3, 14)):
        shape = outline(rng, 0.12) * rng.uniform(3, 6) + rng.uniform((0, 0), (width, height))
        stain(image, fill(shape, height, width, 0.8), np.float32([0.35, 0.25, 0.5]), rng.uniform(0.5, 0.9))


def place(rng: Rng, radii: np.ndarray, spacing: float, height: int, width: int) -> np.ndarray:
    """Centres (n, 2) x, y: each cell at the place, out of some random ones, that comes nearest to the wished distance to the others."""
    centres: list[np.ndarray] = []
    for index, radius in enumerate(radii):
        margin = radius * 1.05
        tries = rng.uniform((margin, margin), (width - margin, height - margin), (60, 2))
        if not centres:
            centres.append(tries[0] if spacing >= 0.7 else np.array([width / 2, height / 2]))
            continue
        wished = spacing * (radius + radii[:index])
        gap = (np.linalg.norm(tries[:, None] - np.array(centres)[None], axis=2) / wished).min(axis=1)
        # Crowded kinds sit as close as allowed; the others anywhere that is far enough.
        allowed = np.where(gap >= 1, gap if spacing < 0.7 else 1 + rng.random(60), 100 - gap)
        centres.append(tries[int(np.argmin(allowed))])
    return np.array(centres)


def draw_cell(rng: Rng, image: np.ndarray, look: CellKind, centre: np.ndarray, radius: float, slide_colour: np.ndarray) -> Cell:
    """Draws one cell into the slide and returns its outlines."""
    reach = int(radius * 2.0) + 4
    x0, y0 = max(0, int(centre[0]) - reach), max(0, int(centre[1]) - reach)
    view = image[y0 : int(centre[1]) + reach, x0 : int(centre[0]) + reach]
    height, width = view.shape[:2]
    origin = np.array([x0, y0])
    middle = centre - origin

    colour = np.clip(slide_colour + rng.normal(0, 0.03, 3), 0.1, 0.97).astype(np.float32)
    cytoplasm = outline(rng, look.roughness, rng.uniform(*look.elongation), look.corners) * radius + middle
    body = fill(cytoplasm, height, width, 0.9)
    inside = depth(body) / radius
    strength = rng.uniform(*look.opacity) * np.ones_like(body)
    strength += look.rim * 0.5 * np.exp(-inside / 0.12) * (inside > 0)
    strength += look.granules * noise(rng, height, width, 3.5) + 0.05 * noise(rng, height, width, radius / 2)

    nuclear_radius = rng.uniform(*look.nucleus) * radius
    # Eccentric, as far as the nucleus stays inside.
    offset = rng.uniform(0, 0.75 * (radius * 0.85 - nuclear_radius)) * direction(rng)
    places = [middle + offset]
    if rng.random() < look.binucleate:
        side = direction(rng) * nuclear_radius * 0.95
        places = [middle + offset - side, middle + offset + side]
        nuclear_radius *= 0.85
    if look.halo:
        clearing = outline(rng, 0.16, rng.uniform(1, 1.4)) * nuclear_radius * rng.uniform(1.6, 2.2) + middle + offset
        strength *= 1 - look.halo * rng.uniform(0.75, 1.15) * fill(clearing, height, width, 0.05 * radius) * (inside > 0.06)
    stain(view, body, colour, np.clip(strength, 0, 1))
    for _ in range(rng.integers(1, look.folds + 1) if look.folds else 0):
        stain(view, fold(rng, body, middle, radius), mix(colour, (0.3, 0.3, 0.4), 0.3), 0.4)

    dark = mix(mix(colour, (0.42, 0.34, 0.58), 0.75), (0.10, 0.06, 0.16), rng.uniform(*look.darkness))
    shapes = []
    for place_ in places:
        shape = outline(rng, 0.05 + look.roughness / 2, rng.uniform(1.0, 1.35)) * nuclear_radius + place_
        mask = fill(shape, height, width, 0.7)
        chromatin = 0.85 + 0.12 * noise(rng, height, width, max(2.0, nuclear_radius / 4))
        stain(view, mask, dark, np.clip(chromatin, 0, 1))
        shapes.append(shape)
    return Cell(cytoplasm + origin, shapes[0] + origin)


def direction(rng: Rng) -> np.ndarray:
    """Random unit vector (2,)."""
    turn = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(turn), np.sin(turn)])


def fold(rng: Rng, body: np.ndarray, middle: np.ndarray, radius: float) -> np.ndarray:
    """Thin crease across a flat cell: mask (h, w)."""
    height, width = body.shape
    along = direction(rng)
    across = np.array([-along[1], along[0]])
    steps = np.linspace(-1.1, 1.1, 12)[:, None]
    bend, shift = rng.uniform(-0.3, 0.3), rng.uniform(0.3, 0.75) * rng.choice([-1, 1])
    line = middle + radius * (steps * along + (shift + bend * steps**2) * across)
    half = rng.uniform(0.8, 2.0)
    return fill(np.concatenate([line + half * across, (line - half * across)[::-1]]), height, width, 0.8) * body


def crop(rng: Rng, image: np.ndarray, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """The cell's bounding box with an uneven margin, as a person would cut it; uint8 (h, w, 3), and its corner (x, y) in the slide."""
    low, high = cell.cytoplasm.min(axis=0), cell.cytoplasm.max(axis=0)
    margin = (high - low).mean() * rng.uniform(0.0, 0.42, 4) ** np.array([1, 1, 1.5, 1.5])
    left, top = np.maximum(low - margin[:2], 0).astype(int)
    right, bottom = np.ceil(high + margin[2:]).astype(int)
    return np.ascontiguousarray(image[top:bottom, left:right]), np.array([left, top])


def write_outline(path: Path, points: np.ndarray) -> None:
    """One "x,y" per line, as in the official .dat files."""
    path.write_text("".join(f"{x:.0f},{y:.0f}\n" for x, y in points), encoding="ascii")
