"""`validate RUN --data-dir OTHER`: a finished run on an external set, without anything that it has seen before."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from common.commands.validate import ValidateOptions
from common.data.dermoscopy import RENAMED, read_labels, read_lesions
from common.data.fingerprint import file_hashes
from common.data.folders import folders_dataset, group_of
from common.data.images import is_flat
from common.data.near_copies import hashes_of, near_pairs
from common.data.walk import walk
from common.errors import UsageError
from common.explanation.gradcam import split_model
from common.metrics.calibration import apply_temperature, calibration_bins, expected_calibration_error
from common.metrics.classification import classification_metrics
from common.metrics.draws import evaluate
from common.metrics.external import joined_probabilities, two_sample_test
from common.metrics.metric import metric_named
from common.metrics.statistics import percentile_interval
from common.report.markup import interval_text, markdown, number
from common.report.pictures import pictures
from common.report.predict import CALIBRATION, load_model, predict_images, read_calibration
from common.report.samples import some_of_each, write_pictures
from common.runs.outcome import GROUP, predictions_table, probabilities_of, read_predictions
from common.runs.reading import RunFolder, data_dir_of, read_option_table
from common.runs.schema import STUDIES

log = logging.getLogger(__name__)

RESAMPLES = 2000
# Pictures of each side for the comparison of pictures; more only cost time.
COMPARED = 400
SHOWN = 20
UNLABELLED = "(no label)"


def validate_command(options: ValidateOptions) -> Path:
    """Write validation.md, .json, predictions.csv, wrong.csv and pictures.png into the run's validation-<name>/; returns the first.

    Raises:
        UsageError: the external set or the class map is not as expected, no class is common, or nothing is left to validate on.
    """
    folder = RunFolder.existing(options.run)
    table, classes = read_predictions(folder)
    external = read_external(options, str(folder.read_json("config.json").get("study")))
    run_map, external_map = read_class_map(options.classes, classes, external)
    joined = sorted({run_map.get(name, name) for name in classes})
    by_case = {name.lower(): name for name in joined}  # published tables differ in the case of their classes
    own_names = {name: name if name in joined else by_case.get(name.lower(), name) for name in external["label"].unique()}
    external["joined"] = external["label"].map(own_names | external_map)
    unmapped = external[~external["joined"].isin(joined)]["label"].value_counts().to_dict()
    external = external[external["joined"].isin(joined)].reset_index(drop=True)
    if not len(external):
        raise UsageError(f"--data-dir {options.data_dir}: none of its classes is one of the run's ({', '.join(joined)}); see --classes")
    root = data_dir_of(folder, options.run_data_dir)
    external, left_out = without_seen(folder, root, options.data_dir, external)
    if not len(external):
        raise UsageError(f"--data-dir {options.data_dir}: every image, or its group, was seen when the run was trained; nothing is left")
    found = predict_images(folder, [options.data_dir / name for name in external["image"]])
    probabilities, names = joined_probabilities(probabilities_of(found, classes), classes, run_map)
    written = predictions_table(external.assign(label=external["joined"]), probabilities, names)
    metrics = classification_metrics(written["label"], None, probabilities, names, options.seed, groups=written.get(GROUP))
    own, _ = joined_probabilities(probabilities_of(table, classes), classes, run_map)
    own_table = predictions_table(table.assign(label=table["label"].map(lambda name: run_map.get(name, name))), own, names)
    absent = sorted(set(own_table["label"]) - set(written["label"]))  # a mean over other classes would be no drop
    own_table = own_table[~own_table["label"].isin(absent)].reset_index(drop=True)
    rows = []
    for name in ("accuracy", "balanced_accuracy"):
        here, there = (
            evaluate("", {("", None): each}, names, metric_named(name, names), RESAMPLES, options.seed + number)
            for number, each in enumerate((own_table, written))
        )
        (value, draws), (other, other_draws) = ((each.scores["", None], each.draws["", None]) for each in (here, there))
        ends = {"own_interval": percentile_interval(draws), "interval": percentile_interval(other_draws)}
        # Different images, so nothing is paired.
        gap = {"drop": other - value, "drop_interval": percentile_interval(other_draws - draws)}
        rows.append({"metric": name, "own": value, "external": other, **ends, **gap})
    shift = compare_pictures(folder, root, options, table["image"], external["image"])
    calibration = calibration_there(folder, classes, run_map, found, external["joined"], names)
    target = RunFolder(folder.path / f"validation-{options.name or options.data_dir.resolve().name}")
    result = {"classes": names, "n": len(external), "left_out": left_out, "unmapped": unmapped, "rows": rows, "shift": shift}
    result |= {"absent": absent, "own_n": len(own_table)}
    target.write_json("validation.json", {**result, "calibration": calibration, "metrics": metrics})
    target.write_table("predictions.csv", written)
    wrong = written[written["label"] != written["predicted"]].assign(
        confidence=probabilities.max(axis=1)[written["label"] != written["predicted"]]
    )
    wrong = wrong.sort_values("confidence", ascending=False, kind="stable")[["image", "label", "predicted", "confidence"]]
    target.write_table("wrong.csv", wrong)
    sides = {"own": (root, own_table), "external": (options.data_dir, external.assign(label=external["joined"]))}
    chosen = {side: some_of_each(each.assign(group=each.get(GROUP, each["image"]))) for side, (_, each) in sides.items()}
    drawn = {f"{label}, {side}": [sides[side][0] / name for name in chosen[side].get(label, [])] for label in names for side in sides}
    drawn = {name: files for name, files in drawn.items() if files}
    synthetic = bool(folder.read_json("config.json").get("synthetic"))
    write_pictures(target.path / "pictures.png", drawn, "Some pictures of both sets", synthetic=synthetic)
    path = target.write_text("validation.md", _text(folder, options, result, calibration, metrics, wrong))
    log.info(
        "%s: %d images, balanced accuracy %.3f (own test split %.3f)",
        path,
        len(external),
        rows[-1]["external"],
        rows[-1]["own"],
    )
    return path


def read_external(options: ValidateOptions, study: str) -> pd.DataFrame:
    """image (below --data-dir), label (UNLABELLED where it has none) and group of the external set, cut down to --limit.

    study: the run's, whose `data.LOADERS` know sets by name: (data_dir, labels_csv) -> Dataset.
    """
    if options.dataset != "folders":
        known = import_module(f"{study}.data").LOADERS if study in STUDIES else {}
        if options.dataset not in known:
            raise UsageError(f"--dataset {options.dataset}: expected one of {', '.join(['folders', *known])}")
        found = known[options.dataset](options.data_dir, options.labels_csv).manifest
    elif options.labels_csv is None:
        found = folders_dataset(options.data_dir, options.group_pattern).manifest
    else:
        found = _labelled(options)
        if options.group_pattern is not None:
            pattern = re.compile(options.group_pattern)
            found["group"] = [group_of(pattern, name) for name in found["image"]]
    rows = found[["image", "label", "group"]].replace({"label": {"": UNLABELLED}})
    if options.limit is not None and len(rows) > options.limit:
        rows["turn"] = rows.sort_values("image").groupby("label").cumcount()
        rows = rows.sort_values(["turn", "label"])[: options.limit].drop(columns="turn").sort_values("image")
    return rows.reset_index(drop=True)


def _labelled(options: ValidateOptions) -> pd.DataFrame:
    path = options.labels_csv
    assert path is not None
    rows = read_option_table("--labels-csv", path)
    files = set(walk(options.data_dir).images)
    if "label" not in rows:  # a published table may hold more images than the folder, and the folder more than the table
        labels, lesions = read_labels(path, "--labels-csv"), read_lesions(path)
        keys = {name: next((key for key in (stem, stem + RENAMED) if key in labels), stem) for name in files for stem in [Path(name).stem]}
        found = [[name, labels.get(key, ""), lesions.get(key, name)] for name, key in sorted(keys.items())]
        return pd.DataFrame(found, columns=["image", "label", "group"])
    if "image" not in rows:
        raise UsageError(f"--labels-csv {path}: lacks the column image; expected image, label and perhaps group")
    stems = Counter(Path(name).stem for name in files)
    by_stem = {Path(name).stem: name for name in files if stems[Path(name).stem] == 1}  # a name that two images share is nobody's
    found = rows["image"].map(lambda name: name if name in files else by_stem.get(Path(name).stem, ""))
    if (found == "").any():
        missing = rows["image"][found == ""]
        raise UsageError(
            f"--labels-csv {path}: {len(missing)} images are not below {options.data_dir} (or twice): {', '.join(missing[:5])}"
        )
    if found.duplicated().any():
        raise UsageError(f"--labels-csv {path}: {found[found.duplicated()].iloc[0]} stands there twice")
    if (rows["label"] == "").any():
        raise UsageError(f"--labels-csv {path}: {rows['image'][rows['label'] == ''].iloc[0]} has no label")
    return pd.DataFrame({"image": found, "label": rows["label"], "group": rows.get("group", found)})


def read_class_map(path: Path | None, classes: Sequence[str], external: pd.DataFrame) -> tuple[dict[str, str], dict[str, str]]:
    """Class -> joined class of the run and of the external set. UsageError for a map that names classes which neither has."""
    if path is None:
        return {}, {}
    table = read_option_table("--classes", path)
    if not {"set", "class", "joined"} <= set(table.columns):
        raise UsageError(f"--classes {path}: expected the columns set, class and joined, got {', '.join(table.columns)}")
    maps: dict[str, dict[str, str]] = {}
    for side, known in (("run", set(classes)), ("external", set(external["label"]))):
        part = table[table["set"] == side]
        unknown = sorted(set(part["class"]) - known)
        if unknown:
            raise UsageError(f"--classes {path}: the {side} set has no class {unknown[0]}; it has {', '.join(sorted(known))}")
        if part["class"].duplicated().any():
            raise UsageError(f"--classes {path}: {part['class'][part['class'].duplicated()].iloc[0]} of the {side} set stands there twice")
        maps[side] = dict(zip(part["class"], part["joined"], strict=True))
    wrong = sorted(set(table["set"]) - {"run", "external"})
    if wrong:
        raise UsageError(f"--classes {path}: set {wrong[0]}: expected run or external")
    return maps["run"], maps["external"]


def without_seen(folder: RunFolder, root: Path, data_dir: Path, external: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The external images that the run has not seen in training or validation, and how many were left out, by reason.

    Seen is: the same bytes, a near-copy (`common.data.near_copies`), or a group of the same name, which only groups that are no image
    names can have. UsageError where an image of the run is not there any more.
    """
    manifest = folder.read_table("manifest.csv", dtype=str, keep_default_na=False)
    seen = manifest[manifest["split"].isin(["train", "validation"])].drop_duplicates("image")
    ours, theirs = [root / name for name in seen["image"]], [data_dir / name for name in external["image"]]
    known, there = set(file_hashes(root, seen["image"]).values()), file_hashes(data_dir, external["image"])
    identical = external["image"].map(there).isin(known).to_numpy()
    near = np.zeros(len(theirs), bool)
    near[near_pairs(hashes_of(theirs), hashes_of(ours))[:, 0]] = True
    groups = set(seen["group"]) - set(seen["image"])
    shared = external["group"].isin(groups).to_numpy()
    left_out = {"byte-identical": int(identical.sum()), "near-copies": int((near & ~identical).sum())}
    left_out["of a group that the run has seen"] = int((shared & ~near & ~identical).sum())
    return external[~(identical | near | shared)].reset_index(drop=True), left_out


def compare_pictures(folder: RunFolder, root: Path, options: ValidateOptions, own: pd.Series, external: pd.Series) -> dict[str, Any]:
    """Mean brightness and contrast of both sets, the share nearly of one colour, and whether the network's own features tell them apart."""
    rng = np.random.default_rng(options.seed)

    def pixels(place: Path, names: pd.Series) -> np.ndarray:
        chosen = names.iloc[np.sort(rng.permutation(len(names))[:COMPARED])]
        return pictures(folder, [place / name for name in chosen])

    sets = {"own test images": pixels(root, own), "external images": pixels(options.data_dir, external)}
    body, _ = split_model(load_model(folder))
    features = []
    for images in sets.values():
        maps = body.predict(images.astype("float32"), batch_size=32, verbose=0)
        first = maps[0] if isinstance(maps, list | tuple) else maps
        features.append(np.asarray(first, np.float64).mean(axis=(1, 2)))
    found: dict[str, Any] = {
        name: {
            "brightness": float(images.mean()),
            "contrast": float(images.std(axis=(1, 2, 3)).mean()),
            "flat": float(np.mean([is_flat(image) for image in images])),
        }
        for name, images in sets.items()
    }
    if min(len(each) for each in features) >= 4:
        found["told apart"], found["p"] = two_sample_test(features[0], features[1], options.seed)
    keras.backend.clear_session(free_memory=False)
    return found


def calibration_there(
    folder: RunFolder, classes: Sequence[str], run_map: Mapping[str, str], found: pd.DataFrame, labels: pd.Series, names: Sequence[str]
) -> dict[str, float]:
    """Expected calibration error on the external images, as trained and, after `calibrate`, with the run's temperature."""
    plain = probabilities_of(found, classes)
    versions = {"as trained": plain}
    if folder.has(CALIBRATION):
        versions["with the run's temperature"] = apply_temperature(plain, float(read_calibration(folder)["temperature"]))
    errors = {}
    for name, each in versions.items():
        joined, _ = joined_probabilities(each, classes, run_map)
        correct = np.asarray(names, object)[joined.argmax(axis=1)] == labels.to_numpy()
        errors[name] = expected_calibration_error(calibration_bins(correct, joined.max(axis=1)))
    return errors


def _text(
    folder: RunFolder,
    options: ValidateOptions,
    result: Mapping[str, Any],
    calibration: Mapping[str, float],
    metrics: Mapping[str, Any],
    wrong: pd.DataFrame,
) -> str:
    config = folder.read_json("config.json")
    parts = [f"# {config.get('study')} {config.get('experiment')} on {options.name or options.data_dir.resolve().name}"]
    if config.get("synthetic"):
        parts.append("Synthetic data.")
    left = ", ".join(f"{count} {reason}" for reason, count in result["left_out"].items() if count) or "none"
    gone = ", ".join(f"{name} ({count})" for name, count in result["unmapped"].items()) or "none"
    used = f"{result['n']} images in {len(result['classes'])} classes."
    parts.append(f"{used} Left out because the run has seen them: {left}. Without a class: {gone}.")
    if result["absent"]:
        parts.append(
            f"It has no images of {', '.join(result['absent'])}: the run's own are its {result['own_n']} test images of the others."
        )
    rows = [
        [
            row["metric"].replace("_", " "),
            f"{number(row['own'])} {interval_text(row['own_interval'])}",
            f"{number(row['external'])} {interval_text(row['interval'])}",
            f"{number(row['drop'], sign=True)} {interval_text(row['drop_interval'])}",
        ]
        for row in result["rows"]
    ]
    parts.append(markdown(("", "own test split", "external set", "external − own [95 % interval]"), rows))
    lines = [
        [name, number(each["precision"]), number(each["recall"]), number(each["f1"]), each["support"]]
        for name, each in metrics["per_class"].items()
    ]
    parts.append(markdown(("class", "precision", "recall", "F1", "images"), lines))
    parts.append(
        markdown(("probabilities", "expected calibration error there"), [[name, number(value)] for name, value in calibration.items()])
    )
    shift = result["shift"]
    pictures = [
        [name, f"{each['brightness']:.1f}", f"{each['contrast']:.1f}", f"{100 * each['flat']:.1f} %"]
        for name, each in shift.items()
        if isinstance(each, Mapping)
    ]
    heads = ("", "mean grey level", "mean contrast (deviation within an image)", "nearly of one colour")
    parts.append("## Do the pictures differ?\n\n" + markdown(heads, pictures))
    parts.append(
        "![Pictures of both sets](pictures.png)\n\nAt random, each of another group as far as there are groups. Where the external "
        "pictures do not show what their class is named for, the numbers above say nothing of the network."
    )
    if "told apart" in shift:
        parts.append(
            f"A logistic regression on the network's features tells the two sets apart in {shift['told apart']:.1%} of held-out pictures "
            f"(0.5 is guessing; p {shift['p']:.3g})."
        )
    if len(wrong):
        shown = [[row["image"], row["label"], row["predicted"], number(row["confidence"])] for row in wrong[:SHOWN].to_dict("records")]
        parts.append("## Most wrongly sure of\n\n" + markdown(("image", "label", "predicted", "probability"), shown, left=3))
    return "\n\n".join(parts) + "\n"
