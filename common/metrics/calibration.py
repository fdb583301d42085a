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
