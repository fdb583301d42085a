"""What a finished training leaves behind: predictions, metrics, model, report and card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cervical.models import count_parameters
from cervical.paper import TABLE_NUMBERS, document, of_no_document, printed_accuracy, printed_classes
from cervical.training.stages import Job, decision_files, predict
from common.data.splits import by_field, leakage
from common.report.decision import decision_of
from common.report.provenance import differs
from common.report.report import Printed, write_model_card, write_report
from common.runs.finished import FoundRun
from common.runs.outcome import write_metrics, write_predictions

DATA_NOTES = {
    "sipakmed": ["SIPaKMeD (Plissiti et al. 2018): 4049 single cells cut from 966 images of cell clusters, five classes."],
    "sample": ["Cells drawn by a program in SIPaKMeD's layout."],
    "cric": ["CRIC Cervix (Rezende et al. 2021): cells of Pap-smear images by Bethesda class."],
    "folders": ["Images given by the user, one folder a class."],
}
GROUPS = {"sipakmed": "cluster image", "sample": "cluster image", "cric": "image"}


def conclude(
    job: Job,
    model: keras.Model,
    title: str,
    notes: Sequence[str] = (),
    cost_matrix: np.ndarray | None = None,
    extra: Mapping[str, Any] | None = None,
    controls: dict[str, Path] | None = None,
) -> None:
    """Predict the test images; write predictions, metrics, model, figures, report and card; mark the run as finished."""
    cells, run = job.cells, job.run
    probabilities = predict(model, cells.test)
    write_predictions(run, cells.test_rows, probabilities, cells.classes)
    shared = leakage(cells.manifest)
    total, trainable = count_parameters(model)
    right = predict(model, cells.validation).argmax(axis=1) == cells.validation.labels[cells.validation.rows]
    measured: dict[str, Any] = {"validation_accuracy": float(right.mean()) if len(right) else None}
    measured |= {"leakage": {name: {key: shared[name][key] for key in ("images", "shared", "fraction")} for name in shared}}
    measured |= {"parameters": total, "trainable_parameters": trainable}
    costs, kinds = decision_files(job.settings, cells.classes)
    if costs is not None or kinds:
        measured["decision"] = decision_of([run], costs, kinds, job.settings.seed)
    write_metrics(run, job.settings.seed, cost_matrix, {**measured, **(extra or {})})
    run.save_model(model)
    everything = [*standard_notes(job, shared), *notes]
    write_report(run, title, printed_numbers(FoundRun.of(run.path)), everything, controls)
    write_model_card(run, title, "Sorting single Pap-smear cells into the classes below.", DATA_NOTES[cells.dataset.name], everything[:1])
    run.finish()


def printed_numbers(run: FoundRun) -> dict[str, Printed]:
    """The printed cells of a run's method and network, each with what differs; none for other classes and none for another method.

    Table II is of a weight for each class, inverse to its frequency: a cost matrix, or other weights, is another method.
    """
    method, settings = run.experiment, run.config["settings"]
    if method not in TABLE_NUMBERS or settings["dataset"] not in ("sipakmed", "sample"):
        return {}
    if of_no_document(settings) or (method == "contrastive" and settings["loss"] != "npairs"):
        return {}
    source, backbone = TABLE_NUMBERS[method], settings["backbone"]
    other = differs(run, document(method, backbone), settings["synthetic"])
    accuracy = printed_accuracy(method, backbone)
    numbers = {} if accuracy is None else {"accuracy": Printed(accuracy, source, other)}
    for name, cells in printed_classes(method, backbone).items():
        if name in settings["classes"]:
            numbers |= {f"per_class.{name}.{score}": Printed(value, source, other) for score, value in cells.items()}
    return numbers


def standard_notes(job: Job, shared: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a reader must know of any run: what a group is and what both sides share, a limit, the copies."""
    test, settings = shared["test"], job.settings
    group = GROUPS.get(job.cells.dataset.name, "group")
    told = f": the accuracy is that of new images of known {group}s." if test["shared"] else f", so no {group} was seen in training."
    notes = [
        f"{test['shared']} of the {test['images']} test images ({test['fraction']:.0%}) share their {group} with a training image{told}"
    ]
    if group == "cluster image":
        notes.append("Which cluster images are of one slide or patient is not known.")
        if "field" in job.cells.manifest:
            doubles = leakage(by_field(job.cells.manifest))["test"]["shared"] - test["shared"]
            known = "SIPaKMeD shows some cells in two cluster images (cervical/sipakmed_same_cells.csv)"
            notes.append(f"{known}: {doubles} more test images are of a field, a set of such cluster images, that training knows.")
    elif settings.dataset == "folders" and settings.group_pattern is None:
        notes.append("No --group-pattern was given: each image is its own group, so images of one slide or patient may lie on both sides.")
    if settings.limit is not None:
        notes.append(f"Only {settings.limit} images were used (--limit): a smoke run.")
    if settings.copies != 6:
        notes.append(f"{settings.copies} augmented copies of each training image; the paper made 6.")
    return notes
