"""`python -m feedback COMMAND`: the commands of the study; the options are in config.py."""

import sys

import common.stopping  # noqa: F401 (first: from here on Ctrl-C shows no traceback of an import)
from common.cli import Command, PredictOptions, ReportOptions, main
from common.explanation.options import ExplainOptions
from feedback.config import (
    AuditOptions,
    BaselineOptions,
    ClippingOptions,
    SimulateOptions,
    SlicesOptions,
    TablesOptions,
    ThresholdsOptions,
)
from feedback.page.options import ReplayOptions, ServeOptions

COMMANDS = {
    "baseline": Command(
        BaselineOptions,
        "feedback.training.base:run_baseline",
        "Train the base classifier ('Skin Care VGG16', Tables 3.1 and 4.1). "
        "Printed: accuracy 0.71 over eight classes of ISIC 2019 (sensitivity MEL 0.61, NV 0.74), 37 hours on a GTX Titan. "
        "Cost: on `sample` half a minute on 2 cores; HAM10000 with mobilenetv2_035 at 112 px about 2 minutes an epoch on 2 cores, "
        "VGG16 at 227 px needs a GPU. Disk: 280 MB for VGG16, 2 GB of decoded images at 227 px.",
    ),
    "simulate": Command(
        SimulateOptions,
        "feedback.training.simulate:run_simulate",
        "Tune the base from simulated feedback on class and region (one cell of Tables 5.1 to 5.3). "
        "Printed: average Jaccard index 0.10 before and 0.18 after on up-sampled data with the explanation loss, accuracy 0.73 and 0.76. "
        "Several values of --explanation-weight search lambda on validation. "
        "Cost: on `sample` under a minute; the thesis needed 262 to 554 minutes an epoch.",
    ),
    "slices": Command(
        SlicesOptions,
        "feedback.training.slices:run_slices",
        "Feedback that arrives in 20 slices; the best model of one starts the next (Table 5.4, figures 5.14 and 5.15). "
        "Printed: Jaccard index 0.15 after the first slice and 0.19 after the last with the explanation loss; 13 to 55 minutes a slice. "
        "Use --balance upsampled for the printed table. Cost: 20 times the epochs of one slice.",
    ),
    "tables": Command(
        TablesOptions,
        "feedback.training.tables:run_tables",
        "Tables 5.1 to 5.4 over objectives, balances and seeds; runs only what is missing, one process at a time. Printed, Jaccard index "
        "before and after with the explanation loss: 0.100 and 0.447 unbalanced (Table 5.1), 0.10 and 0.18 up-sampled (5.3). "
        "Cost: nine `simulate` runs a seed, with --slices three `slices` runs more; --faithfulness N adds 168 passes for each of N images "
        "to a run.",
    ),
    "thresholds": Command(
        ThresholdsOptions,
        "feedback.training.thresholds:run_thresholds",
        "Average Jaccard index against the threshold of the map, 0 to 100 % (figure 3.3; the thesis uses 50 %). "
        "Chosen on validation, shown on test. Cost: one pass over the images.",
    ),
    "clipping": Command(
        ClippingOptions,
        "feedback.training.clipping:run_clipping",
        "The divergence of section 5.6 and what a limit to the gradient's norm does about it: each learning rate with and without. "
        'Printed: no number; on unbalanced data the explanation loss "suddenly increases". Cost: two `simulate` runs a rate.',
    ),
    "audit": Command(
        AuditOptions,
        "feedback.training.audit:run_audit",
        "What is on disk: counts, unreadable files, copies, overlap with ISIC 2019, leakage of each split; class distribution and a sheet "
        "of samples with their masks (figures 5.1 to 5.3). Printed: 1951 NV, 437 MEL, 172 BKL (the files: 1866, 519, 208), 627 images "
        "shared with ISIC 2019 (counted: 2593). Cost: one reading of every image; nothing is trained.",
    ),
    "serve": Command(
        ServeOptions,
        "feedback.page.start:run_serve",
        "Open the page on which a dermatologist corrects class and region, one image at a time (thesis, sections 1.4 and 4.1). "
        "Research software, not a diagnosis. Every correction is written to a log before it is learned, and can be undone, exported and "
        "replayed. Needs requirements-page.txt. Cost: under 5 s a correction on 2 cores with mobilenetv2_035; disk: one model file a "
        "correction, the last 20 kept.",
    ),
    "replay": Command(
        ReplayOptions,
        "feedback.page.replay:run_replay",
        "Learn the corrections of a log again from its base model and compare the weights with the recorded ones.",
    ),
    "explain": Command(
        ExplainOptions,
        "feedback.training.explain:run_explain",
        "Sheet of explanations of a finished run: images as rows, methods as columns, with how faithful each map is. Without --layer: of "
        "the layer the run was tuned on.",
    ),
    "report": Command(
        ReportOptions,
        "feedback.reporting:report_command",
        "Make a run's report and figures again from its predictions.csv, beside the printed numbers it was written with. Cost: seconds; "
        "needs neither the model nor the images.",
    ),
    "predict": Command(
        PredictOptions,
        "common.report.predict:predict_command",
        "Classify images with a finished run. The thesis prints nothing of single images. Cost: seconds, and one pass over the images.",
    ),
}

if __name__ == "__main__":
    sys.exit(main("feedback", COMMANDS))
