"""What every stage reads: Dataset A as aligned arrays, its split, and the settings they belong to."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from common.data.images import cached_images, cached_masks
from common.data.manifest import Dataset, fingerprint
from common.errors import UsageError
from melanoma import data
from melanoma.config import CLASSES, MelanomaOptions, Settings, resolve


@dataclass(frozen=True)
class Inputs:
    """Dataset A, row by row.

    Attributes:
        options, settings: what was asked for and what it means.
        dataset: the manifest has the column `split`.
        present: bool, one column an indicator.
    """

    options: MelanomaOptions
    settings: Settings
    dataset: Dataset
    present: pd.DataFrame

    @property
    def manifest(self) -> pd.DataFrame:
        return self.dataset.manifest

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.dataset)

    @cached_property
    def images(self) -> np.ndarray:
        """`(n, size, size, 3)` uint8 RGB, memory-mapped."""
        s = self.settings
        return cached_images(self.dataset, s.image_size, s.resize_filter, self.options.cache_dir, progress=True)

    @cached_property
    def _masks(self) -> dict[str, np.ndarray]:
        # Asking the cache means looking at every file's size, which is no work for each training step.
        return {}

    def masks(self, indicator: str) -> np.ndarray:
        """`(n, size, size)` uint8 in {0, 1}, memory-mapped."""
        if indicator not in self._masks:
            size, folder = self.settings.image_size, self.options.cache_dir
            self._masks[indicator] = cached_masks(self.dataset, f"mask_{indicator}", size, folder, progress=True)
        return self._masks[indicator]

    @cached_property
    def dataset_b(self) -> tuple[Dataset, dict[str, int]]:
        """Dataset B without Dataset A's images, and the counts of the overlap (`data.unlabelled`)."""
        return data.unlabelled(self.options, self.dataset)

    @cached_property
    def facts_b(self) -> dict[str, Any]:
        """What a run that uses Dataset B records of it: the counts of the overlap and the fingerprint of what is left."""
        dataset, counts = self.dataset_b
        return {**counts, "fingerprint": fingerprint(dataset)}

    @cached_property
    def images_b(self) -> np.ndarray:
        """Dataset B's images, as `images`."""
        s = self.settings
        return cached_images(self.dataset_b[0], s.image_size, s.resize_filter, self.options.cache_dir, progress=True)

    @cached_property
    def melanoma(self) -> np.ndarray:
        """`(n,)` float32: 1 melanoma, 0 other, also 0 where there is no diagnosis (such images are in no training part)."""
        return (self.manifest["label"] == CLASSES[0]).to_numpy(dtype="float32")

    def rows(self, part: str, diagnosed: bool = False) -> np.ndarray:
        """Row numbers of train, validation or test; `diagnosed` leaves out images without a diagnosis."""
        chosen = self.manifest["split"] == part
        if diagnosed:
            chosen &= self.manifest["label"] != ""
        return np.flatnonzero(chosen)

    def localised(self) -> np.ndarray:
        """Row numbers of the test images whose maps are scored (`data.localisation_test`); they need masks, no diagnosis."""
        return np.flatnonzero(data.localisation_test(self.manifest, self.settings.split))

    def name_parts(self) -> tuple[str, ...]:
        s = self.settings
        return (s.dataset, s.backbone, f"{s.image_size}px", s.reading, f"seed{s.seed}")


def load_inputs(options: MelanomaOptions) -> Inputs:
    """Read Dataset A, check it, split it, and settle the settings. UsageError for whatever is wrong with the data."""
    dataset = data.load(options)
    indicators = data.indicators_of(dataset, options.indicators)
    settings = resolve(options, indicators)
    manifest = data.split(dataset.manifest, settings.split, settings.seed).reset_index(drop=True)
    for part in ("train", "validation", "test"):
        labels = set(manifest.loc[manifest["split"] == part, "label"]) - {""}
        if not labels or (part == "train" and len(labels) < len(CLASSES)):
            raise UsageError(
                f"{dataset.name}: the {part} images have {f'one diagnosis only ({labels.pop()})' if labels else 'no diagnosis'}; expected "
                "melanomas and others, named in --labels-csv"
            )
    if "" in set(manifest.loc[manifest["split"] == "train", "label"]):
        raise UsageError(f"{dataset.name}: a training image has no diagnosis; expected a --labels-csv that names all")
    dataset = Dataset(dataset.name, dataset.data_dir, manifest, dataset.synthetic, dataset.official_counts, dataset.left_out)
    return Inputs(options, settings, dataset, data.presence(dataset, options.cache_dir))
