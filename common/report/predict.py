"""`predict RUN IMAGE|FOLDER…`: a finished run's model on anybody's images, as CSV."""

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.commands.predict import PredictOptions
from common.data.images import read_image, resize
from common.data.readable import passed_over
from common.data.walk import walk
from common.errors import UsageError
from common.metrics.classification import minimum_cost_decision
from common.metrics.conformal import ConformalSets
from common.report.decision import cost_matrix, read_costs
from common.report.pictures import input_of
from common.runs.files import atomic, cell
from common.runs.outcome import DECIMALS, PREFIX, probabilities_of
from common.runs.reading import RunFolder
from common.runs.schema import FIELDS, STUDIES, check_fields
from common.startup import without_startup_lines

log = logging.getLogger(__name__)

# Decoded images held at a time: 77 MB at 224 px.
CHUNK = 512
CALIBRATION = "calibration.json"
# The eight ways to lay a picture on its frame: unchanged, mirrored, upside down, both; then the same of the transposed picture.
VIEWS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda x: x,
    lambda x: x[:, ::-1],
    lambda x: x[::-1],
    lambda x: x[::-1, ::-1],
    lambda x: x.swapaxes(0, 1),
    lambda x: x.swapaxes(0, 1)[:, ::-1],
    lambda x: x.swapaxes(0, 1)[::-1],
    lambda x: x.swapaxes(0, 1)[::-1, ::-1],
)
# Each study's setting of what a pixel's 0..255 becomes inside the model.
SCALING = ("pixels", "preprocessing", "normalise")


def predict_command(options: PredictOptions) -> None:
    """Write one row an image (image, predicted, `prob_<class>`…) to `options.output`, or to stdout.

    Images get the run's size and resize filter. UsageError for a missing or unreadable image, a folder without images, or a model that is
    not one of this project.
    """
    folder = RunFolder.existing(options.run)
    files = image_files(options.images)
    if options.output is not None and not options.output.parent.is_dir():
        raise UsageError(f"--output {options.output}: the folder {options.output.parent} does not exist")
    if options.output is not None and options.output.is_dir():
        raise UsageError(f"--output {options.output}: is a folder; expected a CSV file")
    costs = None
    if options.decision_costs is not None:
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


def members_table(options: PredictOptions, folder: RunFolder, files: Sequence[Path], costs: np.ndarray | None) -> pd.DataFrame:
    """The rows of one run, or of all runs of `--with` and all `--views` together; after `calibrate` one run's rows name their set."""
    runs, skip, batch = [folder.path, *options.with_runs], options.skip_unreadable, options.batch_size
    classes = check_members(runs)
    if len(runs) == 1 and options.views == 1:
        return with_sets(folder, predict_images(folder, files, skip, batch, costs), classes)
    each = [table for run in runs for table in predict_views(run, files, skip, batch, VIEWS[: options.views])]
    return combined(each, classes, costs).round(DECIMALS)


def check_members(runs: Sequence[Path]) -> tuple[str, ...]:
    """The classes of the runs. UsageError unless all have the same ones, in the same order, and scale pixels in the same way."""
    configs = [RunFolder.existing(run).read_json("config.json") for run in runs]
    classes = [tuple(config.get("classes") or ()) for config in configs]
    scaling = [{name: value for name, value in (config.get("settings") or {}).items() if name in SCALING} for config in configs]
    for run, own, scaled in zip(runs[1:], classes[1:], scaling[1:], strict=True):
        if own != classes[0]:
            raise UsageError(f"--with {run}: its classes are {', '.join(own) or 'none'}; expected {', '.join(classes[0])}")
        if scaled != scaling[0]:
            raise UsageError(
                f"--with {run}: scales pixels by {scaled or 'its network'}; expected {scaling[0] or 'its network'} as in {runs[0]}"
            )
    return classes[0]


def decided(probabilities: np.ndarray, costs: np.ndarray | None) -> np.ndarray:
    """`(n,)` class numbers from probabilities `(n, K)`: the largest, or with costs `(K, K)` the one with the least expected cost."""
    return probabilities.argmax(axis=1) if costs is None else minimum_cost_decision(probabilities, costs)


def combined(members: Sequence[pd.DataFrame], classes: Sequence[str], costs: np.ndarray | None = None) -> pd.DataFrame:
    """One table from the members' tables of the same images: mean `prob_<class>`, the class decided by it, and `disagreement`.

    disagreement: share of the members, 0..1, whose own class, decided in the same way (`decided`), is not the one predicted.
    """
    probabilities = np.stack([probabilities_of(table, classes) for table in members])
    mean = probabilities.mean(axis=0)
    called = decided(mean, costs)
    apart = np.mean([decided(each, costs) != called for each in probabilities], axis=0)
    found = pd.DataFrame({"image": members[0]["image"], "predicted": np.asarray(classes, object)[called]})
    for index, name in enumerate(classes):
        found[PREFIX + name] = mean[:, index]
    return found.assign(disagreement=apart)


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
    kept = read_calibration(folder)
    if kept["classes"] != list(classes):
        raise UsageError(f"{folder.path / CALIBRATION}: calibrated for other classes; run `calibrate` again")
    if kept["score"] == "aps" and not kept.get("aps_counts_half"):
        raise UsageError(f"{folder.path / CALIBRATION}: calibrated with the score of an older version; run `calibrate` again")
    labels = np.asarray(kept["labels"], int)
    fitted = ConformalSets(np.asarray(kept["scores"], np.float64), labels, len(classes), kept["score"], bool(kept["by_class"]))
    return fitted.predict(probabilities, float(kept["coverage"]))


def read_calibration(folder: RunFolder) -> dict[str, Any]:
    """What `calibrate` wrote. UsageError where the file lacks a field, or does not hold a label for each score."""
    kept, path = folder.read_json(CALIBRATION), folder.path / CALIBRATION
    fields = FIELDS[CALIBRATION]
    check_fields(path, kept, fields, required=tuple(name for name in fields if name != "aps_counts_half"))
    if len(kept["scores"]) != len(kept["labels"]) or not kept["labels"] or max(kept["labels"]) >= len(kept["classes"]):
        raise UsageError(f"{path}: expected a class number for each score; the file is damaged: run `calibrate` again")
    return kept


def predict_images(
    run: Any, files: Sequence[Path], skip_unreadable: bool = False, batch_size: int = 32, costs: np.ndarray | None = None
) -> pd.DataFrame:
    """The table that `predict_command` writes of one run and the images as they are.

    costs: `(K, K)`, rows the truth: `predicted` is then the class with the least expected cost.
    """
    return predict_views(run, files, skip_unreadable, batch_size, VIEWS[:1], costs)[0]


def predict_views(
    run: Any,
    files: Sequence[Path],
    skip_unreadable: bool = False,
    batch_size: int = 32,
    views: Sequence[Callable[[np.ndarray], np.ndarray]] = VIEWS,
    costs: np.ndarray | None = None,
) -> list[pd.DataFrame]:
    """A table for each view, what every image (h, w, 3) is turned into first. The first images are decoded before the model is loaded, so
    bad ones are told at once."""
    folder = RunFolder.of(run)
    size, method, classes = input_of(folder)
    model, names = None, []
    rows: list[list[np.ndarray]] = [[] for _ in views]
    for start in range(0, len(files), CHUNK):
        images, read = decoded(files[start : start + CHUNK], size, method, skip_unreadable)
        names += read
        model = model or load_model(folder)
        for view, found in zip(views, rows, strict=True):
            for first in range(0, len(images), batch_size):
                batch = np.stack([view(image) for image in images[first : first + batch_size]]).astype(np.float32)
                found.append(np.asarray(model.predict_on_batch(batch), dtype=np.float64))
    if not names:
        raise UsageError("none of the images could be read")
    tables = []
    for found in rows:
        probabilities = np.round(np.concatenate(found), DECIMALS)
        if not np.isfinite(probabilities).all():
            raise UsageError(f"{folder.path / 'model.keras'}: gives probabilities that are no numbers; the model is damaged")
        table = pd.DataFrame({"image": names, "predicted": np.asarray(classes, dtype=object)[decided(probabilities, costs)]})
        tables.append(table.assign(**{PREFIX + name: probabilities[:, index] for index, name in enumerate(classes)}))
    return tables


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
