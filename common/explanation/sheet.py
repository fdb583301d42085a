"""`explain RUN`: the papers' sheet of explanations for a finished run, the raw maps, and how faithful the maps are."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.data.folders import as_text
from common.errors import UsageError
from common.explanation import faithfulness, lime, sanity
from common.explanation.cams import cam, gradient_maps, upsample
from common.explanation.drawing import SheetRow, faithfulness_curves, sheet
from common.explanation.graph import describe_map, map_facts
from common.explanation.options import CAMS, ExplainOptions
from common.explanation.prepared import check_images, class_weights, probabilities
from common.explanation.provenance import provenance, sentence
from common.metrics.overlap import trivial_maps
from common.report.pictures import input_of, masks, pictures
from common.report.plots import save
from common.report.predict import image_files, load_model
from common.runs.files import atomic
from common.runs.outcome import read_predictions
from common.runs.reading import RunFolder, run_files

log = logging.getLogger(__name__)

# Classes whose example is drawn; a data set of thousands of classes would make no sheet.
MOST_ROWS = 12
MOST_IMAGES = 40
MOST_MASKS = 200  # of training images, for their mean


@dataclass(frozen=True)
class Chosen:
    """Images of a sheet: file, size-of-the-model pixels (h, w, 3) uint8, true class ("" if unknown), mask or None."""

    names: list[str]
    images: np.ndarray
    labels: list[str]
    masks: list[np.ndarray | None]


def choose(table: pd.DataFrame, classes: Sequence[str], seed: int) -> pd.DataFrame:
    """One correctly classified image for each class, then as many misclassified ones, from a predictions table.

    Drawn with `seed` from the images sorted by name, so neither the table's order nor the machine matters. Misclassified images
    come from different true classes as far as there are any. Fewer rows when a class has no correct image or errors are few.
    """
    table = table.sort_values("image", kind="stable")
    rng = np.random.default_rng(seed)
    right = table[table["label"] == table["predicted"]]
    wrong = table[table["label"] != table["predicted"]]
    correct = [right.index[right["label"] == name] for name in classes]
    picked = [int(rng.choice(rows)) for rows in correct if len(rows)][:MOST_ROWS]
    by_class = {name: list(rng.permutation(rows)) for name in classes if len(rows := wrong.index[wrong["label"] == name].to_numpy())}
    errors: list[int] = []
    while len(errors) < min(len(classes), MOST_ROWS) and by_class:
        for name in list(by_class):
            errors.append(int(by_class[name].pop()))
            if not by_class[name]:
                del by_class[name]
    return table.loc[[*picked, *errors[: min(len(classes), MOST_ROWS)]]].reset_index(drop=True)


def balanced(table: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`count` test images (all, if there are fewer), from every true class in turn, drawn with `seed` from the images by name."""
    table = table.sort_values("image", kind="stable")
    rng = np.random.default_rng(seed)
    queues = [list(rng.permutation(part.index)) for _, part in table.groupby("label", sort=True)]
    picked: list[int] = []
    while len(picked) < min(count, len(table)):
        picked += [queue.pop() for queue in queues if queue]
    return table.loc[picked[:count]].reset_index(drop=True)


def _from_run(folder: RunFolder, options: ExplainOptions, count: int = 0) -> Chosen:
    table, classes = read_predictions(folder)
    rows = balanced(table, count, options.seed) if count else choose(table, classes, options.seed)
    if not len(rows):
        raise UsageError(f"{folder.path / 'predictions.csv'} holds no image with a label of the run's classes")
    names = list(rows["image"])
    images = pictures(folder, run_files(folder, options.data_dir, names))
    return Chosen(names, images, list(rows["label"]), masks(folder, options.data_dir, names, images.shape[1]))


def _from_files(folder: RunFolder, options: ExplainOptions) -> Chosen:
    files = image_files(options.images)
    if len(files) > MOST_IMAGES:
        raise UsageError(f"--images: {len(files)} images, and a sheet holds at most {MOST_IMAGES}: explain them in parts")
    return Chosen([path.name for path in files], pictures(folder, files), [""] * len(files), [None] * len(files))


def all_maps(
    model, images: np.ndarray, classes: Sequence[int], options: ExplainOptions
) -> tuple[dict[str, np.ndarray], list[lime.LimeExplanation]]:
    """Maps (n, H, W) in 0..1 for each method asked for, and LIME's explanations where it is among them.

    The gradient methods share one forward and one backward pass. `lime` and `lime-pros-cons` share one explanation an image.
    """
    maps: dict[str, np.ndarray] = {}
    images = check_images(model, images)
    by_gradient = [m for m in options.methods if m in ("gradcam", "gradcam++", "layercam")]
    if by_gradient and options.engine == "own":
        weights = class_weights(model, classes, len(images))
        for method, each in zip(by_gradient, gradient_maps(model, images, weights, list(options.layers), by_gradient), strict=True):
            maps |= {name: upsample(found, *images.shape[1:3]) for name, found in zip(options.columns(method), each, strict=True)}
    for method in options.methods:
        for name, layer in zip(options.columns(method), options.layers, strict=False):
            if method in CAMS and name not in maps:
                log.info("%s of %d images", name, len(images))
                maps[name] = cam(method, model, images, classes, layer, engine=options.engine)
    explanations = []
    if "lime" in options.methods or "lime-pros-cons" in options.methods:
        log.info("LIME of %d images, %d samples each", len(images), options.lime_samples)
        explanations = lime_explanations(model, images, classes, options)
        maps["lime"] = np.stack([lime.weight_map(e) for e in explanations])
    return maps, explanations


def lime_explanations(model, images: np.ndarray, classes: Sequence[int], options: ExplainOptions) -> list[lime.LimeExplanation]:
    """LIME of each image (n, H, W, 3) for its class number, with the options' samples, superpixels and seed."""
    return [
        lime.explain(model, image, int(number), samples=options.lime_samples, count=options.lime_superpixels, seed=options.seed)
        for image, number in zip(images, classes, strict=True)
    ]


def lime_maps(model, images: np.ndarray, classes: Sequence[int], options: ExplainOptions) -> np.ndarray:
    """LIME's positive weights as maps (n, H, W) in 0..1."""
    return np.stack([lime.weight_map(e) for e in lime_explanations(model, images, classes, options)])


def explain_command(options: ExplainOptions) -> None:
    """Write sheet.png, maps.npz, explained.csv and, with `options.faithfulness`, faithfulness.{csv,md,png} to `explanations/`.

    Raises `UsageError` for a folder that is no finished run, images that are gone, a layer the model has not, and a model
    without convolutions.
    """
    folder = RunFolder.existing(options.run)
    config = folder.read_json("config.json")
    _, _, classes = input_of(folder)
    chosen = _from_files(folder, options) if options.images else _from_run(folder, options)
    model = load_model(folder)
    predicted = probabilities(model, check_images(model, chosen.images))
    numbers = predicted.argmax(axis=1)
    maps, explanations = all_maps(model, chosen.images, numbers, options)

    output = RunFolder(options.output or folder.path / "explanations")
    explained = pd.DataFrame(
        {
            "image": chosen.names,
            "label": chosen.labels,
            "predicted": [classes[i] for i in numbers],
            "probability": predicted.max(axis=1).round(7),
        }
    )
    facts = provenance(folder, config, model, options.layers[0], options.engine, any(name in CAMS for name in options.methods))
    if explanations:
        explained["lime_fit"] = [round(e.fit, 4) for e in explanations]
    output.write_table("explained.csv", explained.assign(**facts))
    _write_maps(output.path / "maps.npz", maps, explanations, chosen, numbers)
    synthetic = bool(config.get("synthetic"))
    columns = [name for method in options.methods for name in options.columns(method)]
    rows = _rows(chosen, explained, maps, explanations, columns)
    title = f"{config.get('study', '')} {config.get('backbone') or ''}, {_where(model, options)}".strip()
    save(sheet(rows, title=title, synthetic=synthetic), output.path / "sheet.png")
    log.info("%d images, %d methods: %s", len(rows), len(options.methods), output.path / "sheet.png")
    if options.faithfulness and options.faithfulness_images:
        chosen = _from_run(folder, options, count=options.faithfulness_images)
        numbers = probabilities(model, check_images(model, chosen.images)).argmax(axis=1)
        maps, _ = all_maps(model, chosen.images, numbers, options)
    if options.faithfulness:
        notes = [sentence(facts), _how_chosen(options, len(chosen.names))]
        if len(options.layer) > 1:
            notes.append(f"Maps of several layers: {', '.join(options.layer)}; the random map is as coarse as those of the first.")
        _write_faithfulness(output, model, chosen, maps, numbers, options, notes, synthetic, _trivial(folder, options, chosen))
    if options.sanity:
        chosen = chosen if options.images else _from_run(folder, options, count=options.sanity_images)
        _write_sanity(output, model, chosen, options, sentence(facts), synthetic)


def _write_sanity(output: RunFolder, model, chosen: Chosen, options: ExplainOptions, note: str, synthetic: bool) -> None:
    """sanity.{csv,md,png} and sanity_cascade.csv: do the maps depend on the weights, are they steady, are they simple?"""
    images = check_images(model, chosen.images)
    numbers = probabilities(model, images).argmax(axis=1)
    methods: dict[str, sanity.Explain] = {
        name: partial(cam, method, layer=layer)
        for method in options.methods
        if method in CAMS
        for name, layer in zip(options.columns(method), options.layers, strict=True)
    }
    if any(method.startswith("lime") for method in options.methods):
        methods["lime"] = partial(lime_maps, options=options)
    log.info("sanity checks of %s on %d images", ", ".join(methods), len(images))
    table = sanity.check(model, images, numbers, methods, options.seed)
    cascade = table.attrs["cascade"]
    output.write_table("sanity.csv", faithfulness.summary(table, options.seed, sanity.MEASURES))
    output.write_table("sanity_cascade.csv", cascade.assign(image=[chosen.names[i] for i in cascade["image"]]))
    output.write_text("sanity.md", sanity.text(table, note, synthetic))
    save(sanity.cascade_figure(cascade, f"Mean of {len(images)} images", synthetic=synthetic), output.path / "sanity.png")


def _where(model, options: ExplainOptions) -> str:
    """Which feature map the methods look at, and who computed them; LIME alone looks at none."""
    if not any(name in CAMS for name in options.methods):
        return "LIME"
    layers = " and ".join(describe_map(model, layer) for layer in options.layers)
    return f"maps of {layers}" + (", computed by tf-keras-vis" if options.engine != "own" else "")


def _rows(chosen: Chosen, explained: pd.DataFrame, maps, explanations, methods: Sequence[str]) -> list[SheetRow]:
    rows = []
    for index, row in explained.iterrows():
        columns = {}
        for name in methods:
            if name == "lime":
                columns[name] = lime.positive_view(explanations[index])
            elif name == "lime-pros-cons":
                columns[name] = lime.pros_and_cons_view(explanations[index])
            else:
                columns[name] = maps[name][index]
        rows.append(
            SheetRow(chosen.images[index], as_text(Path(row["image"]).name), row["label"], row["predicted"], row["probability"], columns)
        )
    return rows


def _write_maps(path: Path, maps: Mapping[str, np.ndarray], explanations, chosen: Chosen, numbers: np.ndarray) -> None:
    """One array a method, (n, H, W) float32 in 0..1, beside `images`, `names`, `explained_class` and LIME's own weights."""
    arrays: dict[str, Any] = {name: array.astype("float32") for name, array in maps.items()}
    arrays |= {"images": chosen.images, "names": np.array(chosen.names), "explained_class": numbers}
    if explanations:
        arrays["lime_segments"] = np.stack([e.segments for e in explanations]).astype("int32")
        # Signed, so that the evidence against the class is kept as well.
        arrays["lime_weights"] = np.stack([e.weights[e.segments] for e in explanations]).astype("float32")
    with atomic(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def _how_chosen(options: ExplainOptions, count: int) -> str:
    if options.images:
        return f"Images: the {count} given with --images."
    if options.faithfulness_images:
        return (
            f"Images: {count} test images, drawn with seed {options.seed} from every true class in turn, whatever the model makes of them."
        )
    return (
        f"Images: the {count} of the sheet, drawn with seed {options.seed}: of each class one that the model gets right, and as many "
        "that it gets wrong. Errors are far more frequent here than in the test set; `--faithfulness-images N` measures a "
        "class-balanced draw instead."
    )


def _random_grid(model, options: ExplainOptions) -> tuple[int, int]:
    """Size of the feature map behind the methods' maps, for the random map to be as coarse; LIME alone has none."""
    if any(name in CAMS for name in options.methods):
        _, height, width = map_facts(model, options.layers[0])
        if height and width:
            return height, width
    return faithfulness.RANDOM_GRID


def _by_label(chosen: Chosen) -> dict[str, list[str]]:
    """True class -> its images, where at least two classes are known."""
    labels = sorted({label for label in chosen.labels if label})
    pairs = list(zip(chosen.names, chosen.labels, strict=True))
    return {label: [name for name, own in pairs if own == label] for label in labels} if len(labels) > 1 else {}


def _trivial(folder: RunFolder, options: ExplainOptions, chosen: Chosen) -> dict[str, np.ndarray]:
    """Maps (H, W) that look at no image, where the images have masks; the mean training mask is that of at most `MOST_MASKS` images."""
    if all(mask is None for mask in chosen.masks):
        return {}
    side, manifest = chosen.images.shape[1], folder.read_table("manifest.csv", dtype=str, keep_default_na=False)
    train = sorted(set(manifest["image"][manifest["split"] == "train"])) if "split" in manifest else []
    spread = train[:: max(1, -(-len(train) // MOST_MASKS))]
    known = [mask for mask in masks(folder, options.data_dir, spread, side) if mask is not None]
    return trivial_maps((side, side), np.mean(known, axis=0) if known else None)


def _write_faithfulness(
    output: RunFolder, model, chosen: Chosen, maps, numbers, options: ExplainOptions, notes: list[str], synthetic: bool, trivial
) -> None:
    grid, seed = _random_grid(model, options), options.seed
    table, curves = faithfulness.measure(
        model, chosen.images, maps, numbers, masks=chosen.masks, names=chosen.names, seed=seed, grid=grid, trivial=trivial
    )
    summary = faithfulness.summary(table, seed=seed)
    output.write_table("faithfulness_per_image.csv", table)
    output.write_table("faithfulness.csv", summary)
    notes = [
        *(["Synthetic data."] if synthetic else []),
        *notes,
        "Means over the images with 95 % bootstrap intervals; the explained class is the predicted one. `random` is a map of smooth "
        f"noise, {grid[0]} x {grid[1]} values enlarged. `method - random` is the difference on the same images with the interval of a "
        "paired bootstrap: where it includes zero, nothing is shown between the method and noise. It is negative for a good map in "
        "deletion, positive in the other columns.",
    ]
    if trivial:
        notes.append(f"{', '.join(f'`{name}`' for name in trivial)} look at no image: a map that meets the masks no better shows nothing.")
    if {"gradcam++", "layercam"} <= maps.keys() and np.allclose(maps["gradcam++"], maps["layercam"], atol=1e-4):
        notes.append(
            "Grad-CAM++ and LayerCAM coincide here: the network averages this layer over all positions, so a channel's gradient is the "
            "same at each of them and both methods give the channel one weight."
        )
    table_text = faithfulness.summary_markdown(summary)
    by_class = {label: table[table["image"].isin(names)] for label, names in _by_label(chosen).items()}
    parts = [faithfulness.summary(part, seed=seed).assign(**{"class": label}) for label, part in by_class.items()]
    if parts:
        output.write_table("faithfulness_by_class.csv", pd.concat(parts, ignore_index=True))
        table_text += "".join(f"\n## {part['class'].iloc[0]}\n\n{faithfulness.summary_markdown(part)}" for part in parts)
    picture = "![Deletion and insertion curves](faithfulness.png)"
    output.write_text("faithfulness.md", "\n\n".join(["# How faithful are the maps?", *notes, table_text + "\n" + picture]) + "\n")
    figure = faithfulness_curves(curves, title=f"Mean of {len(chosen.names)} images", synthetic=synthetic)
    save(figure, output.path / "faithfulness.png")
