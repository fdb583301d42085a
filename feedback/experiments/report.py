"""Make a run's report and figures again from its files, beside the printed numbers.

Cost: seconds; needs neither the model nor the images.
"""

from common.commands.report import ReportOptions
from common.settings import Command

COMMAND = Command(ReportOptions, "feedback.reporting:report_command", __doc__ or "")
