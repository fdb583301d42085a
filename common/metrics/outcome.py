"""Moved to `common.runs.outcome`; this name goes when the studies have moved."""

from common.runs.outcome import read_predictions, write_metrics, write_predictions

__all__ = ["read_predictions", "write_metrics", "write_predictions"]
