"""`python -m lmf <command> [options]`: the commands of the LMF study."""

import sys

import common.stopping  # noqa: F401 (first: from here on Ctrl-C shows no traceback of an import)
from common.cli import main

COMMANDS = {
    "train": "lmf.experiments.train",
    "sweep": "lmf.experiments.sweep",
    "tune": "lmf.experiments.tune",
    "tables": "lmf.experiments.tables",
    "retrain": "lmf.experiments.retrain",
    "gradients": "lmf.experiments.gradients",
    "audit": "lmf.experiments.audit",
    "explain": "lmf.experiments.explain",
    "predict": "common.commands.predict",
    "report": "common.commands.report",
    "calibrate": "common.commands.calibrate",
    "export": "common.commands.export",
    "validate": "common.commands.validate",
}

if __name__ == "__main__":
    sys.exit(main("lmf", COMMANDS))
