"""Calibration: do predictions made with 80 % confidence come true in 80 % of cases?"""

import numpy as np


def calibration_bins(correct: np.ndarray, confidence: np.ndarray, bins: int = 15) -> list[dict]:
    """The reliability diagram's bars (Guo et al. 2017, section 2): equal-width bins (low, high] of the confidence.

    correct: `(n,)` bool; confidence: `(n,)` 0..1, the largest class probability. Each bin is a dict with `low`, `high`, `count`,
    and `confidence` and `accuracy`, the bin's means (None in an empty bin).
    """
    correct, confidence = np.asarray(correct, dtype=bool), np.asarray(confidence, dtype=np.float64)
    if correct.shape != confidence.shape or correct.ndim != 1:
        raise ValueError(f"expected two (n,) arrays, got {correct.shape} and {confidence.shape}")
    if bins < 1:
        raise ValueError(f"expected at least one bin, got {bins}")
    edges = np.linspace(0, 1, bins + 1)
    # side="left" puts a value that equals an edge in the bin below it; 0 itself belongs to the first bin.
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    rows = []
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        rows.append(
            {
                "low": float(edges[index]),
                "high": float(edges[index + 1]),
                "count": count,
                "confidence": float(confidence[inside].mean()) if count else None,
                "accuracy": float(correct[inside].mean()) if count else None,
            }
        )
    return rows


def expected_calibration_error(bins: list[dict]) -> float:
    """ECE = Σ (n_b / n) · |accuracy_b − confidence_b| over the bins of `calibration_bins` (Guo et al. 2017, eq. 3)."""
    total = sum(row["count"] for row in bins)
    if not total:
        raise ValueError("no prediction to calibrate")
    return float(sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in bins if row["count"]) / total)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Temperature T > 0 that minimises the mean negative log-likelihood of softmax(log p / T) (Guo et al. 2017, eq. 9).

    probabilities: `(n, K)` of images the model was not trained on; labels: `(n,)` class numbers. T > 1 makes a model less sure. The
    order of the classes of an image never changes. T stays within 0.05..20; a model that is right on every image would have T = 0.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = _logits(probabilities), np.asarray(labels)
    if labels.shape != (len(logits),) or not len(labels):
        raise ValueError(f"expected one label for each of {len(logits)} images, got {labels.shape}")

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(_log_sum_exp(scaled) - scaled[np.arange(len(labels)), labels]))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def fit_platt(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float] | None:
    """Slope a > 0 and offset b that minimise the mean negative log-likelihood of sigmoid(a · logit(p) + b) (Platt 1999, section 2).

    probabilities: `(n,)` in 0..1 of what the model was not trained on; labels: `(n,)` of 0 and 1. None where no rising line fits: all
    labels are alike, or p falls where the labels rise.
    """
    from sklearn.linear_model import LogisticRegression

    labels, kept = np.asarray(labels), np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    logits = np.log(kept / (1 - kept))
    middle, spread = logits.mean(), logits.std()
    if len(np.unique(labels)) < 2 or spread == 0:
        return None
    # The solver stops by the gradient's size, which the feature's scale must not decide.
    fitted = LogisticRegression(C=np.inf).fit(((logits - middle) / spread)[:, None], labels)
    slope = float(fitted.coef_[0, 0] / spread)
    return (slope, float(fitted.intercept_[0] - slope * middle)) if slope > 0 else None


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / T), `(n, K)` float64."""
    scaled = _logits(probabilities) / temperature
    return np.exp(scaled - _log_sum_exp(scaled)[:, None])


def _logits(probabilities: np.ndarray) -> np.ndarray:
    rows = np.asarray(probabilities, np.float64)
    if rows.ndim != 2:
        raise ValueError(f"expected probabilities (n, classes), got {rows.shape}")
    # Written with 7 decimals, so a zero stands for anything below half of the last one.
    return np.log(np.maximum(rows, 5e-8))


def _log_sum_exp(rows: np.ndarray) -> np.ndarray:
    highest = rows.max(axis=1)
    return highest + np.log(np.exp(rows - highest[:, None]).sum(axis=1))
