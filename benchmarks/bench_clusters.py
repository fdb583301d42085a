"""A grid of eight sample cells one by one, two at a time and on Ray, and an epoch on one device and on two virtual ones.

The cells are the least that a run can be (a network of two convolutions, one epoch), so that what is measured is the grid and not the
training. Wants an idle machine: the load stands in the lines.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pairs import row, skipped
from common.grids import Engine
from common.runs.cells import GridCell
from common.runs.grid import engine, run_grid
from lmf.experiments.train import TrainSettings

CELLS = 8
EPOCH = """
import sys, time
import keras, numpy as np
from common import device
from common.backbones import build_backbone
from common.data.pipeline import Batches
device.configure(0, devices=int(sys.argv[1]))
rng = np.random.default_rng(0)
body = build_backbone("mobilenetv2_035", 96, pooling="avg")
model = keras.Model(body.input, keras.layers.Dense(7, activation="softmax")(body.output))
model.compile("adam", "sparse_categorical_crossentropy")
batches = Batches(rng.integers(0, 256, (256, 96, 96, 3)).astype("float32"), rng.integers(0, 7, 256).astype("int32"), batch_size=32)
times = []
for _ in range(4):
    began = time.perf_counter()
    model.fit(batches, shuffle=False, verbose=0)
    times.append(time.perf_counter() - began)
print(min(times[1:]))
"""


def cells(folder: Path, network: Path, cache: Path) -> list[GridCell]:
    settings = TrainSettings(network=network, image_size=32, epochs=1, batch_size=16, limit=60, cache_dir=cache)
    return [GridCell("lmf", "train", settings, folder / str(number), {"number": number}) for number in range(CELLS)]


def seconds(wanted: Sequence[GridCell], where: Engine) -> float:
    """Wall time of the grid without the time to reach the engine."""
    began = time.perf_counter()
    with engine(where, wanted):
        reached = time.perf_counter() - began
    began = time.perf_counter()
    assert run_grid(wanted, where).exit_code == 0
    return time.perf_counter() - began - reached


def main() -> list[dict[str, Any]]:
    import keras

    load = f"load {os.getloadavg()[0]:.1f} before"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layers = [keras.layers.Conv2D(8, 3, 2), keras.layers.BatchNormalization(), keras.layers.ReLU()]
        network = folder / "tiny.keras"
        keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), *layers]).save(network)
        run_grid(cells(folder / "first", network, folder / "cache")[:1])  # draws the sample
        alone = seconds(cells(folder / "alone", network, folder / "cache"), Engine())
        pair = seconds(cells(folder / "pair", network, folder / "cache"), Engine(parallel=2))
        rows = [row(f"{CELLS} cells, --parallel 2 against one by one", pair / alone, 0.75, at_most=True, detail=f"{alone:.1f} s; {load}")]
        if importlib.util.find_spec("ray") is None:
            return [*rows, skipped("grids on Ray", "ray"), *devices()]
        from ray.cluster_utils import Cluster

        for nodes, peer in ((1, alone), (2, pair)):
            made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            for _ in range(nodes - 1):
                made.add_node(num_cpus=1)
            took = seconds(cells(folder / f"ray{nodes}", network, folder / "cache"), Engine(engine="ray", address=made.address))
            made.shutdown()
            detail = f"{took:.1f} s against {peer:.1f} s without Ray; {load}"
            rows.append(row(f"overhead of Ray per cell, nodes: {nodes}", (took - peer) / CELLS, 3, "s", at_most=True, detail=detail))
    return [*rows, *devices()]


def devices() -> list[dict[str, Any]]:
    """Seconds an epoch; the two virtual devices divide the same cores, so this is what sharing costs, not what it gains."""
    if importlib.util.find_spec("jax") is None:
        return [skipped("two devices", "jax")]
    own = {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    one, two = (
        float(subprocess.run([sys.executable, "-c", EPOCH, n], env=own, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
        for n in "12"
    )
    return [row("seconds an epoch, two virtual devices against one", two / one, 1.5, at_most=True, detail=f"{one:.2f} s and {two:.2f} s")]
