"""Grids on Ray: two nodes on this machine, a worker killed in the middle of a cell, and everything that is refused in one line."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import pandas as pd
import pytest

from common.errors import UsageError
from common.grids import Engine
from common.runs.cells import GridCell
from common.runs.cluster import cluster
from common.runs.grid import run_grid
from common.runs.reading import RunFolder
from lmf.experiments.train import TrainSettings

ROOT = Path(__file__).resolve().parents[3]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (requirements-ray.txt)")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


def cells(folder: Path, cache: Path, network: Path | None = None) -> list[GridCell]:
    """Two runs of a network of two convolutions."""
    run = {"network": network, "image_size": 32, "epochs": 40, "batch_size": 16, "limit": 60, "cache_dir": cache}
    return [
        GridCell("lmf", "train", TrainSettings(**run, loss=loss, seed=seed), folder / f"{loss}{seed}", {"loss": loss, "seed": seed})
        for loss, seed in (("cce", 0), ("focal", 1))
    ]


def refused(tmp_path: Path, where: Engine) -> str:
    with pytest.raises(UsageError) as error, cluster(where, cells(tmp_path, tmp_path)):
        pytest.fail("it was not refused")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_cluster_at_the_address_is_one_line(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert f"--address {address}: no Ray cluster answers" in refused(tmp_path, Engine(engine="ray", address=address))
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert f"--address auto: no Ray cluster answers at {address}" in refused(tmp_path, Engine(engine="ray"))


@pytest.fixture(scope="module")
def nodes():
    """Address of a cluster of two nodes, one CPU each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # by default 15: on a busy machine they would hardly run
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


@pytest.mark.slow
@needs_ray
def test_what_the_cluster_cannot_do_is_one_line(nodes, tmp_path, monkeypatch):
    where = {"engine": "ray", "address": nodes}
    assert "--gpus-per-cell 2: no node of the cluster has more than 0" in refused(tmp_path, Engine(**where, gpus_per_cell=2))
    assert "--cpus-per-cell 5: no node of the cluster has more than 1" in refused(tmp_path, Engine(**where, cpus_per_cell=5))
    monkeypatch.setattr(Path, "touch", lambda *_, **__: None)  # what is written here is not seen there
    said = refused(tmp_path, Engine(**where))
    assert f"--run-dir {tmp_path}: the node" in said and "expected both on a file system that all nodes share" in said


TOKEN = """
import time
from ray.cluster_utils import Cluster
print(Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}).address, flush=True)
time.sleep(120)
"""


@pytest.mark.slow
@needs_ray
def test_a_wrong_token_is_one_line(tmp_path):
    own = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 32 * "0"}
    code = f"""
import pathlib, sys
from common.cli import _guarded
from common.grids import Engine
from common.runs.cells import GridCell
from common.runs.cluster import cluster
def act():
    with cluster(Engine(engine="ray", address=sys.argv[1]), [GridCell("lmf", "train", None, pathlib.Path({str(tmp_path)!r}) / "a")]): pass
sys.exit(_guarded(act))
"""
    head = subprocess.Popen([sys.executable, "-c", TOKEN], env=own, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        address = head.stdout.readline().strip()
        ended = subprocess.run(
            [sys.executable, "-c", code, address],
            env={**own, "RAY_AUTH_TOKEN": 32 * "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        head.terminate()
        head.wait()
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1, ended.stderr
    assert f"--address {address}: the cluster wants another token; expected RAY_AUTH_MODE=token" in ended.stderr


def killed_in_the_middle(folder: Path, done: list[int]) -> None:
    """SIGKILL for the Ray worker of the first cell that has a checkpoint."""
    for _ in range(2400):
        if any(folder.glob("*/checkpoints/*/*")):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words, status = entry.read_bytes(), (entry.parent / "status").read_text()
                except OSError:
                    continue
                if b"common.runs.cell" in words and (environ := (entry.parent / "environ").read_bytes()) and b"RAY_" in environ:
                    done.append(int(next(line for line in status.splitlines() if line.startswith("PPid")).split()[1]))
                    os.kill(done[0], signal.SIGKILL)
                    return
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@needs_ray
def test_a_killed_worker_changes_no_result(nodes, tmp_path, sample_cache, monkeypatch):
    layers = [keras.layers.Conv2D(8, 3, 2), keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.Conv2D(8, 3, 2)]
    network = tmp_path / "tiny.keras"
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), *layers]).save(network)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the order of sums is that of the threads
    here, there = (cells(tmp_path / name, sample_cache, network) for name in ("here", "there"))
    assert run_grid(here).exit_code == 0
    killed: list[int] = []
    killer = threading.Thread(target=killed_in_the_middle, args=(tmp_path / "there", killed))
    killer.start()
    outcome = run_grid(there, Engine(engine="ray", address=nodes))
    killer.join()
    assert killed and outcome.exit_code == 0 and outcome.ran == 2, outcome
    for one, other in zip(here, there, strict=True):
        tables = [RunFolder(cell.run_dir).read_table("predictions.csv") for cell in (one, other)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
        losses = [RunFolder(cell.run_dir).read_table("history.csv")["loss"].tolist() for cell in (one, other)]
        assert losses[0] == losses[1]
    assert not list((tmp_path / "there").glob(".seen-*"))


SLOW = """
import sys
from pathlib import Path
from common.runs.cells import GridCell

class Slow(GridCell):
    def command(self):
        code = (
            "import signal, sys, time, pathlib\\nout = pathlib.Path(sys.argv[1])\\n"
            "said = lambda n, f: (out.write_text(f'stopped {n}'), sys.exit(1))\\n"
            "[signal.signal(n, said) for n in (2, 15)]\\nout.write_text('runs')\\ntime.sleep(120)"
        )
        return [sys.executable, "-c", code, str(self.run_dir)]
    def stdin(self):
        return b""

def grid():
    from common.grids import Engine
    from common.runs.grid import run_grid
    folder = Path(sys.argv[1])
    run_grid([Slow("toy", "train", None, folder / "cells" / name, {}) for name in "abc"], Engine(engine="ray", address=sys.argv[2]))

if __name__ == "__main__":
    import slow
    from common.cli import _guarded
    sys.exit(_guarded(slow.grid))
"""


@pytest.mark.slow
@needs_ray
def test_ctrl_c_stops_the_cells_in_order(nodes, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "slow.py"), str(tmp_path), nodes], env=own, stderr=subprocess.PIPE, text=True
    )
    states = {name: tmp_path / "cells" / name for name in "abc"}
    for _ in range(2400):
        if sum(path.is_file() and path.read_text() == "runs" for path in states.values()) == 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and said.splitlines()[-1].startswith("interrupted"), said
    found: list[str] = []
    for _ in range(600):  # Ray calls a task cancelled when it has told the worker so, which on a busy machine is before the cell has ended
        if (found := sorted(path.read_text() for path in states.values() if path.is_file())) == ["stopped 15", "stopped 15"]:
            break
        time.sleep(0.1)
    assert found == ["stopped 15", "stopped 15"]
