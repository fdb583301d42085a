"""Pictures that are nearly the same: perceptual hashes (`imagehash`) and the pairs of images that differ in few of their bits.

A hash of 256 bits is the sign of the lowest 16 x 16 frequencies of the reduced grey picture (pHash), so rescaling, recompression and small
changes of brightness leave most bits alone; crops, zooms and turns do not. On the 10,015 images of HAM10000 (3207 pairs of one lesion) the
bound of 45 bits finds 157 pairs, 144 of them of one lesion by its metadata; 60 bits find 31 more among 236 strangers. Hashes of 64 bits do
not tell lesions apart (at most 4 bits: 432 pairs, 110 of one lesion). Pictures that are alike by their kind have a lower bound of their
own: two fundus photographs of ODIR-5K differ in 104 ± 17 bits, two images of HAM10000 in 126 ± 9, so 45 bits call 18,058 pairs of strangers
copies there.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from common.data.pixels import read_image

BITS, MOST_BITS = 256, 45
# How many deviations nearer than two pictures at random a pair must be, and from how many pairs on that is known.
DEVIATIONS, ENOUGH, DRAWN = 6, 1000, 20_000
BLOCK = 256


def perceptual_hash(image: np.ndarray) -> np.ndarray:
    """`(4,)` uint64, 256 bits, of an image (h, w, 3) uint8."""
    import imagehash
    from PIL import Image

    return np.packbits(imagehash.phash(Image.fromarray(image), hash_size=16).hash.ravel()).view(np.uint64)


def hashes_of(paths: Sequence[Path], workers: int = 2) -> np.ndarray:
    """`(n, 4)` uint64: the hash of each image file, in order. UsageError for one that cannot be read."""
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda path: perceptual_hash(read_image(path)), paths))
    return np.array(found, dtype=np.uint64).reshape(len(paths), BITS // 64)


def bound(first: np.ndarray, second: np.ndarray) -> int:
    """Bits in which near-copies differ at most: `MOST_BITS`, less where the pictures of these hashes are alike by their kind.

    Six deviations below the median of pairs drawn at random, the deviation from the median distance to it, so that copies among the pairs
    do not matter; with fewer than `ENOUGH` pairs that says nothing, and `MOST_BITS` stays.
    """
    if len(first) * len(second) < ENOUGH:
        return MOST_BITS
    rng = np.random.default_rng(0)
    drawn = first[rng.integers(0, len(first), DRAWN)] ^ second[rng.integers(0, len(second), DRAWN)]
    bits = np.bitwise_count(drawn).sum(axis=1)
    middle = np.median(bits)
    deviation = 1.4826 * np.median(np.abs(bits - middle))  # of a normal distribution
    return int(np.clip(middle - DEVIATIONS * deviation, 0, MOST_BITS))


def near_pairs(first: np.ndarray, second: np.ndarray | None = None, most_bits: int | None = None) -> np.ndarray:
    """`(m, 3)` int: row in `first`, row in `second` and differing bits of every pair that differs in at most `most_bits`.

    first, second: `(n, 4)` hashes; without `second` the rows of `first` are paired with each other, each pair once. most_bits: None for
    the `bound` of these pictures.
    """
    other = first if second is None else second
    most_bits = bound(first, other) if most_bits is None else most_bits
    found = [np.zeros((0, 3), int)]
    for start in range(0, len(first), BLOCK):
        block = first[start : start + BLOCK]
        bits = np.zeros((len(block), len(other)), np.uint16)
        for word in range(block.shape[1]):
            bits += np.bitwise_count(block[:, None, word] ^ other[None, :, word])
        rows, columns = np.nonzero(bits <= most_bits)
        pairs = np.stack([rows + start, columns, bits[rows, columns].astype(int)], axis=1)
        found.append(pairs[pairs[:, 1] > pairs[:, 0]] if second is None else pairs)
    return np.concatenate(found)
