"""Skin tone estimated from a picture: the individual typology angle (ITA) of the skin around the lesion (Chardon et al. 1991).

ITA = arctan((L* − 50) / b*) · 180 / π of the CIELAB colour. A photograph's light and white balance move it by tens of degrees, so it is an
estimate that compares pictures of one source, and no measurement of a person's skin.
"""

from __future__ import annotations

import numpy as np

# Lower ends in degrees (Chardon et al. 1991; Del Bino & Bernerd 2013), the lightest first.
TONES = ((55.0, "very light"), (41.0, "light"), (28.0, "intermediate"), (10.0, "tan"), (-30.0, "brown"), (-np.inf, "dark"))
# Black corners of a dermatoscope and glare say nothing about skin.
DARKEST, BRIGHTEST = 20.0, 97.0


def typology_angle(image: np.ndarray, lesion: np.ndarray | None = None) -> float:
    """Median ITA in degrees, −90..90, over the pixels outside the lesion; NaN where fewer than 1 % of the pixels show skin.

    image: (h, w, 3) uint8 sRGB; lesion: (h, w) bool, or None (then the whole picture counts as skin, the lesion included).
    """
    from skimage.color import rgb2lab

    colour = rgb2lab(np.asarray(image, np.uint8))
    skin = (colour[..., 0] > DARKEST) & (colour[..., 0] < BRIGHTEST)
    if lesion is not None:
        if lesion.shape != skin.shape:
            raise ValueError(f"the mask is {lesion.shape}, the image {skin.shape}")
        skin &= ~np.asarray(lesion, bool)
    if skin.mean() < 0.01:
        return float("nan")
    light, yellow = colour[..., 0][skin], colour[..., 2][skin]
    # arctan2 with b* > 0 is the arctangent; bluish pixels would turn the angle around and are taken at b* near 0.
    return float(np.median(np.degrees(np.arctan2(light - 50, np.maximum(yellow, 1e-6)))))


def tone(angle: float) -> str:
    """The class of an angle: very light > 55 ≥ light > 41 ≥ intermediate > 28 ≥ tan > 10 ≥ brown > −30 ≥ dark; "unknown" for NaN."""
    return "unknown" if np.isnan(angle) else next(name for low, name in TONES if angle > low or low == -np.inf)
