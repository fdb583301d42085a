"""Cost-sensitive training (paper III-C.2, thesis 3.2, Table II)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cervical.data import load_for_training
from cervical.experiments.base import restricted
from cervical.experiments.cost_sensitive import CostSensitiveSettings
from cervical.experiments.finetune import FinetuneSettings
from cervical.losses import ExpectedCostLoss, WeightedLogLoss
from cervical.models import build_classifier
from cervical.training.costs import read_costs
from cervical.training.finetune import fit_classifier, run_finetune
from cervical.training.outcome import conclude
from cervical.training.stages import Job, baselines, begin, default_run_dir
from common.data.dataset import class_names
from common.metrics.classification import class_indices, expected_cost
from common.report.decision import cost_matrix
from common.runs.folder import Run, is_finished
from common.runs.models import read_model
from common.runs.outcome import read_predictions


def run_cost_sensitive(settings: CostSensitiveSettings) -> Path:
    """Fine-tuning with costs: the weighted log loss of thesis eq. 3.2, or a full cost matrix. Returns the run folder."""
    dataset = load_for_training(settings)
    names = class_names(dataset.manifest)
    read_costs(settings.costs, names, np.ones(len(names)))  # a bad file is told before the fine-tuning, not after it
    default = default_run_dir("cost-sensitive", settings, dataset)
    base = None
    # A finished run needs no base any more: `begin` only looks whether it is this very run.
    if settings.init == "finetuned" and not is_finished(settings.run_dir or default):
        base = run_finetune(base_settings(settings, default))
    job = begin("cost-sensitive", settings)
    if isinstance(job, Run):
        return job.path
    costs = read_costs(settings.costs, job.cells.classes, job.cells.class_counts)
    model = build_classifier(settings.backbone, settings, len(job.cells.classes), settings.weights)
    baselines(job, model)
    if base is not None:
        # As the authors: the fine-tuned model goes on training, with a new Adam at the full learning rate.
        model.set_weights(read_model(base / "model.keras").get_weights())
    loss = ExpectedCostLoss(costs.tolist()) if costs.ndim == 2 else WeightedLogLoss(costs.tolist())
    notes = fit_classifier(job, model, loss)
    notes.append(f"Costs ({Path(settings.costs).name}): {_told(costs, job)}")
    matrix, extra, controls = cost_matrix(costs), {"costs": costs.tolist()}, {}
    if base is not None:
        before = expected_cost_of(base, matrix)
        extra["expected_cost_before"], controls = before, {"the fine-tuned model": base}
        notes.append(
            f"Training went on from the fine-tuned model, whose expected cost on the same images is {before:.4f}; "
            "a gain over it may come from the further epochs alone."
        )
    conclude(job, model, f"Cervical cells: {settings.backbone}, cost-sensitive", notes, matrix, extra, controls)
    return job.run.path


def expected_cost_of(run: Path, matrix: np.ndarray) -> float:
    """Expected cost of a finished run's test predictions under `matrix` `(K, K)`."""
    table, classes = read_predictions(run)
    truth, called = (class_indices(table[column], classes).tolist() for column in ("label", "predicted"))
    return expected_cost(truth, called, matrix)


def base_settings(settings: CostSensitiveSettings, default: Path | None = None) -> FinetuneSettings:
    """The settings of the fine-tuning run that a cost-sensitive one goes on from: the same, in its own folder.

    That is the folder of `finetune` itself, finished perhaps, where the cost-sensitive run is in its `default` folder too (a grid names
    it); beside a folder of the user's choice otherwise.
    """
    base = FinetuneSettings(**restricted(settings, FinetuneSettings))
    own = settings.run_dir
    if own is None or (default is not None and own.resolve() == default.resolve()):
        return replace(base, run_dir=None)
    return replace(base, run_dir=own.with_name(own.name + "-finetuned"))


def _told(costs: np.ndarray, job: Job) -> str:
    if costs.ndim == 2:
        return "a full matrix, see metrics.json; the loss is log loss plus the expected cost."
    return ", ".join(f"{name} {cost:.4f}" for name, cost in zip(job.cells.classes, costs, strict=True)) + "."
