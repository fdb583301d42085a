"""The cells of a grid as tasks of a Ray cluster: one cell, one task, one run folder on a file system that all nodes share.

Ray gives each task its CPUs and GPUs and starts one anew, elsewhere, whose worker was killed; the run folder says where it stopped.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common import stopping
from common.errors import UsageError
from common.grids import Engine
from common.runs.cells import GridCell, Start, run_cell, threads
from common.runs.files import lock
from common.settings import require

log = logging.getLogger(__name__)
_RETRIES = 3  # of a cell whose worker was killed
_STOP = 60.0  # seconds that stopped cells have to save
_FREE = 120.0  # seconds that a cell waits for the one before it to free the folder
_PASSED_ON = ("KERAS_", "TF_", "XLA_", "JAX_", "OMP_", "REPLICATION_", "NO_ALBUMENTATIONS_UPDATE", "MPLBACKEND")
_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def cluster(where: Engine, cells: Sequence[GridCell]) -> Iterator[Start]:
    """`common.runs.grid.engine` on Ray. UsageError for a cluster that does not answer, cannot hold a cell or sees no run folder."""
    found = _address(where.address)
    import ray

    _connect(ray, found)
    marker = Path(os.path.commonpath([cell.run_dir.absolute().parent for cell in cells])) / f".seen-{secrets.token_hex(4)}"
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        _check_size(nodes, where)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        _check_shared(ray, nodes, marker)
        log.info("Ray: %d nodes, %g CPUs, %g GPUs", len(nodes), _total(nodes, "CPU"), _total(nodes, "GPU"))
        given = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        environment = {**threads(where.cpus_per_cell), **given}
        task = ray.remote(num_cpus=where.cpus_per_cell, num_gpus=where.gpus_per_cell, max_retries=_RETRIES)(_task)
        refs: list[Any] = []

        def start(cell: GridCell) -> Any:
            refs.append(task.remote(cell, Path.cwd(), environment, marker))
            return refs[-1].future()

        try:
            yield start
        except BaseException:
            stopping.obeyed()
            for ref in refs:
                ray.cancel(ref)
            with suppress(Exception):
                ray.wait(refs, num_returns=len(refs), timeout=_STOP)
            raise
    finally:
        marker.unlink(missing_ok=True)
        ray.shutdown()


def _task(cell: GridCell, folder: Path, environment: Mapping[str, str], marker: Path) -> tuple[int, str]:
    """One cell, on the node that Ray chose."""
    if not (folder.is_dir() and marker.is_file()):
        return 2, _unseen(marker, [socket.gethostname()])
    os.chdir(folder)
    until = time.monotonic() + _FREE
    while cell.run_dir.is_dir() and time.monotonic() < until:  # a killed worker's cell saves what it has
        held = lock(cell.run_dir)
        if held is not None:
            held.close()
            break
        time.sleep(0.5)
    for _ in range(_RETRIES):
        code, reason = run_cell(cell, environment)
        if code != -signal.SIGKILL:  # the system's, where memory ran out
            break
    return code, reason


def _address(address: str) -> str:
    """Where the cluster is. UsageError when nothing answers there: Ray itself would try for more than a minute."""
    found = _running() if address == "auto" else address
    if found != "local":
        host, _, port = found.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError, OverflowError) as error:
            said = f" at {found} ({error})" if found else ""
            raise UsageError(
                f"--address {address}: no Ray cluster answers{said}; expected a head node, as `ray start --head` makes"
            ) from None
    return found


def _connect(ray: Any, address: str) -> None:
    """Join the cluster, or start one on this machine."""
    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryFile() as held:  # Ray tells the reason on file descriptor 2 only, again and again
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": paths}}, logging_level=logging.ERROR)
        except (Exception, SystemExit) as error:
            held.seek(0)
            said = " ".join(str(error).split())[:200]
            if b"AuthToken" in held.read() or "AuthToken" in said:
                said = "the cluster wants another token; expected RAY_AUTH_MODE=token and the head's RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            raise UsageError(f"--address {address}: {said}") from None
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            for number, handler in before.items():
                signal.signal(number, handler)


def _running() -> str:
    """Address of the cluster that was started on this machine last, or that RAY_ADDRESS names; "" where there is none."""
    noted = Path("/tmp/ray/ray_current_cluster")  # noqa: S108 (where Ray notes it)
    return os.environ.get("RAY_ADDRESS") or (noted.read_text(encoding="utf-8").strip() if noted.is_file() else "")


def _total(nodes: Sequence[Mapping[str, Any]], kind: str) -> float:
    return sum(node["Resources"].get(kind, 0) for node in nodes)


def _check_size(nodes: Sequence[Mapping[str, Any]], where: Engine) -> None:
    for option, kind, wanted in (("cpus", "CPU", where.cpus_per_cell), ("gpus", "GPU", where.gpus_per_cell)):
        most = max((node["Resources"].get(kind, 0) for node in nodes), default=0)
        require(wanted <= most, f"--{option}-per-cell {wanted:g}: no node of the cluster has more than {most:g}")


def _check_shared(ray: Any, nodes: Sequence[Mapping[str, Any]], marker: Path) -> None:
    """Every node must see the marker and this working folder."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    see = ray.remote(num_cpus=0)(_sees)
    asked = [
        see.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(Path.cwd(), marker)
        for node in nodes
    ]
    blind = [node["NodeManagerHostname"] for node, seen in zip(nodes, ray.get(asked), strict=True) if not seen]
    require(not blind, _unseen(marker, blind))


def _sees(folder: Path, marker: Path) -> bool:
    return folder.is_dir() and marker.is_file()


def _unseen(marker: Path, hosts: Sequence[str]) -> str:
    return (
        f"--run-dir {marker.parent}: the node {', '.join(sorted(set(hosts)))} does not see this folder or {Path.cwd()}; expected both on a "
        "file system that all nodes share"
    )
