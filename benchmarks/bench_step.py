"""Images per second of one training step, side by side: this suite on TensorFlow and on JAX, and plain PyTorch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

from benchmarks.pairs import skipped
from benchmarks.step import BATCH, PIXELS

NEEDS = {"tensorflow": ("tensorflow",), "tensorflow-bfloat16": ("tensorflow",), "torch": ("torch",), "jax": ("jax",)}
WITHOUT_JAX = tuple(name for name in NEEDS if name != "jax")
# The cervical study's five; on JAX the two of the LMF study's question.
NETWORKS = {
    "mobilenetv2": tuple(NEEDS),
    "resnet50": tuple(NEEDS),
    "densenet169": WITHOUT_JAX,
    "vgg16": WITHOUT_JAX,
    "vgg19": WITHOUT_JAX,
}


def main() -> list[dict[str, Any]]:
    """Each framework in a process of its own, one after another; no target, a comparison."""
    rows = []
    for network, frameworks in NETWORKS.items():
        for framework, packages in ((name, NEEDS[name]) for name in frameworks):
            name = f"training step of {network}, batch {BATCH}, {PIXELS} px, {framework}"
            absent = [package for package in packages if importlib.util.find_spec(package) is None]
            if absent:
                rows.append(skipped(name, absent[0]))
                continue
            ended = subprocess.run(
                [sys.executable, "-m", "benchmarks.step", framework, network], stdout=subprocess.PIPE, text=True, check=True
            )
            value = BATCH / float(ended.stdout.split()[-1])
            print(f"  {name:<62} {value:>9.3g} images/s", flush=True)
            rows.append({"name": name, "value": value, "unit": "images/s", "target": None, "met": None, "detail": ""})
    return rows
