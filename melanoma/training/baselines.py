"""What Table 2 holds Bio-U-Net against, on the test images: CAM methods and LIME on the plain classifier, VAT, and a plain U-Net."""

import logging
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from common import device
from common.data.pipeline import Batches
from common.metrics.outcome import write_metrics
from common.report.predict import load_model
from common.runs import Run, fit
from melanoma import models
from melanoma.config import BaselineOptions
from melanoma.losses import SoftDiceLoss
from melanoma.training.heatmaps import outputs_of, target_weights, twelve_maker
from melanoma.training.indicator import assign, drawing_rows, full_batches, rows_with, unique
from melanoma.training.inputs import Inputs
from melanoma.training.pipeline import open_run
from melanoma.training.pretraining import adam, diagnose, settle_batchnorm
from melanoma.training.probes import set_logistic
from melanoma.training.scores import score_maps, summary
from melanoma.training.shown import SHOWN, shown_rows, write_arrays
from melanoma.training.vat import train_vat

log = logging.getLogger(__name__)


def localisation_metrics(run: Run, inputs: Inputs, tables: list[pd.DataFrame]) -> dict:
    """Write localisation.csv, and return its summary."""
    table = pd.concat(tables, ignore_index=True)
    run.write_csv("localisation.csv", table)
    return summary(table, inputs.settings.seed)


def cams(inputs: Inputs, plain: Path, options: BaselineOptions, run_dir: Path | None) -> Run:
    """Grad-CAM, Grad-CAM++, LayerCAM and LIME of the predicted diagnosis on the plain classifier's run `plain`, last block."""
    from common.explanation.cams import cam
    from common.explanation.lime import lime

    run = open_run(inputs, "cams", run_dir, lime_samples=options.lime_samples, lime_images=options.lime_images, classifier=plain.name)
    if run.finished:
        return run
    device.configure(inputs.settings.seed, inputs.settings.precision)
    model, test = load_model(plain), inputs.localised()
    layer, step = models.heatmap_layers(models.encoder_of(model), inputs.settings.backbone)[-1], 64
    predicted = model.predict(Batches(inputs.images, rows=test, batch_size=step), verbose=0).argmax(axis=1)
    few = lime_rows(inputs, options.lime_images)
    methods: dict[str, tuple[np.ndarray, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
        name: (test, lambda images, classes, name=name: cam(name, model, images, classes, layer))
        for name in ("gradcam", "gradcam++", "layercam")
    }
    methods["lime"] = (few, lambda images, classes: lime(model, images, classes, samples=options.lime_samples, seed=inputs.settings.seed))
    tables, shown = [], {}
    for method, (rows, explain) in methods.items():
        classes = predicted[np.searchsorted(test, rows)]
        log.info("%s: %d images", method, len(rows))
        maps = np.concatenate([explain(inputs.images[rows[i : i + step]], classes[i : i + step]) for i in range(0, len(rows), step)])
        for name in inputs.settings.indicators:
            tables.append(score_maps(inputs, method, name, rows, maps))
            shown |= kept_maps(inputs, method, name, rows, maps)
    write_arrays(run, shown)
    run.write_json("metrics.json", localised(run, inputs, tables))
    run.finish()
    return run


def localised(run: Run, inputs: Inputs, tables: list[pd.DataFrame]) -> dict:
    """metrics.json of a run that classifies nothing."""
    facts = {"dataset": inputs.settings.dataset, "split": inputs.settings.split, "seed": inputs.settings.seed}
    found = localisation_metrics(run, inputs, tables)
    return {**facts, "n": len(inputs.localised()), "synthetic": inputs.dataset.synthetic, "localisation": found}


def lime_rows(inputs: Inputs, count: int) -> np.ndarray:
    """Test images for LIME: those of the sheets, then the others in order, `count` in all."""
    test = inputs.localised()
    first = np.concatenate([shown_rows(inputs, name, SHOWN) for name in inputs.settings.indicators])
    order = list(dict.fromkeys([*first.tolist(), *test.tolist()]))
    return np.sort(np.array(order[: max(count, len(set(first.tolist())))]))


def kept_maps(inputs: Inputs, method: str, indicator: str, rows: np.ndarray, maps: np.ndarray) -> dict[str, np.ndarray]:
    """The maps of the images that the sheets show."""
    chosen = shown_rows(inputs, indicator, SHOWN)
    return {f"{indicator}/{method}": maps[np.searchsorted(rows, chosen)].astype("float32")}


def vat(inputs: Inputs, run_dir: Path | None) -> Run:
    """VAT on melanoma and all indicators that vary, explained by Grad-CAM of each indicator's score."""
    s = inputs.settings
    run = open_run(inputs, "vat", run_dir, dataset_b=inputs.facts_b)
    if run.finished:
        return run
    device.configure(s.seed, s.precision)
    run.write_csv("manifest.csv", inputs.manifest[["image", "label", "group", "split"]])
    train, test = inputs.rows("train"), inputs.localised()
    varying = [name for name in s.indicators if 0 < inputs.present[name].to_numpy()[train].mean() < 1]
    outputs = (*outputs_of(s.indicators, s, varying),)
    outputs = outputs if "melanoma" in outputs else (*outputs, "melanoma")
    labels = np.stack([inputs.melanoma if name == "melanoma" else inputs.present[name].to_numpy("float32") for name in outputs], axis=1)
    classifier = train_vat(run, inputs, labels, inputs.images_b)

    maker, tables, shown = twelve_maker(classifier, s), [], {}
    for name in s.indicators:
        own = [name] if name in outputs else []
        maps = maker(inputs.images[test], *target_weights(outputs, own, s.target if own else "auto"))[-1]
        tables.append(score_maps(inputs, "vat", name, test, maps))
        shown |= kept_maps(inputs, "vat", name, test, maps)
    write_arrays(run, shown)
    encoder = next(layer for layer in classifier.layers if isinstance(layer, keras.Model))
    final = models.build_final([encoder], models.normalisation(s.normalise, s.backbone))
    kernel, bias = (keras.ops.convert_to_numpy(v) for v in classifier.get_layer("logits").weights)
    index = outputs.index("melanoma")
    set_logistic(final, kernel[:, index], float(bias[index]))
    run.save_model(final)
    extra = diagnose(run, inputs, models.with_features(final)) | {"localisation": localisation_metrics(run, inputs, tables)}
    write_metrics(run, s.seed, extra=extra)
    return run


def plain_unet(inputs: Inputs, run_dir: Path | None) -> Run:
    """§3's naive idea: one U-Net an indicator, from the image to the mask, the same encoder and decoder, no classification."""
    s = inputs.settings
    run = open_run(inputs, "unet", run_dir)
    if run.finished:
        return run
    device.configure(s.seed, s.precision)
    encoder = models.build_encoder(s.backbone, s.image_size, s.weights)
    normalise = models.normalisation(s.normalise, s.backbone)
    unet = models.build_plain_unet(encoder, normalise, s.backbone)
    unet.compile(adam(s), SoftDiceLoss(), jit_compile=device.jit_compile())
    unet.optimizer.build(unet.trainable_variables)
    state = unique([*unet.variables, *unet.optimizer.variables])
    start = [keras.ops.convert_to_numpy(v) for v in state]
    test, tables, shown = inputs.localised(), [], {}
    for name in s.indicators:
        assign(state, start)
        masks = inputs.masks(name)[..., None]
        train = drawing_rows(inputs, (name,))
        batches = full_batches(inputs.images, masks, rows=train, batch_size=s.segmentation_batch, seed=s.seed)
        validation = Batches(inputs.images, masks, rows=rows_with(inputs, (name,), "validation"), batch_size=s.segmentation_batch)
        history = fit(
            unet, batches, run=run, stage=f"unet-{name}", epochs=s.segmentation_epochs, validation=validation, select="best",
            patience=s.patience,
        )  # fmt: skip
        settle_batchnorm(encoder, normalise, batches, len(history) * len(batches))
        drawn = unet.predict(Batches(inputs.images, rows=test, batch_size=s.segmentation_batch), verbose=0)[..., 0]
        tables.append(score_maps(inputs, "unet", name, test, drawn))
        shown |= kept_maps(inputs, "unet", name, test, drawn)
    write_arrays(run, shown)
    run.write_json("metrics.json", localised(run, inputs, tables))
    run.finish()
    return run
