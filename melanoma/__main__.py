"""`python -m melanoma COMMAND`: the command line of the study."""

import sys

import common.stopping  # noqa: F401 (first: from here on Ctrl-C shows no traceback of an import)
from common.cli import main
from common.explanation.options import ExplainOptions
from common.settings import Command

COMMANDS: dict[str, Command | str] = {
    "pretrain": "melanoma.experiments.pretrain",
    "train": "melanoma.experiments.train",
    "shared": "melanoma.experiments.shared",
    "ablation": "melanoma.experiments.ablation",
    "repeats": "melanoma.experiments.repeats",
    "multitask": "melanoma.experiments.multitask",
    "thresholds": "melanoma.experiments.thresholds",
    "baselines": "melanoma.experiments.baselines",
    "tables": "melanoma.experiments.tables",
    "audit": "melanoma.experiments.audit",
    "explain": Command(
        ExplainOptions,
        "melanoma.drawing:explain_command",
        "Draw why a finished run's model decides as it does, and measure the maps. Seconds to minutes, most of them LIME.",
    ),
    "predict": "melanoma.experiments.predict",
    "report": "common.commands.report",
    "export": "common.commands.export",
    "calibrate": "common.commands.calibrate",
    "validate": "common.commands.validate",
}

if __name__ == "__main__":
    sys.exit(main("melanoma", COMMANDS))
