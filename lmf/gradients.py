"""How each loss's gradient differs from cross-entropy's at a trained model: direction and length by class, LDAM and focal parts of LMF.

A loss can only teach what its gradient with respect to the logits says. Softmax probabilities are enough to know it: every loss here is
unchanged when a constant is added to all logits, so log p stands for them. Closed forms in float64; a test compares them with what the
backends differentiate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from common.errors import UsageError
from common.metrics.classification import class_indices
from common.report.markup import markdown, number
from common.runs.finished import FoundRun, finished_runs
from common.runs.outcome import probabilities_of
from common.runs.reading import RunFolder
from lmf.experiments.train import TWO_READINGS
from lmf.losses import balanced_weights, effective_weights, inverse_weights, log_priors, margins

if TYPE_CHECKING:
    from lmf.experiments.gradients import GradientsSettings

FLOOR = 5e-8  # predictions.csv has seven decimals
EVERYTHING = "all"


def gradients_command(settings: GradientsSettings) -> Path:
    """Write table.csv and report.md for every finished run below a folder; returns report.md."""
    runs = [run for run in finished_runs(settings.run, "lmf") if run.has_predictions]
    several = Counter(map(name_of, runs))
    names = [name_of(run) + (f", recipe {run.digest[:6]}" if several[name_of(run)] > 1 else "") for run in runs]
    tables = [of_run(run, settings).assign(run=name) for run, name in zip(runs, names, strict=True)]
    if not tables:
        raise UsageError(f"{settings.run}: its runs hold no predictions")
    table = pd.concat(tables, ignore_index=True)[["run", *tables[0].columns.drop("run")]]
    folder = RunFolder(settings.output or settings.run / "gradients")
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_table("table.csv", table)
    text = as_markdown(table)
    print(text)
    return folder.write_text("report.md", text)


def name_of(run: FoundRun) -> str:
    """What was trained, as "ham10000, mobilenetv2_035, cce, seed 0"."""
    parts = [run.value("dataset"), run.value("backbone") or run.value("network"), run.value("loss") or run.experiment, f"seed {run.seed}"]
    return ", ".join(str(part) for part in parts if part)


def of_run(run: FoundRun, settings: GradientsSettings) -> pd.DataFrame:
    """`table_of` on the run's test predictions."""
    predictions, classes = run.predictions()
    counts = run.value("class_counts")
    if not counts or len(counts) != len(classes):
        raise UsageError(
            f"{run.path}: config.json names no class_counts for the classes {', '.join(classes)}; expected a run of `lmf train`"
        )
    labels = class_indices(predictions["label"], classes)
    return table_of(probabilities_of(predictions, classes), labels, classes, counts, settings)


def table_of(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], counts: Sequence[int], settings: GradientsSettings
) -> pd.DataFrame:
    """A row for each loss, reading and class (and "all"): images, cosine, norm_ratio, ldam_share, focal_share.

    Args:
        probabilities: `(n, K)`. labels: `(n,)` class numbers. counts: training images of each class.

    cosine: between the loss's gradient and cross-entropy's, both as one vector over images and logits; it is 1 where only the length
    differs, as for a learning rate. norm_ratio: length over cross-entropy's; between classes it tells which ones are pulled at harder.
    The shares are those of the lengths of LMF's two parts and sum to 1; NaN for other losses.
    """
    plain = parts("cce", probabilities, labels, counts, settings)[0]
    rows = []
    for name, coded in _variants(settings):
        found = parts(name, probabilities, labels, counts, settings, coded)
        whole = np.sum(found, axis=0)
        for place, of in [(-1, EVERYTHING), *enumerate(classes)]:
            here = np.ones(len(labels), bool) if place < 0 else labels == place
            lengths = [float(np.linalg.norm(part[here])) for part in found]
            share = lengths[0] / sum(lengths) if len(lengths) > 1 and sum(lengths) else np.nan
            length, base = float(np.linalg.norm(whole[here])), float(np.linalg.norm(plain[here]))
            known = length > 0 and base > 0
            rows.append(
                {
                    "loss": name,
                    "reading": ("coded" if coded else "described") if name in TWO_READINGS else "",
                    "class": of,
                    "images": int(here.sum()),
                    "cosine": float((whole[here] * plain[here]).sum()) / (length * base) if known else np.nan,
                    "norm_ratio": length / base if known else np.nan,
                    "ldam_share": share,
                    "focal_share": 1 - share,
                }
            )
    return pd.DataFrame(rows)


ONE_READING = ("focal", "class_balanced", "balanced_softmax", "logit_adjusted")


def _variants(settings: GradientsSettings) -> list[tuple[str, bool]]:
    both = [(name, coded) for name in TWO_READINGS for coded in (False, True)]
    return [pair for pair in [*both, *((name, False) for name in ONE_READING)] if pair[0] in settings.losses]


def parts(
    name: str, probabilities: np.ndarray, labels: np.ndarray, counts: Sequence[int], settings: GradientsSettings, coded: bool = False
) -> list[np.ndarray]:
    """Gradient of the loss's sum over the images (n times its mean) with respect to the logits, `(n, K)` float64.

    LMF's is a list of two, alpha times LDAM's and beta times the focal loss's; every other loss's a list of one.
    """
    p = np.maximum(np.asarray(probabilities, dtype=np.float64), FLOOR)
    logits = np.log(p / p.sum(axis=1, keepdims=True))
    truth = np.eye(logits.shape[1])[labels]
    plain = softmax(logits, axis=1) - truth
    if name in ("cce", "wcce", "bwcce", "class_balanced"):
        coded &= name in TWO_READINGS
        weightings: dict[str, Callable[[Any], np.ndarray]] = {
            "cce": lambda n: np.ones(len(n)),
            "wcce": inverse_weights,
            "bwcce": balanced_weights,
            "class_balanced": lambda n: effective_weights(n, settings.effective_beta),
        }
        weights = weightings[name](np.asarray(counts, dtype=np.float64))[labels]
        return [plain * (weights / weights.mean() if coded else weights)[:, None]]
    if name in ("balanced_softmax", "logit_adjusted"):
        tau = 1.0 if name == "balanced_softmax" else settings.tau
        return [softmax(logits + tau * log_priors(counts), axis=1) - truth]
    class_margins = margins(counts, settings.max_margin)
    own = class_margins[labels]
    scale = settings.scale if coded else 1.0
    ldam = scale * (softmax(scale * (logits - truth * class_margins), axis=1) - truth)
    if coded:
        ldam *= (own / own.mean())[:, None]
    hit = np.exp(logits[np.arange(len(labels)), labels])
    against = np.maximum(1 - hit, 1e-12)
    # d/dlog p of -(1 - p)^g log p, times -1.
    slope = against**settings.gamma - settings.gamma * against ** (settings.gamma - 1) * hit * np.log(hit)
    focal = (own * slope)[:, None] * plain
    found: dict[str, list[np.ndarray]] = {"ldam": [ldam], "focal": [focal], "lmf": [settings.alpha * ldam, settings.beta * focal]}
    return found[name]


def as_markdown(table: pd.DataFrame) -> str:
    """Gradients over all images of each run and loss, then the length of each class's beside cross-entropy's."""
    lines = ["# Gradients of the losses beside cross-entropy's", "", _EXPLANATION]
    for run, rows in table.groupby("run", sort=False):
        whole = rows[rows["class"] == EVERYTHING]
        classes = list(dict.fromkeys(rows["class"][rows["class"] != EVERYTHING]))
        ratios = rows.pivot_table(index=["loss", "reading"], columns="class", values="norm_ratio", sort=False, dropna=False)
        cells = []
        for _, row in whole.iterrows():
            lengths: list[Any] = [number(ratios.loc[(row["loss"], row["reading"]), name], 3) for name in classes]
            shares = [number(row[key], 3) for key in ("ldam_share", "focal_share")]
            cells.append(
                [f"{row['loss']} {row['reading']}".strip(), number(row["cosine"]), number(row["norm_ratio"], 3), *shares, *lengths]
            )
        header = ["", "cosine", "length", "LDAM part", "focal part", *(f"length {name}" for name in classes)]
        lines += [f"## {run}", "", markdown(header, cells)]
    return "\n".join(lines).rstrip() + "\n"


_EXPLANATION = """Gradients with respect to the logits on the test images of a finished run. Cosine 1: the loss pulls as cross-entropy does.
Length: over cross-entropy's; only its differences between classes matter, since Adam takes out a common factor. Parts: shares of LMF's two
gradients.
"""
