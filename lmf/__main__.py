"""`python -m lmf <command> [options]`: the commands of the LMF study."""

import sys

from common.cli import Command, PredictOptions, ReportOptions, main
from lmf.config import TrainLossOptions

COMMANDS = {
    "train": Command(
        TrainLossOptions,
        "lmf.training:train_command",
        "Train one network with one loss and test it: one cell of Tables 2 to 4. Printed for LMF with EfficientNetV2 on HAM10000: accuracy "
        "91.21 %, macro F1 84.61 %. The paper's 100 epochs of HAM10000 at 224 px need a GPU; MobileNetV2 0.35 at 112 px takes about "
        "50 s an epoch on two CPU cores. Disk: 150 kB of cache an image at 224 px, plus the model.",
    ),
    "predict": Command(PredictOptions, "common.evaluation.predict:predict_command", "Classify images with a finished run, as CSV."),
    "report": Command(ReportOptions, "common.evaluation.report:report_command", "Make a run's report and figures again."),
}

if __name__ == "__main__":
    sys.exit(main("lmf", COMMANDS))
