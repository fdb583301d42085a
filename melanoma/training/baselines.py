"""What Table 2 holds Bio-U-Net against, on the test images: CAM methods and LIME on the plain classifier, VAT, and a plain U-Net."""

import logging
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from common import device
from common.data.pipeline import Batches
from common.report.predict import load_model
from common.runs.fitting import fit
from common.runs.folder import Run
from common.runs.outcome import write_metrics
from melanoma import models
from melanoma.experiments.base import SHOWN
from melanoma.experiments.baselines import BaselineSettings
from melanoma.losses import SoftDiceLoss
from melanoma.training.batches import full_batches
from melanoma.training.heatmaps import target_weights, twelve_maker
from melanoma.training.indicator import assign, drawing_rows, rows_with, unique
from melanoma.training.inputs import Inputs
from melanoma.training.optimiser import adam
from melanoma.training.pipeline import open_run
from melanoma.training.pretraining import diagnose, settle_batchnorm
from melanoma.training.probes import set_logistic
from melanoma.training.scores import score_maps, score_trivial, summary
from melanoma.training.shown import shown_rows, write_arrays
from melanoma.training.vat import train_vat

log = logging.getLogger(__name__)


def localisation_metrics(run: Run, inputs: Inputs, tables: list[pd.DataFrame]) -> dict:
    """Write localisation.csv, and return its summary."""
    table = pd.concat(tables, ignore_index=True)
    run.write_csv("localisation.csv", table)
    return summary(table, inputs.settings.seed)


def cams(inputs: Inputs, plain: Path, settings: BaselineSettings, run_dir: Path | None) -> Run:
    """CAM methods and LIME of the predicted diagnosis on the plain classifier's run `plain`, and maps that look at no image."""
    from common.explanation.cams import cam
    from common.explanation.lime import lime

    run = open_run(inputs, "cams", run_dir, **settings.own("cams"))
    if run.finished:
        return run
    device.configure(inputs.settings.seed, inputs.settings.precision)
    model, test = load_model(plain), inputs.localised()
    layer, step = models.heatmap_layers(models.encoder_of(model), inputs.settings.backbone)[3 * settings.cam_stage - 1], 64
    predicted = model.predict(Batches(inputs.images, rows=test, batch_size=step), verbose=0).argmax(axis=1)
    few = lime_rows(inputs, settings.lime_images)
    methods: dict[str, tuple[np.ndarray, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
        name: (test, lambda images, classes, name=name: cam(name, model, images, classes, layer))
        for name in ("gradcam", "gradcam++", "layercam")
    }
    methods["lime"] = (few, lambda images, classes: lime(model, images, classes, samples=settings.lime_samples, seed=inputs.settings.seed))
    tables, shown = [], {}
    for method, (rows, explain) in methods.items():
        classes = predicted[np.searchsorted(test, rows)]
        log.info("%s: %d images", method, len(rows))
        maps = np.concatenate([explain(inputs.images[rows[i : i + step]], classes[i : i + step]) for i in range(0, len(rows), step)])
        for name in inputs.indicators:
            tables.append(score_maps(inputs, method, name, rows, maps))
            shown |= kept_maps(inputs, method, name, rows, maps)
    tables += [score_trivial(inputs, name, test) for name in inputs.indicators]
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
    first = np.concatenate([shown_rows(inputs, name, SHOWN) for name in inputs.indicators])
    order = list(dict.fromkeys([*first.tolist(), *test.tolist()]))
    return np.sort(np.array(order[: max(count, len(set(first.tolist())))]))


def kept_maps(inputs: Inputs, method: str, indicator: str, rows: np.ndarray, maps: np.ndarray) -> dict[str, np.ndarray]:
    """The maps of the images that the sheets show."""
    chosen = shown_rows(inputs, indicator, SHOWN)
    return {f"{indicator}/{method}": maps[np.searchsorted(rows, chosen)].astype("float32")}


def vat(inputs: Inputs, settings: BaselineSettings, run_dir: Path | None) -> Run:
    """VAT on melanoma and all indicators that vary, explained by Grad-CAM of each indicator's score."""
    s = inputs.settings
    run = open_run(inputs, "vat", run_dir, dataset_b=inputs.facts_b, **settings.own("vat"))
    if run.finished:
        return run
    device.configure(s.seed, s.precision)
    run.write_csv("manifest.csv", inputs.manifest)
    test, outputs = inputs.localised(), (*inputs.varying(inputs.indicators), "melanoma")
    classifier = train_vat(run, inputs, settings, inputs.labels(outputs), inputs.images_b)

    maker, tables, shown = twelve_maker(classifier, s.backbone), [], {}
    for name in inputs.indicators:
        own = [name] if name in outputs else []
        maps = maker(inputs.images[test], *target_weights(outputs, own, "auto"))[-1]
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


def plain_unet(inputs: Inputs, settings: BaselineSettings, run_dir: Path | None) -> Run:
    """§3's naive idea: one U-Net an indicator, from the image to the mask, the same encoder and decoder, no classification."""
    s = inputs.settings
    run = open_run(inputs, "unet", run_dir, **settings.own("unet"))
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
    for name in inputs.indicators:
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
