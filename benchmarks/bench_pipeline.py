"""Images on disk to batches, beside `keras.utils.image_dataset_from_directory` on the same generated JPEG files."""

from __future__ import annotations

import importlib.util
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.pairs import interleaved, row, skipped
from common.data.dataset import Dataset, class_names
from common.data.folders import folders_dataset
from common.data.images import Filter, cached_images
from common.data.readable import check_readable

CLASSES, IMAGES, SIZE, BATCH = 5, 2000, 110, 32
_PEER = "tensorflow"


def draw_folders(root: Path) -> Dataset:
    """`IMAGES` JPEG files in `CLASSES` folders, 62 to 162 px a side (SIPaKMeD's: most about 100), smooth colours and some grain."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        # Every tenth has the target size, so that it can be compared with the peer without the two ways of resizing.
        width, height = (SIZE, SIZE) if number % 10 == 0 else rng.integers(62, 163, 2).tolist()
        coarse = Image.fromarray(rng.integers(60, 230, (6, 6, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        grain = rng.integers(-8, 9, (height, width, 1))
        Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(folder / f"{number:05d}.jpg", quality=92)
    return folders_dataset(root)


def check_pixels(dataset: Dataset, images: np.ndarray, peer: Any) -> None:
    """Ours equal PIL's (through `keras.utils.load_img`) and TensorFlow's accurate JPEG decoder pixel for pixel; labels equal the peer's.

    The peer itself uses the fast, less accurate decoder and resizes without antialiasing, so its pixels only come close.
    """
    import keras
    import tensorflow as tf

    names = list(dataset.manifest["image"])
    for index in range(0, len(names), 7):
        loaded = keras.utils.load_img(dataset.data_dir / names[index], target_size=(SIZE, SIZE), interpolation="bilinear")
        np.testing.assert_array_equal(images[index], np.asarray(loaded), err_msg=names[index])
    labels = dataset.manifest["label"].map({label: index for index, label in enumerate(class_names(dataset.manifest))})
    order = {str(Path(path).relative_to(dataset.data_dir).as_posix()): place for place, path in enumerate(peer.file_paths)}
    places = [order[name] for name in names]
    # Row by row, unshuffled: the peer's order is its list of files.
    theirs = np.concatenate([np.asarray(batch) for batch, _ in peer])[places]
    their_labels = np.concatenate([np.asarray(label) for _, label in peer])[places]
    np.testing.assert_array_equal(their_labels, labels)
    whole = [index for index, name in enumerate(names) if int(Path(name).stem) % 10 == 0]
    for index in whole:
        data = tf.io.read_file(str(dataset.data_dir / names[index]))
        np.testing.assert_array_equal(images[index], tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE"), err_msg=names[index])
    difference = np.abs(theirs[whole] - images[whole].astype(np.float32))
    if difference.mean() > 2:
        raise AssertionError(f"unresized pixels differ from the peer's by {difference.mean():.2f} levels on average")


def main() -> list[dict[str, Any]]:
    """From the second epoch on at least 15 times the peer; a first epoch, cache and all, not slower; the cache a quarter of float32.

    Like for like: the peer yields tensors, so our batches are copied to tensors too. The first epoch is a study's first run: every image is
    looked at, so that one that cannot be read is told before training (`check_readable`, which fills the cache on its way), then one pass
    over the batches. Later runs pay for neither.
    Our bilinear resizing is Pillow's, with antialiasing; the peer's is without, which is less work.
    """
    if importlib.util.find_spec(_PEER) is None:
        return [skipped("batches against image_dataset_from_directory", _PEER)]
    import keras

    from common.data.pipeline import Batches

    with tempfile.TemporaryDirectory() as folder:
        root, fresh = Path(folder) / "data", (Path(folder) / f"cache{number}" for number in itertools.count())
        dataset = draw_folders(root)
        labels = dataset.manifest["label"].map({label: index for index, label in enumerate(class_names(dataset.manifest))}).to_numpy()

        def ours(filter: Filter, cache: Path) -> Batches:
            return Batches(cached_images(dataset, SIZE, filter, cache), labels, batch_size=BATCH, shuffle=True)

        def peer(filter: Filter, shuffle: bool = True) -> Any:
            settings = {"image_size": (SIZE, SIZE), "batch_size": BATCH, "shuffle": shuffle, "seed": 0, "interpolation": filter}
            return keras.utils.image_dataset_from_directory(root, verbose=False, **settings)

        def epoch(batches: Batches, finish: Callable[[Any], Any] = len) -> None:
            for index in range(len(batches)):
                finish(batches[index])
            batches.epoch += 1

        def to_tensors(batch: Any) -> Any:
            return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)

        def peer_epoch(data: Any) -> None:
            for _ in data:
                pass

        def first_epoch(filter: Filter, cache: Path) -> None:
            check_readable(dataset, cache_dir=cache, pixels=(SIZE, filter))
            epoch(ours(filter, cache), to_tensors)

        kept, data = ours("bilinear", next(fresh)), peer("bilinear")
        check_pixels(dataset, kept.images, peer("bilinear", shuffle=False))
        later = interleaved(lambda: epoch(kept), lambda: peer_epoch(data), pairs=9)
        tensors = interleaved(lambda: epoch(kept, to_tensors), lambda: peer_epoch(data), pairs=7)
        filters: tuple[Filter, ...] = ("nearest", "bilinear")
        first = {
            filter: interleaved(lambda f=filter: first_epoch(f, next(fresh)), lambda f=filter: peer_epoch(peer(f)), pairs=7)
            for filter in filters
        }
        size = next((Path(folder) / "cache0" / "images").glob("*.npy")).stat().st_size
    antialiased = {"nearest": "", "bilinear": " (antialiased, the peer's is not)"}
    speeds = f"{IMAGES / tensors.ours:,.0f} against {IMAGES / tensors.peer:,.0f} images/s; without the copy {later.ratio:.3g} x"
    return [
        row("second epoch on, to tensors, against image_dataset_from_directory", tensors.ratio, 15, detail=speeds),
        *(
            row(
                f"first epoch with check and cache, {name}{antialiased[name]}",
                times.ratio,
                1,
                detail=f"{times.ours:.2f} against {times.peer:.2f} s, {IMAGES} images",
            )
            for name, times in first.items()
        ),
        row("cache against float32", size / (4 * IMAGES * SIZE * SIZE * 3), 0.2501, at_most=True, detail=f"{size / 2**20:.0f} MiB"),
    ]


if __name__ == "__main__":
    main()
