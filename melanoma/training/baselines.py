"""What Table 2 holds Bio-U-Net against, on the test images: CAM methods and LIME on the plain classifier, VAT, and a plain U-Net."""

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np

from common import device
from common.data.pipeline import Batches
from common.report.predict import load_model
from common.runs.fitting import fit
from common.runs.folder import Run
from melanoma import models
from melanoma.experiments.base import SHOWN
from melanoma.experiments.baselines import BaselineSettings
from melanoma.losses import SoftDiceLoss
from melanoma.training.batches import full_batches
from melanoma.training.evaluation import Localisation, shown_rows, tested, write_results
from melanoma.training.heatmaps import target_weights, twelve_maker
from melanoma.training.indicator import assign, drawing_rows, rows_with, unique
from melanoma.training.inputs import Inputs
from melanoma.training.optimiser import adam
from melanoma.training.pretraining import settled
from melanoma.training.probes import set_output
from melanoma.training.vat import train_vat

log = logging.getLogger(__name__)


def content(inputs: Inputs, settings: BaselineSettings, row: str) -> dict[str, Any]:
    """What a row's run records besides the plain classifier's settings."""
    return {**({"dataset_b": inputs.facts_b} if row == "vat" else {}), **settings.own(row)}


def cams(run: Run, inputs: Inputs, plain: Path, settings: BaselineSettings) -> None:
    """CAM methods and LIME of the predicted diagnosis on the plain classifier's run `plain`, and maps that look at no image."""
    from common.explanation.cams import cam
    from common.explanation.gradcam import in_batches
    from common.explanation.lime import explain, weight_map

    seed, images = inputs.settings.seed, inputs.images
    device.configure(seed, inputs.settings.precision, inputs.settings.devices)
    model, found, step = load_model(plain), Localisation(inputs), 64
    layer = models.heatmap_layers(models.encoder_of(model), inputs.settings.backbone)[3 * settings.cam_stage - 1]
    called = model.predict(Batches(images, rows=found.rows, batch_size=step), verbose=0).argmax(axis=1)
    for method in ("gradcam", "gradcam++", "layercam"):
        (maps,) = in_batches(
            lambda rows, classes, method=method: cam(method, model, images[rows], classes, layer), step, found.rows, called
        )
        for name in inputs.indicators:
            found.add(method, name, maps)
    few = lime_rows(inputs, settings.lime_images)
    log.info("LIME: %d images", len(few))
    chosen = zip(few, called[np.searchsorted(found.rows, few)], strict=True)
    maps = [weight_map(explain(model, images[row], int(label), samples=settings.lime_samples, seed=seed)) for row, label in chosen]
    for name in inputs.indicators:
        found.add("lime", name, np.stack(maps), few)
    without_diagnosis(run, inputs, found)


def without_diagnosis(run: Run, inputs: Inputs, found: Localisation) -> None:
    """metrics.json of a run that only localises."""
    facts = {name: getattr(inputs.settings, name) for name in ("dataset", "split", "seed")}
    standing = [name for name in inputs.indicators if inputs.stands_in(name)]
    scores = {"n": len(found.rows), "synthetic": inputs.dataset.synthetic, "localisation": found.write(run), "lesion_masks_for": standing}
    run.write_json("metrics.json", {**facts, **scores})


def lime_rows(inputs: Inputs, count: int) -> np.ndarray:
    """Test images for LIME: those of the sheets, then the others in order, `count` in all."""
    test = inputs.localised()
    first = np.concatenate([shown_rows(inputs, name, SHOWN) for name in inputs.indicators])
    order = list(dict.fromkeys([*first.tolist(), *test.tolist()]))
    return np.sort(np.array(order[: max(count, len(set(first.tolist())))]))


def vat(run: Run, inputs: Inputs, settings: BaselineSettings) -> None:
    """VAT on melanoma and all indicators that vary, explained by Grad-CAM of each indicator's score."""
    s = inputs.settings
    device.configure(s.seed, s.precision, s.devices)
    run.write_csv("manifest.csv", inputs.manifest)
    found, outputs = Localisation(inputs), (*inputs.varying(inputs.indicators), "melanoma")
    classifier = train_vat(run, inputs, settings, inputs.labels(outputs), inputs.images_b)

    maker = twelve_maker(classifier, s.backbone)
    for name in inputs.indicators:
        own = [name] if name in outputs else []
        found.add("vat", name, maker(inputs.images[found.rows], *target_weights(outputs, own, "auto"))[-1])
    encoder = next(layer for layer in classifier.layers if isinstance(layer, keras.Model))
    final = models.build_final([encoder], models.normalisation(s.normalise, s.backbone))
    set_output(final, classifier.get_layer("logits"), outputs.index("melanoma"))
    run.save_model(final)
    write_results(run, inputs, final.predict(tested(inputs), verbose=0), found)


def plain_unet(run: Run, inputs: Inputs) -> None:
    """§3's naive idea: one U-Net an indicator, from the image to the mask, the same encoder and decoder, no classification."""
    s = inputs.settings
    device.configure(s.seed, s.precision, s.devices)
    encoder = models.build_encoder(s.backbone, s.image_size, s.weights)
    normalise = models.normalisation(s.normalise, s.backbone)
    unet = models.build_plain_unet(encoder, normalise, s.backbone)
    unet.compile(adam(s), SoftDiceLoss(), jit_compile=device.jit_compile())
    unet.optimizer.build(unet.trainable_variables)
    state = unique([*unet.variables, *unet.optimizer.variables])
    start = [keras.ops.convert_to_numpy(v) for v in state]
    found = Localisation(inputs)
    for name in inputs.indicators:
        assign(state, start)
        masks = inputs.masks(name)[..., None]
        train = drawing_rows(inputs, (name,))
        batches = full_batches(inputs.images, masks, rows=train, batch_size=s.segmentation_batch, seed=s.seed)
        validation = Batches(inputs.images, masks, rows=rows_with(inputs, (name,), "validation"), batch_size=s.segmentation_batch)
        fit(
            unet, batches, run=run, stage=f"unet-{name}", epochs=s.segmentation_epochs, validation=validation, select="best",
            patience=s.patience, extra_callbacks=[settled(encoder, normalise, batches)],
        )  # fmt: skip
        shown = Batches(inputs.images, rows=found.rows, batch_size=s.segmentation_batch)
        found.add("unet", name, unet.predict(shown, verbose=0)[..., 0])
    without_diagnosis(run, inputs, found)
