"""`python -m melanoma <command> [options]`: the commands of the melanoma study."""

import sys

import common.stopping  # noqa: F401 (first: from here on Ctrl-C shows no traceback of an import)
from common.cli import Command, PredictOptions, ReportOptions, main
from common.explanation.options import ExplainOptions
from melanoma.config import (
    AblationOptions,
    AuditOptions,
    BaselineOptions,
    BioUNetOptions,
    GridOptions,
    MultitaskOptions,
    PretrainOptions,
    RepeatsOptions,
    TablesOptions,
)

GRIDS = "melanoma.experiments.grids"
COMMANDS = {
    "pretrain": Command(
        PretrainOptions,
        "melanoma.experiments.single:pretrain_command",
        "Train subnetwork 1, SimCLR on Dataset B, and judge its embeddings by k-NN and a linear probe. The paper prints no number for it. "
        "Real data want a GPU. Disk: 150 kB of cache an image at 224 px, 100 MB for a ResNet50. The sample takes about a minute on two CPU "
        "cores.",
    ),
    "train": Command(
        BioUNetOptions,
        "melanoma.experiments.single:train_command",
        "Train Bio-U-Net whole: SimCLR, classifier, twelve heatmaps to masks, five frozen encoders under one classifier. Printed: accuracy "
        "0.82; continuous Dice 15.16 % globules, 2.33 milia-like cysts, 20.89 negative network, 32.79 pigment network, 14.17 streaks "
        "(Tables 2 and 3). Five ResNet50 at 512 px want a GPU; the sample takes about five minutes on two CPU cores. Disk: 150 kB of cache "
        "an image at 224 px, 100 MB an encoder in the saved model.",
    ),
    "ablation": Command(
        AblationOptions,
        f"{GRIDS}:grid_command",
        "Table 3: f_Res, with f_Seg, with f_CLR, with both. Printed for streaks: 5.16, 3.83, 12.67, 14.17 % continuous Dice; melanoma "
        "0.76, 0.76, 0.80, 0.82. Costs four training runs a seed, one pre-training shared.",
    ),
    "repeats": Command(
        RepeatsOptions,
        f"{GRIDS}:grid_command",
        "Table 4: one to five segmentation updates an iteration. Printed for streaks: 14.17, 15.50, 12.83, 7.93, 11.5 %. Costs five "
        "training runs a seed.",
    ),
    "multitask": Command(
        MultitaskOptions,
        f"{GRIDS}:grid_command",
        "Table 5: an encoder for one indicator, with melanoma, for all five, with melanoma. Printed for pigment network: 32.79, 37.88, "
        "15.64, 23.21 %. Costs four training runs a seed.",
    ),
    "thresholds": Command(
        GridOptions,
        f"{GRIDS}:grid_command",
        "Table 6: continuous Dice at thresholds 0.0 to 0.9. Printed for streaks: 14.17 % at 0.0, 18.66 at 0.6. Costs one training run a "
        "seed, nothing where it is there.",
    ),
    "baselines": Command(
        BaselineOptions,
        f"{GRIDS}:baselines_command",
        "Table 2's other rows and a plain U-Net: Grad-CAM, Grad-CAM++, LayerCAM and LIME on the plain classifier, VAT with Grad-CAM. "
        "Printed for globules: 14.21, 7.95, 14.53, 3.36, 2.05 %. Costs a classifier, a VAT training (about three times a classifier) and a "
        "U-Net an indicator, a seed; LIME about five seconds an image on a CPU.",
    ),
    "tables": Command(
        TablesOptions,
        f"{GRIDS}:tables_command",
        "Tables 1 to 7 and figures 1, 3 to 10 again from the runs that are finished. Nothing is trained; seconds.",
    ),
    "audit": Command(
        AuditOptions,
        "melanoma.experiments.audit:audit_command",
        "Look through Dataset A and B: counts beside Table 1, broken and odd files, copies, leakage, overlap. No training; a minute for "
        "2600 images.",
    ),
    "explain": Command(
        ExplainOptions,
        "common.explanation.sheet:explain_command",
        "Draw why a finished run's model decides as it does, and measure the maps. Seconds to minutes, most of them LIME.",
    ),
    "predict": Command(PredictOptions, "common.report.predict:predict_command", "Classify images with a finished run, as CSV."),
    "report": Command(ReportOptions, "common.report.report:report_command", "Make a run's report and figures again."),
}

if __name__ == "__main__":
    sys.exit(main("melanoma", COMMANDS))
