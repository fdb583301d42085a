"""`python -m feedback COMMAND`: the commands of the study, one module each in `experiments/`."""

import sys

import common.stopping  # noqa: F401 (first: from here on Ctrl-C shows no traceback of an import)
from common.cli import main

NAMES = (
    *("baseline", "simulate", "search", "slices", "tables", "thresholds"),
    *("audit", "serve", "replay", "explain", "report"),
)
COMMANDS = {name: f"feedback.experiments.{name}" for name in NAMES}
COMMANDS |= {name: f"common.commands.{name}" for name in ("calibrate", "export", "predict", "validate")}

if __name__ == "__main__":
    sys.exit(main("feedback", COMMANDS))
