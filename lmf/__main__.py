"""`python -m lmf <command> [options]`: the commands of the LMF study."""

import sys

import common.stopping  # noqa: F401 (first: from here on Ctrl-C shows no traceback of an import)
from common.cli import Command, PredictOptions, ReportOptions, main
from lmf.config import TrainLossOptions
from lmf.options import AuditOptions, LossMapsOptions, SweepOptions, TablesOptions

COMMANDS = {
    "train": Command(
        TrainLossOptions,
        "lmf.training:train_command",
        "Train one network with one loss and test it: one cell of Tables 2 to 4. Printed for LMF with EfficientNetV2 on HAM10000: accuracy "
        "91.21 %, macro F1 84.61 %. The paper's 100 epochs of HAM10000 at 224 px need a GPU; MobileNetV2 0.35 at 112 px takes about "
        "50 s an epoch on two CPU cores. Disk: 150 kB of cache an image at 224 px, plus the model.",
    ),
    "sweep": Command(
        SweepOptions,
        "lmf.grids:sweep_command",
        "Train LMF under the three alpha/beta settings of fig. 4 and choose on validation images. Printed: setting 2 (alpha = 1) has "
        "the best mean, setting 1 (alpha = beta) the smallest deviation; Table 6 has alpha 1, beta 2 for EfficientNetV2 on HAM10000. "
        "31 runs of 60 epochs; each costs what `train` says.",
    ),
    "tables": Command(
        TablesOptions,
        "lmf.grids:tables_command",
        "Run data sets x backbones x losses x seeds as far as missing, and write Tables 1 to 5, figs. 1 and 2, paired comparisons "
        "and ranks. Printed: LMF has the best macro F1 in 10 of 12 cells of Tables 2 to 4. The whole grid is 60 runs of 100 epochs; "
        "choose a part with --datasets, --backbones, --losses and --seeds.",
    ),
    "audit": Command(
        AuditOptions,
        "lmf.audit:audit_command",
        "Counts against the official ones, unreadable files, copies, and how far each split leaks lesions or patients; draws fig. 2. "
        "HAM10000's 10,015 images take about a minute on two CPU cores.",
    ),
    "explain": Command(
        LossMapsOptions,
        "lmf.explain:explain_command",
        "Why a run decides as it does; with --beside, the Grad-CAM of runs with different losses side by side, with a doctor's boxes where "
        "given (fig. 3, pictures only). Seconds a run.",
    ),
    "predict": Command(PredictOptions, "common.report.predict:predict_command", "Classify images with a finished run, as CSV."),
    "report": Command(ReportOptions, "common.report.report:report_command", "Make a run's report and figures again."),
}

if __name__ == "__main__":
    sys.exit(main("lmf", COMMANDS))
