"""The procedure of the thesis, stage by stage: base classifier, online step, simulation, slices, grids."""

from feedback.training.online import online_step, self_explaining, tune

__all__ = ["online_step", "self_explaining", "tune"]
