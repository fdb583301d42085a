"""What every stage reads: Dataset A as aligned arrays, its split, and the settings they belong to."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.data.dataset import Dataset
from common.data.fingerprint import contents, fingerprint
from common.data.images import cached_images
from common.data.masks import cached_masks
from common.errors import UsageError
from common.runs.folder import Run
from common.settings import recipe
from melanoma import data
from melanoma.experiments.base import CLASSES, LESION, STUDY, MelanomaSettings


@dataclass(frozen=True)
class Inputs:
    """Dataset A, row by row.

    Attributes:
        settings: of the run; any of this study's classes.
        dataset: the manifest has the column `split`.
        present: bool, one column an indicator, and one a kind of mask.
        indicators: the names to learn.
    """

    settings: Any
    dataset: Dataset
    present: pd.DataFrame
    indicators: tuple[str, ...]

    @property
    def manifest(self) -> pd.DataFrame:
        return self.dataset.manifest

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.dataset)

    @cached_property
    def contents(self) -> dict[str, str]:
        return contents(self.dataset)

    def recipe(self, settings: Any = None, **content: Any) -> dict[str, Any]:
        """What a run records as its settings: the recipe of `settings` (default: the inputs' own) and the seed."""
        settings = settings or self.settings
        own = {"indicators": self.indicators} if "indicators" not in settings.NOT_RECIPE else {}
        facts = {**own, "classes": CLASSES, "synthetic": self.dataset.synthetic}
        return {**recipe(settings, **facts, **content), "seed": settings.seed}

    @cached_property
    def images(self) -> np.ndarray:
        """`(n, size, size, 3)` uint8 RGB, memory-mapped."""
        s = self.settings
        return cached_images(self.dataset, s.image_size, s.resize_filter, s.cache_dir, progress=True)

    @cached_property
    def _masks(self) -> dict[str, np.ndarray]:
        # Asking the cache means looking at every file's size, which is no work for each training step.
        return {}

    def masks(self, indicator: str) -> np.ndarray:
        """`(n, size, size)` uint8 in {0, 1}, memory-mapped where the files are the indicator's own.

        An indicator with labels and without masks has the lesion's where the image has it, and none elsewhere (`stands_in`).
        """
        if indicator not in self._masks:
            s, own = self.settings, LESION if self.stands_in(indicator) else indicator
            found = cached_masks(self.dataset, f"mask_{own}", s.image_size, s.cache_dir, progress=True)
            if own != indicator:
                found = found * self.present[indicator].to_numpy(dtype="uint8")[:, None, None]
            self._masks[indicator] = found
        return self._masks[indicator]

    def stands_in(self, indicator: str) -> bool:
        """Whether the lesion's mask stands for the indicator's, which is not there."""
        return f"mask_{indicator}" not in self.manifest

    @cached_property
    def dataset_b(self) -> tuple[Dataset, dict[str, int]]:
        """Dataset B without Dataset A's images, and the counts of the overlap (`data.unlabelled`)."""
        return data.unlabelled(self.settings, self.dataset)

    @cached_property
    def facts_b(self) -> dict[str, Any]:
        """What a run that uses Dataset B records of it: the counts of the overlap and the fingerprint of what is left."""
        dataset, counts = self.dataset_b
        return {**counts, "fingerprint": fingerprint(dataset)}

    def files(self, with_b: bool) -> dict[str, str]:
        """Every file that decides a run's result, relative to Dataset A's folder, with the hash of its content."""
        if not with_b:
            return self.contents
        dataset, _ = self.dataset_b
        where = os.path.relpath(dataset.data_dir, self.dataset.data_dir)
        return {**self.contents, **{f"{where}/{name}": content for name, content in contents(dataset).items()}}

    @cached_property
    def images_b(self) -> np.ndarray:
        """Dataset B's images, as `images`."""
        s = self.settings
        return cached_images(self.dataset_b[0], s.image_size, s.resize_filter, s.cache_dir, progress=True)

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

    def labels(self, outputs: tuple[str, ...]) -> np.ndarray:
        """`(n, outputs)` float32 in {0, 1}: indicators, or melanoma."""
        columns = [self.melanoma if name == "melanoma" else self.present[name].to_numpy("float32") for name in outputs]
        return np.stack(columns, axis=1)

    def varying(self, names: tuple[str, ...]) -> list[str]:
        """Those of the indicators that some training images have and some have not."""
        train = self.rows("train")
        return [name for name in names if 0 < self.present[name].to_numpy()[train].mean() < 1]

    def localised(self) -> np.ndarray:
        """Row numbers of the test images whose maps are scored (`data.localisation_test`); they need masks, no diagnosis."""
        return np.flatnonzero(data.localisation_test(self.manifest, self.settings.split))

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Table 1: images with and without each indicator, the official validation images not counted; undiagnosed ones are."""
        full = data.load(self.settings, check=False, undiagnosed=True)
        found = data.present(full, self.settings.cache_dir, strict=False)
        counted = ~full.manifest["image"].map(data.is_official_validation).to_numpy(dtype=bool)
        having = {name: found[name].to_numpy()[counted] for name in self.indicators}
        return {name: {"with": int(each.sum()), "without": int((~each).sum())} for name, each in having.items()}

    def split_note(self) -> str:
        s = self.settings
        return data.split_note(self.manifest, s.split, s.folds, s.fold)

    def name_parts(self) -> tuple[str, ...]:
        s = self.settings
        fold = (f"fold{s.fold}of{s.folds}",) if s.folds else ()
        return (s.dataset, s.backbone, f"{s.image_size}px", s.reading, *fold, f"seed{s.seed}")


def open_run(inputs: Inputs, experiment: str, run_dir: Path | None, settings: MelanomaSettings | None = None, **content: Any) -> Run:
    """The run folder of one experiment on Dataset A; arguments as of `Inputs.recipe`."""
    return Run.open(
        STUDY,
        experiment,
        inputs.recipe(settings, **content),
        run_dir=run_dir,
        name_parts=inputs.name_parts(),
        fingerprint=inputs.fingerprint,
        data_dir=inputs.dataset.data_dir,
        # A run that is given its pre-training records that one's Dataset B and may have no folder of it.
        files=inputs.files("dataset_b" in content and inputs.settings.has_dataset_b()),
        log_to=inputs.settings.log,
    )


def load_inputs(settings: MelanomaSettings) -> Inputs:
    """Read Dataset A, check it and split it. UsageError for whatever is wrong with the data."""
    dataset = data.load(settings)
    indicators = data.indicators_of(dataset, settings.indicators)
    s = settings
    manifest = data.split(dataset.manifest, s.split, s.split_seed, s.folds, s.fold).reset_index(drop=True)
    for part in ("train", "validation", "test"):
        labels = set(manifest.loc[manifest["split"] == part, "label"]) - {""}
        if not labels or (part == "train" and len(labels) < len(CLASSES)):
            raise UsageError(
                f"{dataset.name}: the {part} images have {f'one diagnosis only ({labels.pop()})' if labels else 'no diagnosis'}; expected "
                "melanomas and others, named in --labels-csv"
            )
    if "" in set(manifest.loc[manifest["split"] == "train", "label"]):
        raise UsageError(f"{dataset.name}: a training image has no diagnosis; expected a --labels-csv that names all")
    dataset = replace(dataset, manifest=manifest)
    return Inputs(settings, dataset, data.present(dataset, settings.cache_dir), indicators)
