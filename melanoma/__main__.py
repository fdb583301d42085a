"""`python -m melanoma <command> [options]`: the commands of the melanoma study."""

import sys

from common.cli import Command, PredictOptions, ReportOptions, main
from melanoma.config import BioUNetOptions, PretrainOptions

COMMANDS = {
    "pretrain": Command(
        PretrainOptions,
        "melanoma.experiments.single:pretrain_command",
        "Train subnetwork 1, SimCLR on Dataset B, and judge its embeddings by k-NN and a linear probe. The paper prints no number for it. "
        "Real data want a GPU: an epoch of 10,000 images, ResNet50 at 224 px, takes about a minute on one large GPU. Disk: 150 kB of cache "
        "an image at 224 px, 100 MB for the encoder. The sample takes a minute on two CPU cores.",
    ),
    "train": Command(
        BioUNetOptions,
        "melanoma.experiments.single:train_command",
        "Train Bio-U-Net whole: SimCLR, classifier, twelve heatmaps to masks, five frozen encoders under one classifier. Printed: accuracy "
        "0.82; continuous Dice 15.16 % globules, 2.33 milia-like cysts, 20.89 negative network, 32.79 pigment network, 14.17 streaks "
        "(Tables 2 and 3). Five ResNet50 at 512 px want a GPU and a day; the sample takes about five minutes on two CPU cores. Disk: "
        "150 kB of cache an image at 224 px, five times 100 MB for the model.",
    ),
    "predict": Command(PredictOptions, "common.evaluation.predict:predict_command", "Classify images with a finished run, as CSV."),
    "report": Command(ReportOptions, "common.evaluation.report:report_command", "Make a run's report and figures again."),
}

if __name__ == "__main__":
    sys.exit(main("melanoma", COMMANDS))
