"""`python -m cervical COMMAND`: the command line of the study."""

import sys

import common.stopping  # noqa: F401 (first: from here on Ctrl-C shows no traceback of an import)
from common.cli import main

COMMANDS = {
    "contrastive": "cervical.experiments.contrastive",
    "finetune": "cervical.experiments.finetune",
    "cost-sensitive": "cervical.experiments.cost_sensitive",
    "compare-losses": "cervical.experiments.compare_losses",
    "freeze-depth": "cervical.experiments.freeze_depth",
    "tune": "cervical.experiments.tune",
    "tables": "cervical.experiments.tables",
    "size-analysis": "cervical.experiments.size_analysis",
    "audit": "cervical.experiments.audit",
    "explain": "cervical.experiments.explain",
    "predict": "common.commands.predict",
    "report": "common.commands.report",
    "calibrate": "common.commands.calibrate",
    "export": "common.commands.export",
    "validate": "common.commands.validate",
}

if __name__ == "__main__":
    sys.exit(main("cervical", COMMANDS))
