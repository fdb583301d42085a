"""`python -m cervical COMMAND`: the command line of the study."""

import sys

import common.stopping  # noqa: F401 (first: from here on Ctrl-C shows no traceback of an import)
from cervical.config import (
    AuditOptions,
    CompareLossesOptions,
    ContrastiveOptions,
    CostSensitiveOptions,
    FinetuneOptions,
    FreezeDepthOptions,
    SizeAnalysisOptions,
    TablesOptions,
)
from common.cli import Command, PredictOptions, ReportOptions, main
from common.explanation.options import ExplainOptions

SAMPLE = "On the default `sample` (300 drawn cells, 64 px, MobileNetV2 0.35 from scratch, few epochs) it is a demonstration: "

COMMANDS = {
    "contrastive": Command(
        ContrastiveOptions,
        "cervical.training:run_contrastive",
        "Supervised contrastive learning in two stages (paper Table III, thesis Table 6.4). Printed: VGG16 0.9729, VGG19 "
        "0.9668, ResNet50 0.9643, "
        "MobileNetV2 0.9581, DenseNet169 0.9347; --control adds the plain cross-entropy run that the authors did not publish "
        "(VGG16 0.9791). "
        + SAMPLE
        + "24 + 20 epochs, under 3 minutes on 2 cores, 60 MB of disk. SIPaKMeD at the paper's size (18,123 images, 50 epochs): "
        "3 to 20 minutes a "
        "network on a large GPU, about 3.5 hours for MobileNetV2 on 2 cores, 0.8 GB of cache.",
    ),
    "finetune": Command(
        FinetuneOptions,
        "cervical.training:run_finetune",
        "Fine-tuning with the first layers frozen (paper Table I, thesis Table 6.2). Printed: DenseNet169 0.9717, MobileNetV2 "
        "0.9655, VGG16 0.9557, "
        "ResNet50 0.9458, VGG19 0.9421. "
        + SAMPLE
        + "12 epochs, under 2 minutes on 2 cores. SIPaKMeD with MobileNetV2: about 4 minutes for 10 epochs without copies on 2 "
        "cores; with 6 copies "
        "and 50 epochs about 2 hours there, minutes on a GPU; 0.8 GB of cache.",
    ),
    "cost-sensitive": Command(
        CostSensitiveOptions,
        "cervical.training:run_cost_sensitive",
        "Fine-tuning with class costs or a cost matrix; reports the expected cost beside accuracy (paper Table II, thesis "
        "Table 6.3). Printed: "
        "DenseNet169 0.9729, VGG16 0.9594, MobileNetV2 0.9557, ResNet50 0.9421, VGG19 0.9409. Costs as much as finetune, twice that with "
        "--init finetuned.",
    ),
    "compare-losses": Command(
        CompareLossesOptions,
        "cervical.grids.losses:run_compare_losses",
        "Is N-pairs the best loss? Encoders and classifiers with each loss, their curves (thesis figure 6.3), and the control. "
        "Printed: N-pairs "
        "falls to 2.09, the authors' NT-Xent settles at 3.4333, their triplet loss at 0.2; no accuracies. Costs one "
        "contrastive run a loss and seed.",
    ),
    "freeze-depth": Command(
        FreezeDepthOptions,
        "cervical.grids.depth:run_freeze_depth",
        'The search behind "maximum performance when we froze the first 86, 100, 249, 13 and 17 layers" (paper III-C.1): accuracy on '
        "validation images against the number of frozen layers. Nothing printed beyond the five numbers. Costs one finetune run a depth.",
    ),
    "tables": Command(
        TablesOptions,
        "cervical.grids.tables:run_tables",
        "Every table of the paper and the thesis: five networks by three methods and the controls, ours beside printed, "
        "methods against each other on "
        "the same test images (Tables I-IV; 4.1, 4.2, 6.1-6.4, 7.1). Runs only what is missing. At full size 20 runs: hours on "
        "a GPU; any subset "
        "with --backbones, --methods, --seeds.",
    ),
    "size-analysis": Command(
        SizeAnalysisOptions,
        "cervical.figures:run_size_analysis",
        "Where the 110 pixels come from: scatter, density and densest size of the images (thesis figure 5.2; printed 98.5 x "
        "108.9, smallest 62x48, "
        "largest 531x553), and cells of each class (figures 4.1-4.5). Seconds; no training.",
    ),
    "audit": Command(
        AuditOptions,
        "cervical.figures:run_audit",
        "Counts against the official ones (4049: 813, 825, 793, 787, 831), unreadable files, odd modes, copies, sizes, and "
        "leakage of both splits "
        "(printed split: 710 of 812 test cells share a slide with training cells). About a minute for SIPaKMeD.",
    ),
    "explain": Command(
        ExplainOptions,
        "common.explanation.sheet:explain_command",
        "Why a finished run's model decides as it does: Grad-CAM, Grad-CAM++, Score-CAM, LayerCAM and LIME on one right and one wrong "
        "test image a class (paper figures 3-6, thesis 6.5-6.8; nothing printed but pictures). About a minute for MobileNetV2 on 2 cores.",
    ),
    "predict": Command(PredictOptions, "common.report.predict:predict_command", "Classify images with a finished run, as CSV."),
    "report": Command(
        ReportOptions, "common.report.report:report_command", "Make a run's report and figures again from its predictions.csv."
    ),
}

if __name__ == "__main__":
    sys.exit(main("cervical", COMMANDS))
