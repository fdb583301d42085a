"""What a finished run makes of an image: diagnosis, indicators and their masks (`predict`), and every encoder's maps (`explain`)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.special import expit

from common.errors import UsageError
from common.explanation.options import ExplainOptions
from common.explanation.sheet import explain_command as explain_diagnosis
from common.report.plots import save
from common.report.predict import decoded, image_files, load_model
from common.report.predict import predict_command as predict_diagnosis
from common.runs.files import atomic
from common.runs.reading import RunFolder
from melanoma import figures, paper
from melanoma.experiments.base import CLASSES
from melanoma.experiments.predict import DrawOptions
from melanoma.training.heatmaps import by_stage, target_weights, twelve_maker
from melanoma.training.pipeline import NETWORKS, SHARED
from melanoma.training.scores import enlarge

log = logging.getLogger(__name__)
CHUNK = 64
CUT = 0.5  # of a mask


@dataclass(frozen=True)
class Drawn:
    """Of a batch: each indicator's probability `(n,)` or None, its mask `(n, size, size)` in 0..1, and its Grad-CAM where there is one."""

    probabilities: dict[str, np.ndarray | None]
    masks: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]


class Drawer:
    """What a finished run has kept: the diagnosis, raw images -> probabilities of the classes, indicator heads and U-Nets.

    Raises:
        UsageError: the run has none: it is f_Res, a pre-training, or of before they were kept.
    """

    def __init__(self, run: Path) -> None:
        folder = RunFolder.existing(run)
        self.config, metrics = folder.read_json("config.json"), folder.read_json("metrics.json")
        if not (folder.path / NETWORKS).is_dir():
            raise UsageError(f"{run}: has no U-Nets ({NETWORKS}/ is missing); expected a run with segmentation, such as `melanoma shared`")
        self.settings: dict[str, Any] = self.config["settings"]
        self.diagnosis = load_model(folder)
        self.outputs, self.drawn = metrics["outputs"], metrics["drawn"]
        self.networks = {
            task: {kind: load_model(folder, f"{NETWORKS}/{task}-{kind}.keras") for kind in ("classifier", "snapshot", "unet")}
            for task in self.outputs
            if task != SHARED
        }
        self.shared = load_model(folder, f"{NETWORKS}/{SHARED}.keras") if SHARED in self.outputs else None
        self.makers = {
            (task, kind): twelve_maker(parts[kind], self.settings["backbone"])
            for task, parts in self.networks.items()
            for kind in ("classifier", "snapshot")
        }

    def __call__(self, images: np.ndarray) -> Drawn:
        """images `(n, size, size, 3)` 0..255."""
        found = Drawn({}, {}, {})
        if self.shared is not None:
            said = self.shared.predict(images.astype("float32"), batch_size=32, verbose=0)
            for index, name in enumerate(self.outputs[SHARED][1:]):
                found.probabilities[name] = expit(said["indicators"][:, index].astype("float64"))
            for index, name in enumerate(self.drawn[SHARED]):
                found.probabilities.setdefault(name, None)
                found.masks[name] = said["masks"][..., index].astype("float32")
        for task in self.networks:
            self._encoder(task, images, found)
        return found

    def _encoder(self, task: str, images: np.ndarray, found: Drawn) -> None:
        parts, outputs, target = self.networks[task], self.outputs[task], self.settings.get("target", "auto")
        logits = parts["classifier"].predict(images.astype("float32"), batch_size=32, verbose=0)
        twelve = self.makers[task, "snapshot"](images, *target_weights(outputs, self.drawn[task], target))
        masks = parts["unet"].predict([stage.astype("float32") for stage in by_stage(twelve)], batch_size=8, verbose=0)
        for index, name in enumerate(self.drawn[task]):
            own = [name] if name in outputs else []
            found.probabilities[name] = expit(logits[:, outputs.index(name)].astype("float64")) if own else None
            found.masks[name] = masks[..., index].astype("float32")
            score = target_weights(outputs, own, target if own else "auto")
            found.maps[name] = enlarge(self.makers[task, "classifier"](images, *score)[-1], images.shape[1])


def predict_command(options: DrawOptions) -> None:
    """`melanoma predict`: the diagnosis as in every study; with --output-dir indicators, masks and a sheet per image."""
    drawer = None if options.output_dir is None else Drawer(options.run)  # a run without U-Nets is said before anything is written
    predict_diagnosis(options)
    if drawer is not None and options.output_dir is not None:
        draw(drawer, image_files(options.images), options.output_dir, options.skip_unreadable)


def draw(drawer: Drawer, files: Sequence[Path], target: Path, skip_unreadable: bool = False) -> None:
    """Write masks, sheets and indicators.csv (image, indicator, probability, share of the picture inside the mask) into `target`."""
    names, rows = dict(zip(files, _stems(files), strict=True)), []
    for start in range(0, len(files), CHUNK):
        size, method = drawer.config["image_size"], drawer.config.get("resize_filter") or "bilinear"
        images, read = decoded(files[start : start + CHUNK], size, method, skip_unreadable)
        if not images:
            continue
        stack = np.stack(images)
        probabilities = drawer.diagnosis.predict(stack.astype("float32"), batch_size=32, verbose=0).astype("float64")
        found = drawer(stack)
        for index, path in enumerate(map(Path, read)):
            _write(target, names[path], stack[index], path.name, probabilities[index], found, index)
            for indicator, known in found.probabilities.items():
                probability = None if known is None else round(float(known[index]), 7)
                share = round(float((found.masks[indicator][index] >= CUT).mean()), 5) if indicator in found.masks else None
                rows.append({"image": path.as_posix(), "indicator": indicator, "probability": probability, "share": share})
    RunFolder(target).write_table("indicators.csv", pd.DataFrame(rows))
    log.info("masks and sheets of %d images: %s", len(names), target)


def _stems(files: Sequence[Path]) -> list[str]:
    """A name for each image's files; a stem that several images share is numbered."""
    names: dict[str, Path] = {}
    for path in files:
        stem, number = path.stem, 2
        while stem in names:
            stem, number = f"{path.stem}_{number}", number + 1
        names[stem] = path
    return list(names)


def _write(target: Path, stem: str, image: np.ndarray, name: str, probabilities: np.ndarray, found: Drawn, index: int) -> None:
    """`<stem>_<indicator>.png`, the mask at the network's size (0 or 255), and `<stem>_sheet.png`."""
    target.mkdir(parents=True, exist_ok=True)
    for indicator, masks in found.masks.items():
        with atomic(target / f"{stem}_{indicator}.png") as temporary:
            Image.fromarray(((masks[index] >= CUT) * 255).astype("uint8")).save(temporary, format="PNG")
    save(sheet_of(image, name, probabilities, found, index), target / f"{stem}_sheet.png", compress_level=1)


def sheet_of(
    image: np.ndarray, name: str, probabilities: np.ndarray, found: Drawn, index: int, label: str = "", synthetic: bool = False
) -> Any:
    """One image's sheet: the image, then each indicator's mask and map with its probability; diagnosis and colour bar."""
    columns = {}
    for indicator, masks in found.masks.items():
        known, maps = found.probabilities[indicator], found.maps.get(indicator)
        columns[indicator] = (None if known is None else float(known[index]), masks[index], None if maps is None else maps[index])
    called = int(probabilities.argmax())
    diagnosis = f"{CLASSES[called]} ({probabilities[called]:.2f})" + (f", in truth {label}" if label else "")
    # Indicators that are predicted but not drawn: the lesion's mask stands for theirs.
    others = [
        f"{paper.TITLES[key]} {value[index]:.2f}" for key, value in found.probabilities.items() if key not in columns and value is not None
    ]
    diagnosis += "".join(f"\n{', '.join(others[start : start + 3])}" for start in range(0, len(others), 3))
    return figures.indicator_sheet(image, name, diagnosis, columns, synthetic=synthetic)


def explain_command(options: ExplainOptions) -> None:
    """`melanoma explain`: the diagnosis as in every study; where a run has U-Nets also a sheet per image of what each encoder draws."""
    explain_diagnosis(options)
    if not (options.run / NETWORKS).is_dir():
        return
    folder = RunFolder.existing(options.run)
    output = options.output or folder.path / "explanations"
    explained = RunFolder(output).read_table("explained.csv", dtype={"image": str, "label": str, "predicted": str}, keep_default_na=False)
    drawer = Drawer(options.run)
    with np.load(output / "maps.npz") as kept:
        images = kept["images"]
    found = drawer(images)
    probabilities = drawer.diagnosis.predict(images.astype("float32"), verbose=0)
    synthetic, paths = bool(drawer.config.get("synthetic")), [Path(name) for name in explained["image"]]
    for index, (path, label, stem) in enumerate(zip(paths, explained["label"], _stems(paths), strict=True)):
        figure = sheet_of(images[index], path.name, probabilities[index], found, index, label, synthetic)
        save(figure, output / f"encoders_{stem}.png")
    log.info("%d sheets of the encoders: %s", len(explained), output)
