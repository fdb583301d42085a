"""Sheet of explanations of a finished run: images as rows, methods as columns, with how faithful each map is.

Without --layer: of the layer the run was tuned on. Cost: some seconds an image and method.
"""

from common.explanation.options import ExplainOptions
from common.settings import Command

COMMAND = Command(ExplainOptions, "feedback.training.explain:run_explain", __doc__ or "")
