"""Pap-smear cells in SIPaKMeD's layout: five kinds, several cells a slide, each slide with its own stain, light and focus.

Layout: in `im_<Class>/im_<Class>/` the slides `<slide>.bmp`, in its `CROPPED/` the single cells `<slide>_<cell>.bmp`; outlines of cytoplasm
and nucleus, one "x,y" per line, in pixels of the slide (`<slide>_cyt01.dat`, `…_nuc01.dat`) and of the cell (`CROPPED/<slide>_01_cyt.dat`,
`…_nuc.dat`). Nucleus, halo, rim and texture tell the kinds apart; the stain varies too much from slide to slide.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from common.data.sample.drawing import Colour, Range, Rng, blur, fill, noise, outline, write_image

HEIGHT, WIDTH, COLUMNS = 264, 368, 4  # cells lie near the places of a grid of two rows
CELLS_ON_SLIDE = (5, 4, 6, 3, 7, 5, 6, 4, 5, 5, 7, 3)  # 60 a class; slides differ in size as in the real set
PINK, ORANGE, CYAN, VIOLET, TEAL = (0.93, 0.58, 0.62), (0.88, 0.50, 0.30), (0.52, 0.80, 0.84), (0.70, 0.58, 0.78), (0.36, 0.66, 0.68)
PALETTE = np.array([PINK, ORANGE, CYAN, VIOLET, TEAL], np.float32)


@dataclass(frozen=True)
class CellKind:
    """How one class looks."""

    radius: Range  # of the cytoplasm, in pixels
    nucleus: Range  # radius of the nucleus relative to the cytoplasm's
    darkness: Range  # of the nucleus
    favourite: Colour  # stain that this kind takes up more often than the others
    roughness: float = 0.05
    halo: float = 0.0  # clearing around the nucleus
    rim: float = 0.0  # darker edge of the cytoplasm
    granules: float = 0.03  # coarse texture of the cytoplasm


KINDS = {
    "Dyskeratotic": CellKind((30, 38), (0.34, 0.50), (0.75, 0.95), ORANGE, roughness=0.2, granules=0.10),
    "Koilocytotic": CellKind((32, 46), (0.22, 0.34), (0.60, 0.85), VIOLET, roughness=0.10, halo=0.8, rim=0.4),
    "Metaplastic": CellKind((30, 44), (0.26, 0.38), (0.60, 0.85), TEAL, rim=0.6, granules=0.2),
    "Parabasal": CellKind((29, 38), (0.44, 0.60), (0.45, 0.80), CYAN),
    "Superficial-Intermediate": CellKind((44, 60), (0.10, 0.16), (0.80, 0.95), PINK, roughness=0.12),
}


def draw_sipakmed(folder: Path, seed: int) -> None:
    """Writes the whole data set under `folder`."""
    for class_index, (name, look) in enumerate(KINDS.items()):
        inner = folder / f"im_{name}" / f"im_{name}"
        for slide_index, count in enumerate(CELLS_ON_SLIDE):
            rng = np.random.default_rng([seed, class_index, slide_index])
            image, cells = draw_slide(rng, look, count)
            slide = f"{slide_index + 1:03d}"
            write_image(inner / f"{slide}.bmp", image)
            for number, outlines in enumerate(cells, start=1):
                # The bounding box with an uneven margin, as a person would cut it.
                low, high = outlines["cyt"].min(axis=0), outlines["cyt"].max(axis=0)
                margin = (high - low).mean() * rng.uniform(0.0, 0.3, 4)
                left, top = corner = np.maximum(low - margin[:2], 0).astype(int)
                right, bottom = (high + margin[2:]).astype(int) + 1
                write_image(inner / "CROPPED" / f"{slide}_{number:02d}.bmp", image[top:bottom, left:right])
                for part, points in outlines.items():
                    names = f"{slide}_{part}{number:02d}.dat", f"CROPPED/{slide}_{number:02d}_{part}.dat"
                    for name, placed in zip(names, (points, points - corner), strict=True):
                        (inner / name).write_text("".join(f"{x:.0f},{y:.0f}\n" for x, y in placed), encoding="ascii")


def draw_slide(rng: Rng, look: CellKind, count: int) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """One field of view (264, 368, 3) with `count` cells of one kind, and each cell's outlines."""
    # The favourite stain is only a hint: two slides in three take any stain of the palette, and each mixes in a second one.
    first = np.float32(look.favourite) if rng.random() < 0.35 else rng.choice(PALETTE)
    stain = first + np.float32(rng.uniform(0, 0.45)) * (rng.choice(PALETTE) - first)
    image = np.tile(rng.uniform(0.8, 0.97, 3).astype(np.float32), (HEIGHT, WIDTH, 1))
    cells = []
    for place in rng.choice(2 * COLUMNS, count, replace=False):
        centre = (rng.uniform(0.4, 0.6, 2) + (place % COLUMNS, place // COLUMNS)) * (WIDTH / COLUMNS, HEIGHT / 2)
        cells.append(draw_cell(rng, image, look, centre, stain + rng.normal(0, 0.03, 3).astype(np.float32)))
    image = blur(image, rng.uniform(0.3, 1.2)) ** rng.uniform(0.8, 1.3) * rng.uniform(0.75, 1.06, 3).astype(np.float32)
    return image + 0.012 * rng.standard_normal(image.shape, np.float32), cells


def draw_cell(rng: Rng, image: np.ndarray, look: CellKind, centre: np.ndarray, stain: np.ndarray) -> dict[str, np.ndarray]:
    """Draws one cell into the slide, in place, darker where it overlaps others; the outlines of its cytoplasm and nucleus."""
    radius, last = rng.uniform(*look.radius), np.array([WIDTH - 1, HEIGHT - 1])
    cytoplasm = np.clip(np.round(outline(rng, look.roughness, rng.uniform(1, 1.4)) * radius + centre), 0, last)
    inner_radius = rng.uniform(*look.nucleus) * radius
    inner = centre + rng.uniform(-0.4, 0.4, 2) * (0.85 * radius - inner_radius)
    nucleus = np.clip(np.round(outline(rng, 0.05, rng.uniform(1, 1.3)) * inner_radius + inner), 0, last)

    corner = cytoplasm.min(axis=0).astype(int)
    width, height = cytoplasm.max(axis=0).astype(int) + 1 - corner
    view = image[corner[1] : corner[1] + height, corner[0] : corner[0] + width]
    body = fill(cytoplasm - corner, height, width)
    depth = cv2.distanceTransform(np.pad(body, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1] / radius
    opacity = rng.uniform(0.5, 0.9) + look.granules * noise(rng, height, width, 3.5) + look.rim * 0.5 * np.exp(-depth / 0.12)
    clearing = fill(outline(rng, 0.15) * inner_radius * rng.uniform(1.7, 2.2) + inner - corner, height, width, 2)
    opacity *= 1 - look.halo * clearing * (depth > 0.06)
    view *= 1 - (body * np.clip(opacity, 0, 1))[..., None] * (1 - stain)
    chromatin = rng.uniform(*look.darkness) * (1 + 0.1 * noise(rng, height, width, 4))
    view *= 1 - (fill(nucleus - corner, height, width) * np.clip(chromatin, 0, 1))[..., None] * np.array([0.8, 0.85, 0.65], np.float32)
    return {"cyt": cytoplasm, "nuc": nucleus}
