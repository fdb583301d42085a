"""`predict RUN IMAGE|FOLDER…`: a finished run's model on anybody's images, as CSV."""

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.data.images import read_image, resize
from common.data.readable import passed_over
from common.data.walk import walk
from common.errors import UsageError
from common.metrics.classification import minimum_cost_decision
from common.metrics.conformal import ConformalSets
from common.report.decision import cost_matrix, read_costs
from common.runs.files import atomic, cell
from common.runs.outcome import DECIMALS, PREFIX
from common.runs.reading import RunFolder
from common.runs.schema import STUDIES
from common.startup import without_startup_lines

log = logging.getLogger(__name__)

# Decoded images held at a time: 77 MB at 224 px.
CHUNK = 512
CALIBRATION = "calibration.json"


def predict_command(options: Any) -> None:
    """Write one row an image (image, predicted, `prob_<class>`…) to `options.output`, or to stdout.

    options: `run` (folder with model.keras and config.json), `images` (files, or folders searched through), `output`, `skip_unreadable`,
    and optionally `batch_size`. Images get the run's size and resize filter. UsageError for a missing or unreadable image, a folder
    without images, or a model that is not one of this project.
    """
    folder = RunFolder.existing(options.run)
    files = image_files(options.images)
    if options.output is not None and not options.output.parent.is_dir():
        raise UsageError(f"--output {options.output}: the folder {options.output.parent} does not exist")
    costs = None
    if getattr(options, "decision", "argmax") == "minimum-cost":
        classes = folder.read_json("config.json").get("classes") or ()
        costs = cost_matrix(read_costs(options.decision_costs, classes, "--decision-costs"))
    table = members_table(options, folder, files, costs)
    table = table.assign(image=table["image"].map(cell), predicted=table["predicted"].map(cell))
    if options.output is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="surrogateescape")  # names that are not UTF-8 as they are
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
        return
    with atomic(options.output) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", errors="surrogateescape")
    log.info("%d predictions: %s", len(table), options.output)


def members_table(options: Any, folder: RunFolder, files: Sequence[Path], costs: np.ndarray | None) -> pd.DataFrame:
    """The rows of one run, or of all runs of `--with` and all `--views` together; after `calibrate` one run's rows name their set."""
    from common.report.ensemble import VIEWS, check_members, combined

    runs, views = [folder.path, *getattr(options, "with_runs", ())], getattr(options, "views", 1)
    classes = check_members(runs)
    batch = getattr(options, "batch_size", 32)
    if len(runs) == 1 and views == 1:
        return with_sets(folder, predict_images(folder, files, options.skip_unreadable, batch, costs), classes)
    each = [predict_images(run, files, options.skip_unreadable, batch, view=VIEWS[number]) for run in runs for number in range(views)]
    table = combined(each, classes)
    if costs is not None:
        decided = minimum_cost_decision(table[[PREFIX + name for name in classes]].to_numpy(), costs)
        table["predicted"] = np.asarray(classes, dtype=object)[decided]
    return table.round(DECIMALS)


def with_sets(folder: RunFolder, table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The table with `set` (classes joined by " | ") and `unsure` (any other number than one), where the run was calibrated."""
    sets = calibrated_sets(folder, table[[PREFIX + name for name in classes]].to_numpy(), classes)
    if sets is None:
        return table
    names = np.asarray(classes, dtype=object)
    return table.assign(set=[" | ".join(names[row]) for row in sets], unsure=sets.sum(axis=1) != 1)


def calibrated_sets(folder: RunFolder, probabilities: np.ndarray, classes: Sequence[str]) -> np.ndarray | None:
    """Sets `(n, K)` by the run's calibration.json; None where it has none. UsageError when it is of other classes."""
    if not folder.has(CALIBRATION):
        return None
    kept = folder.read_json(CALIBRATION)
    if list(kept.get("classes", ())) != list(classes):
        raise UsageError(f"{folder.path / CALIBRATION}: calibrated for other classes; run `calibrate` again")
    labels = np.asarray(kept["labels"], int)
    fitted = ConformalSets(np.asarray(kept["scores"], np.float64), labels, len(classes), kept["score"], bool(kept["by_class"]))
    return fitted.predict(probabilities, float(kept["coverage"]))


def predict_images(
    run: Any,
    files: Sequence[Path],
    skip_unreadable: bool = False,
    batch_size: int = 32,
    costs: np.ndarray | None = None,
    view: Callable[[np.ndarray], np.ndarray] | None = None,
) -> pd.DataFrame:
    """The table that `predict_command` writes. The first images are decoded before the model is loaded, so bad ones are told at once.

    costs: `(K, K)`, rows the truth: `predicted` is then the class with the least expected cost. view: what each image (h, w, 3) is turned
    into first.
    """
    folder = RunFolder.of(run)
    config = folder.read_json("config.json")
    size, classes = config.get("image_size"), config.get("classes")
    if not size or not classes:
        raise UsageError(f"{folder.path / 'config.json'} names no image_size or no classes: not a classifier's run")
    method = config.get("resize_filter") or "bilinear"
    model, names, rows = None, [], []
    for start in range(0, len(files), CHUNK):
        images, read = decoded(files[start : start + CHUNK], size, method, skip_unreadable)
        images = images if view is None else [view(image) for image in images]
        names += read
        model = model or load_model(folder)
        for first in range(0, len(images), batch_size):
            batch = np.stack(images[first : first + batch_size]).astype(np.float32)
            rows.append(np.asarray(model.predict_on_batch(batch), dtype=np.float64))
    if not names:
        raise UsageError("none of the images could be read")
    probabilities = np.round(np.concatenate(rows), DECIMALS)
    if not np.isfinite(probabilities).all():
        raise UsageError(f"{folder.path / 'model.keras'}: gives probabilities that are no numbers; the model is damaged")
    decided = probabilities.argmax(axis=1) if costs is None else minimum_cost_decision(probabilities, costs)
    table = pd.DataFrame({"image": names, "predicted": np.asarray(classes, dtype=object)[decided]})
    for index, name in enumerate(classes):
        table[PREFIX + name] = probabilities[:, index]
    return table


def load_model(run: Any, name: str = "model.keras") -> Any:
    """A model of a run, without its training state; nothing in the file is run (`common.runs.models`).

    The study's own layers must be known to Keras first, so its `models` room is imported. UsageError when the file is missing, cannot be
    read, does not fit config.json, or the run is of no study of this project.
    """
    folder = RunFolder.of(run)
    config, path = folder.read_json("config.json"), folder.path / name
    study = str(config.get("study"))
    if study not in STUDIES:
        raise UsageError(f"{folder.path / 'config.json'}: study is {study[:60]!r}; expected one of {', '.join(STUDIES)}")
    if not path.is_file():
        raise UsageError(f"{path} is missing: the run did not get that far (start it again to go on)")
    with without_startup_lines():
        for module in ("common.backbones", f"{study}.models"):
            import_module(module)
        from common.runs.models import read_model

    model, size, classes = read_model(path), config.get("image_size"), config.get("classes")
    if name != "model.keras":  # a study's own, of another form than a classifier
        return model
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UsageError(f"{path}: has {len(model.inputs)} inputs and {len(model.outputs)} outputs; expected one of each")
    taken, given = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape)
    if len(taken) != 4 or taken[3] != 3 or (size and not {taken[1], taken[2]} <= {None, size}):
        raise UsageError(f"{path}: takes inputs of shape {taken[1:]}; expected ({size}, {size}, 3), as config.json says")
    if classes and given[1:] != (len(classes),):
        outputs = given[-1] if len(given) == 2 else given[1:]
        raise UsageError(f"{folder.path}: the model has {outputs} outputs, config.json names {len(classes)} classes")
    return model


def image_files(paths: Iterable[Path]) -> list[Path]:
    """Files as given, and in place of a folder all images below it, sorted. UsageError for nothing there."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = walk(path, "predict")
            passed = passed_over(found.reasons(), "passed over: ")
            if not found.images:
                raise UsageError(f"{path} holds no images" + (f"; {passed}" if passed else ""))
            if passed:
                print(f"{path}: {passed}", file=sys.stderr)  # stdout may be the CSV itself
            files += [path / name for name in found.images]
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(f"image not found: {path}")
    return list(dict.fromkeys(files))


def decoded(files: Sequence[Path], size: int, method: str, skip_unreadable: bool) -> tuple[list[np.ndarray], list[str]]:
    """Images `(size, size, 3)` uint8 of those files that can be read, and their paths. UsageError for any other, unless skipped."""
    images, names, bad = [], [], []
    for path in files:
        try:
            images.append(resize(read_image(path), size, method))
            names.append(path.as_posix())
        except UsageError as error:
            if not skip_unreadable:
                raise UsageError(f"{error} (--skip-unreadable goes on without it)") from None
            bad.append(path.as_posix())
    if bad:
        # stdout may be the CSV itself.
        print(f"left out, unreadable: {', '.join(bad)}", file=sys.stderr)
    return images, names
