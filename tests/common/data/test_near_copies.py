"""Near-copies are found, strangers are not, and the blocks give what a plain double loop gives."""

import numpy as np
from PIL import Image

from common.data.near_copies import BITS, MOST_BITS, bound, hashes_of, near_pairs, perceptual_hash


def picture(seed: int, size: int = 96) -> np.ndarray:
    """Smooth random blobs, as photographs are smooth."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))


def bits_between(first: np.ndarray, second: np.ndarray) -> int:
    return sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(first, second, strict=True))


def test_recompressed_and_rescaled_pictures_are_near_and_others_are_not(tmp_path) -> None:
    original = picture(0)
    Image.fromarray(original).save(tmp_path / "a.png")
    Image.fromarray(original).resize((70, 70)).save(tmp_path / "b.jpg", quality=70)
    Image.fromarray(np.clip(original * 0.9 + 10, 0, 255).astype(np.uint8)).save(tmp_path / "c.png")
    Image.fromarray(picture(1)).save(tmp_path / "d.png")
    hashes = hashes_of([tmp_path / name for name in ("a.png", "b.jpg", "c.png", "d.png")])
    assert {tuple(pair[:2]) for pair in near_pairs(hashes).tolist()} == {(0, 1), (0, 2), (1, 2)}


def test_pairs_are_those_of_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, (300, BITS // 64)).astype(np.uint64)
    hashes[290] = hashes[3]
    expected = {(i, j, bits_between(hashes[i], hashes[j])) for i in range(300) for j in range(i + 1, 300)}
    expected = {triple for triple in expected if triple[2] <= 110}
    assert {tuple(row) for row in near_pairs(hashes, most_bits=110).tolist()} == expected and (3, 290, 0) in expected
    other = hashes[::7]
    assert {tuple(row) for row in near_pairs(hashes, other, most_bits=0).tolist()} >= {(7 * i, i, 0) for i in range(len(other))}


def test_pictures_that_are_alike_by_their_kind_are_no_copies() -> None:
    """As fundus photographs: most bits are the disc's, and two strangers differ in fewer bits than copies of other pictures do."""
    rng = np.random.default_rng(1)
    bits = np.tile(rng.random(BITS) < 0.5, (400, 1))
    bits[:, :70] = rng.random((400, 70)) < 0.5
    bits[399] = bits[5]
    bits[399, 0] ^= True
    alike = np.packbits(bits, axis=1).view(np.uint64)
    assert len(near_pairs(alike, most_bits=MOST_BITS)) > 70_000
    assert near_pairs(alike).tolist() == [[5, 399, 1]] and near_pairs(alike[:200], alike[200:]).tolist() == [[5, 199, 1]]
    other = rng.integers(0, 2**63, (400, BITS // 64)).astype(np.uint64)
    assert bound(other, other) == MOST_BITS and bound(alike[:3], alike[:3]) == MOST_BITS
    # Many copies of few pictures, as frames of a film are: every twentieth pair.
    films = np.repeat(other[:20], 20, axis=0)
    assert bound(films, films) == MOST_BITS and len(near_pairs(films)) == 20 * 190


def test_the_hash_is_imagehashs_own() -> None:
    import imagehash

    bits = np.unpackbits(perceptual_hash(picture(2)).view(np.uint8)).astype(bool)
    assert np.array_equal(bits, imagehash.phash(Image.fromarray(picture(2)), hash_size=16).hash.ravel())


def test_no_images_have_no_pairs() -> None:
    assert near_pairs(hashes_of([])).shape == (0, 3)


def test_the_audit_names_near_copies_and_those_across_the_split(tmp_path) -> None:
    import pandas as pd

    from common.data.audit import audit
    from common.data.folders import folders_dataset

    for label, seeds in (("a", range(4)), ("b", range(4, 8))):
        (tmp_path / label).mkdir()
        for seed in seeds:
            Image.fromarray(picture(seed)).save(tmp_path / label / f"{seed}.png")
    Image.fromarray(np.clip(picture(0).astype(int) + 3, 0, 255).astype(np.uint8)).save(tmp_path / "b" / "again.png")
    dataset = folders_dataset(tmp_path)
    split = dataset.manifest.assign(split=["test" if name == "b/again.png" else "train" for name in dataset.manifest["image"]])
    result = audit(dataset, {"paper": pd.DataFrame(split)})
    assert result["near_copies"] == [["a/0.png", "b/again.png"]] and result["splits"]["paper"]["test_images_near_train"] == 1
    assert any("1 pairs of images are nearly the same picture" in line for line in result["findings"])
