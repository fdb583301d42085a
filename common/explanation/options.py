"""Options of `python -m <study> explain RUN`; imports nothing heavy, so that help and wrong values answer at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from common.settings import ExistingFolder, Seed, Settings, Within, check_run, require

CAMS = ("gradcam", "gradcam++", "scorecam", "faster-scorecam", "layercam")
METHODS = (*CAMS, "lime", "lime-pros-cons")


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(Settings):
    """Draw why a finished run's model decides as it does: rows the images, columns the methods, with the raw maps as .npz."""

    run: Positional[Path]
    """Run folder that holds model.keras and predictions.csv."""
    images: tuple[Path, ...] = ()
    """Your own images, or folders of them. Default: one correctly classified test image per class and as many misclassified ones."""
    data_dir: ExistingFolder = None
    """Folder of the data set the run was trained on. Default: where it lay then (local.json of the run)."""
    methods: tuple[str, ...] = ("gradcam", "gradcam++", "faster-scorecam", "layercam", "lime", "lime-pros-cons")
    """Columns: gradcam, gradcam++, scorecam, faster-scorecam, layercam, lime (positive only), lime-pros-cons (green for, red against)."""
    layer: tuple[str, ...] = ()
    """Layers whose feature maps are used, each a column of every class-activation map. Default: the last one before pooling; earlier ones
    give finer maps."""
    engine: Literal["own", "tf-keras-vis"] = "own"
    """Who computes the class-activation maps; `tf-keras-vis` is slower and runs on TensorFlow only."""
    output: Path | None = None
    """Folder to write to. Default: explanations/ in the run folder."""
    lime_samples: Annotated[int, Within(10)] = 1000
    """Perturbed images for each LIME explanation."""
    lime_superpixels: Annotated[int, Within(0)] = 0
    """Superpixels of LIME, about (SLIC); 0 lets quickshift decide, as the package does."""
    seed: Seed = 0
    """Seed of the choice of images and of LIME."""
    faithfulness: bool = True
    """Also measure the maps: deletion and insertion curves, and where there are masks how well the maps meet them."""
    faithfulness_images: Annotated[int, Within(0)] = 0
    """Test images to measure, class-balanced; 0: those of the sheet. More images, narrower intervals."""

    sanity: bool = False
    """Also check that the maps depend on what the network learned (its weights made random, layer by layer), how steady and how simple
    they are; about a minute a gradient method on 2 cores with a small network, Score-CAM and LIME many times that."""
    sanity_images: Annotated[int, Within(1, 10_000)] = 20
    """Test images for --sanity, class-balanced; each is explained twelve times."""

    @property
    def layers(self) -> tuple[str | None, ...]:
        """The layers in order; None stands for the last one before pooling."""
        return self.layer or (None,)

    def columns(self, method: str) -> tuple[str, ...]:
        """The names of a method's maps: with the layer where there are several."""
        several = len(self.layer) > 1 and not method.startswith("lime")
        return tuple(f"{method} {name}" for name in self.layer) if several else (method,)

    def check(self) -> None:
        super().check()
        for method in self.methods:
            require(method in METHODS, f"--methods {method}: unknown; expected some of {', '.join(METHODS)}")
        require(len(set(self.layer)) == len(self.layer), f"--layer {' '.join(self.layer)}: one is given twice")
        require(self.lime_superpixels != 1, "--lime-superpixels 1: expected 0 (quickshift) or at least 2")
        require(not (self.sanity and self.engine != "own"), "--sanity: expected --engine own")

    def check_paths(self) -> None:
        super().check_paths()
        check_run(self.run, "model.keras")
        for path in self.images:
            require(path.exists(), f"--images {path}: no such image or folder")
        require(self.output is None or not self.output.is_file(), f"--output {self.output}: is a file; expected a folder")

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if not any(method.startswith("lime") for method in self.methods):
            found |= dict.fromkeys(("lime_samples", "lime_superpixels"), "LIME is none of the --methods")
        if not set(self.methods) & set(CAMS):
            found |= dict.fromkeys(("layer", "engine"), "none of the --methods looks at a feature map")
        if not self.faithfulness:
            found["faithfulness_images"] = "with --no-faithfulness nothing is measured"
        if not self.sanity:
            found["sanity_images"] = "expected --sanity"
        if self.images:
            why = "test images are not looked at beside --images"
            found |= dict.fromkeys(("data_dir", "faithfulness_images", "sanity_images"), why)
        return found
