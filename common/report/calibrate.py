"""`calibrate RUN`: temperature, prediction sets and abstention, fitted on validation images and measured on test images."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common.commands.calibrate import CalibrateOptions
from common.data.splits import by_field
from common.errors import UsageError
from common.metrics.calibration import apply_temperature, calibration_bins, expected_calibration_error, fit_temperature
from common.metrics.classification import class_indices
from common.metrics.conformal import ConformalSets, Score, coverage_of_halves, covered, smallest_calibration
from common.metrics.selective import aurc, excess_aurc, risk_coverage
from common.metrics.statistics import bootstrap_interval
from common.report.markup import MISSING, interval_text, markdown, number
from common.report.plots import panels, save, styled
from common.report.predict import CALIBRATION, predict_images
from common.runs.outcome import GROUP, probabilities_of, read_predictions
from common.runs.reading import RunFolder, run_files

log = logging.getLogger(__name__)

COVERAGES = (0.8, 0.9, 0.95)


class Outcome(NamedTuple):
    """Probabilities `(n, K)`, class numbers `(n,)` and groups `(n,)` or None of a part of the data."""

    probabilities: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None


def calibrate_command(options: CalibrateOptions) -> Path:
    """Write calibration.{md,json,csv} and figures/risk_coverage.png into the run folder; returns calibration.md.

    Raises:
        UsageError: the run has no validation images, they are too few for the coverage, or images are gone.
    """
    folder = RunFolder.existing(options.run)
    table, classes = read_predictions(folder)
    test = Outcome(probabilities_of(table, classes), class_indices(table["label"], classes), _groups(table))
    validation = validation_outcome(folder, classes, options.data_dir)
    fitted = ConformalSets.fit(validation.probabilities, validation.labels, options.score, options.by_class)
    fitted.predict(test.probabilities[:1], options.coverage)  # too few calibration images are told before anything is written
    temperature = fit_temperature(validation.probabilities, validation.labels)
    rows = set_rows(validation, test, sorted({*COVERAGES, options.coverage}))
    silent = abstention(test)
    folder.write_json(
        CALIBRATION,
        {
            "coverage": options.coverage,
            "score": options.score,
            "aps_counts_half": True,
            "by_class": options.by_class,
            "temperature": temperature,
            "classes": list(classes),
            "scores": fitted.calibration,
            "labels": fitted.labels,
        },
    )
    folder.write_table("calibration.csv", pd.DataFrame(rows))
    synthetic = bool(folder.read_json("config.json").get("synthetic"))
    save(abstention_figure(test, synthetic=synthetic), folder.path / "figures" / "risk_coverage.png")
    parts = ["# When to stay silent", *(["Synthetic data."] if synthetic else []), _temperature_text(temperature, test)]
    parts += [_sets_text(rows, len(validation.labels), len(test.labels), test.groups is not None), _abstention_text(silent)]
    path = folder.write_text("calibration.md", "\n\n".join(parts) + "\n\n![Risk against coverage](figures/risk_coverage.png)\n")
    log.info("%s", path)
    return path


def validation_outcome(folder: RunFolder, classes: Sequence[str], data_dir: Path | None) -> Outcome:
    """The run's model on its validation images. UsageError when the split has none."""

    manifest = folder.read_table("manifest.csv", dtype=str, keep_default_na=False)
    rows = manifest[manifest["split"] == "validation"].drop_duplicates("image")
    if not len(rows):
        raise UsageError(f"{folder.path / 'manifest.csv'}: no validation images, so there is nothing to calibrate on")
    found = predict_images(folder, run_files(folder, data_dir, rows["image"]))
    return Outcome(probabilities_of(found, classes), class_indices(rows["label"], tuple(classes)), _groups(by_field(rows)))


def set_rows(validation: Outcome, test: Outcome, coverages: Sequence[float]) -> list[dict[str, Any]]:
    """One row per score, kind and coverage: nominal and measured coverage with its interval, mean size, share of single classes, halves.

    Coverages that the calibration images are too few for are left out.
    """
    rows: list[dict[str, Any]] = []
    probabilities = np.concatenate([validation.probabilities, test.probabilities])
    labels = np.concatenate([validation.labels, test.labels])
    groups = None if validation.groups is None or test.groups is None else np.concatenate([validation.groups, test.groups])
    kinds: list[tuple[Score, bool]] = [("lac", False), ("aps", False), ("lac", True), ("aps", True)]
    for score, by_class in kinds:
        fitted = ConformalSets.fit(validation.probabilities, validation.labels, score, by_class)
        for coverage in coverages:
            have = np.bincount(fitted.labels, minlength=fitted.classes).min() if by_class else len(fitted.labels)
            if have < smallest_calibration(coverage):
                continue
            sets = fitted.predict(test.probabilities, coverage)
            inside = covered(sets, test.labels)
            low, high = bootstrap_interval(inside.astype(float), groups=test.groups)
            sizes = sets.sum(axis=1)
            worst = min(inside[test.labels == name].mean() for name in np.unique(test.labels))
            row = {"score": score, "by_class": by_class, "nominal": coverage, "coverage": inside.mean(), "low": low, "high": high}
            shares = {"mean_size": sizes.mean(), "single": (sizes == 1).mean(), "empty": (sizes == 0).mean()}
            try:
                halves = coverage_of_halves(probabilities, labels, groups, coverage, score, by_class)
            except UsageError:  # half of the images is too few where all are enough
                halves = np.array([np.nan])
            over = {"halves": halves.mean(), "halves_deviation": halves.std()}
            rows.append({**row, "worst_class": worst, **shares, **over})
    return rows


def abstention(test: Outcome) -> dict[str, float]:
    """AURC and its excess over the best order, and the error rate among the surest half and nine tenths of the test images."""
    confidence, correct = test.probabilities.max(axis=1), test.probabilities.argmax(axis=1) == test.labels
    share, risk = risk_coverage(confidence, correct)
    at = {f"risk_at_{coverage}": float(risk[np.searchsorted(share, coverage - 1e-9)]) for coverage in (0.5, 0.8, 0.9, 1.0)}
    return {"aurc": aurc(confidence, correct), "excess_aurc": excess_aurc(confidence, correct), **at}


@styled
def abstention_figure(test: Outcome) -> Figure:
    """Error rate among the images answered against the share of images answered, the surest first."""
    share, risk = risk_coverage(test.probabilities.max(axis=1), test.probabilities.argmax(axis=1) == test.labels)
    figure, axes = panels()
    axis = axes.ravel()[0]
    axis.plot(share, risk)
    axis.set(xlabel="share of test images answered, surest first", ylabel="error rate among them", xlim=(0, 1), ylim=(0, None))
    axis.set_title("When to stay silent")
    return figure


def _groups(table: pd.DataFrame) -> np.ndarray | None:
    return table[GROUP].to_numpy() if GROUP in table else None


def _temperature_text(temperature: float, test: Outcome) -> str:
    rows = []
    for name, found in (("as trained", test.probabilities), ("with temperature", apply_temperature(test.probabilities, temperature))):
        correct = found.argmax(axis=1) == test.labels
        likelihood = -np.log(np.maximum(found[np.arange(len(found)), test.labels], 5e-8)).mean()
        rows.append([name, number(expected_calibration_error(calibration_bins(correct, found.max(axis=1)))), number(float(likelihood))])
    table = markdown(("probabilities", "expected calibration error", "negative log-likelihood"), rows)
    side = "too sure" if temperature > 1 else "not sure enough"
    return f"## Temperature\n\nTemperature {temperature:.3f} on the validation images: the model was {side}. On the test images:\n\n{table}"


def _sets_text(rows: Sequence[Mapping[str, Any]], validation: int, test: int, grouped: bool) -> str:
    lines = [
        [
            {"lac": "LAC", "aps": "APS"}[row["score"]] + (", by class" if row["by_class"] else ""),
            f"{row['nominal']:g}",
            f"{row['coverage']:.3f} {interval_text([row['low'], row['high']])}",
            *(number(row[name]) for name in ("worst_class", "mean_size", "single", "empty")),
            MISSING if np.isnan(row["halves"]) else f"{row['halves']:.3f} ± {row['halves_deviation']:.3f}",
        ]
        for row in rows
    ]
    header = (
        "score",
        "nominal",
        "measured coverage [95 % interval]",
        "class covered least",
        "classes in a set",
        "one class",
        "none",
        "20 halves",
    )
    note = (
        f"Calibrated on {validation} validation images, measured on {test} test images"
        + ("; intervals resample whole groups. " if grouped else ". ")
        + "The promise is one on average over calibrations, for test images drawn like the validation images; images of one group say "
        "less than as many independent ones, and the validation images also chose the epoch. A set of one class is an answer; any other "
        "size means “unsure”. 20 halves: mean and deviation of the coverage where half of the validation and test images together, whole "
        "groups, calibrates and the other half is tested, drawn 20 times."
    )
    return f"## Prediction sets\n\n{note}\n\n{markdown(header, lines)}"


def _abstention_text(found: Mapping[str, float]) -> str:
    rows = [[f"the surest {name.removeprefix('risk_at_')}", number(value)] for name, value in found.items() if name.startswith("risk_at_")]
    text = f"AURC {found['aurc']:.4f}, of which {found['excess_aurc']:.4f} is the order's fault (0: all errors come last).\n\n"
    return f"## Abstention\n\n{text}{markdown(('share of test images answered', 'error rate'), rows)}"
