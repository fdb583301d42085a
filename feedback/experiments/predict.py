"""Classify images with a finished run. The thesis prints nothing of single images.

Cost: seconds, and one pass over the images.
"""

from common.commands.predict import PredictOptions
from common.settings import Command

COMMAND = Command(PredictOptions, "common.report.predict:predict_command", __doc__ or "")
