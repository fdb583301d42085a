"""`feedback serve`: a session behind a web server that only this machine reaches and that sends the browser nowhere else."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from common import device, stopping
from common.data.sample import ensure_sample
from common.errors import UsageError
from common.runs.files import lock, read_json
from common.settings import recipe
from feedback.experiments.serve import ServeSettings
from feedback.experiments.simulate import DESCRIBED, SimulateSettings, stored
from feedback.page.files import ImageFolder
from feedback.page.gate import HOST, Gate, bounded
from feedback.page.guard import GuardLimits, run_images
from feedback.page.log import CorrectionLog
from feedback.page.model import Learning, ReplaySet, TunedModel
from feedback.page.session import CorrectionSession
from feedback.training.baseline import sample_base
from feedback.training.stage import load_classifier

log = logging.getLogger(__name__)

# Events that wait: of all tabs together, and of one, so that a tab that sends without end does not keep the others out.
QUEUE, QUEUE_OF_A_TAB = 32, 6
PREFIX = "feedback-page-"


def run_serve(options: ServeSettings) -> None:
    """Open the session and serve its page until Ctrl-C."""
    session = open_session(options)
    try:
        with pictures_folder() as temporary:
            server, listener, address = build_server(session, options, temporary)
            log.info("correction log: %s", session.log.path)
            log.info("open %s in a browser on this machine; Ctrl-C ends", address)
            try:
                server.run(sockets=[listener])
            except KeyboardInterrupt:  # uvicorn passes it on after it has closed everything
                stopping.obeyed()
                log.info("stopped; the corrections are in %s", session.log.path)
    finally:
        session.close()


@contextmanager
def pictures_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder for the pictures that the page shows, gone afterwards; those that killed pages have left go now.

    A page holds the lock of its folder, so one whose lock is free has no page.
    """
    parent = parent or Path(tempfile.gettempdir())
    for old in parent.glob(f"{PREFIX}*"):
        try:
            facts = old.lstat()
            if old.is_symlink() or facts.st_uid != os.getuid() or (not (old / ".lock").exists() and time.time() - facts.st_mtime < 60):
                continue  # not ours, or just being made
            held = lock(old)
        except (OSError, UsageError):
            continue
        if held is not None:
            shutil.rmtree(old, ignore_errors=True)
            held.close()
            log.info("removed the pictures of a page that was killed: %s", old)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent) as folder:
        held = lock(Path(folder))
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        try:
            yield pictures
        finally:
            if held is not None:
                held.close()


def open_session(options: ServeSettings) -> CorrectionSession:
    """The session of the options: the run's model, its log, the images and the guard.

    Raises:
        UsageError: no images, a model that cannot be loaded, a log of another model or in use.
    """
    device.configure(options.seed)
    run = options.run or sample_base("described", options.cache_dir)
    config = read_json(run / "config.json")
    settings, learning = map_settings(config), learning_of(options)
    log_dir = options.log or Path("runs") / "feedback" / "page" / run.name
    images = options.images or ensure_sample("isic2018", options.cache_dir) / "ISIC2018_Task1-2_Training_Input"
    folder = ImageFolder(images, log_dir / "uploads", options.max_upload_mb)
    # A session that is taken up goes on beside the images that its corrections were learned beside.
    replayed = ReplaySet.load(log_dir / "base" / "replay.npz") if (log_dir / "session.json").is_file() else None
    if replayed is None and options.replay_images:
        found = run_images(run, config, "train", options.replay_images, options.data_dir)
        replayed = ReplaySet(*found) if found is not None else None
    model = TunedModel(load_classifier(run), settings, learning, replayed)
    facts = {
        "run": run.name, "classes": list(config["classes"]), "image_size": model.size,
        "resize_filter": config["resize_filter"],
        "simulation": recipe(settings), "learning": asdict(learning), "replayed": 0 if replayed is None else len(replayed.labels),
        "seed": options.seed, "base_digest": model.digest(), "synthetic": bool(config.get("synthetic")),
    }  # fmt: skip
    opened = CorrectionLog.create(log_dir, facts, run / "model.keras")
    try:
        if replayed is not None:
            if not opened.replay_file.is_file():
                replayed.save(opened.replay_file)
            opened.note("base/replay.npz")
        watched = run_images(run, config, "validation", options.guard_images, options.data_dir) if options.guard_images else None
        log.info("preparing the model (some seconds)")
        limits = GuardLimits(options.guard_drop, options.guard_share, options.rollback == "automatic")
        return CorrectionSession(opened, model, folder, watched, limits, options.keep_states)
    except BaseException:
        opened.release()
        raise


def map_settings(config: dict[str, Any]) -> SimulateSettings:
    """Whose map is shown and corrected: the run's own where it is a simulation, else as described."""
    return stored(config["settings"]) if config.get("experiment") in ("simulate", "slices") else DESCRIBED


def learning_of(options: ServeSettings) -> Learning:
    """How a correction is learned."""
    return Learning(**{item.name: getattr(options, item.name) for item in fields(Learning) if hasattr(options, item.name)})


def build_server(session: CorrectionSession, options: ServeSettings, temporary: Path) -> tuple[Any, socket.socket, str]:
    """The web server, the socket it is to run on, and the page's address with its token. Gradio keeps its pictures in `temporary`.

    Raises:
        UsageError: the port is taken.
    """
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(temporary), HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    from feedback.page import app

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, options.port))
    except OSError:
        listener.close()
        raise UsageError(f"--port {options.port}: in use by another program; choose another, or 0 for any free one") from None
    port = listener.getsockname()[1]
    page = app.build(session, options.order, temporary).queue(max_size=QUEUE)
    bounded(page, QUEUE_OF_A_TAB)
    site = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None), page, path="/", server_name=HOST, server_port=port, footer_links=[],
        run_history=False, allowed_paths=[], max_file_size=int(options.max_upload_mb * 1e6), ssr_mode=False, pwa=False, mcp_server=False,
        enable_monitoring=False, show_error=False, theme=app.theme(), css=app.CSS, head=app.HEAD,
    )  # fmt: skip
    # Gradio checks what file an event names only once it has been launched, which mounting does not count as.
    page.has_launched = True
    token = secrets.token_urlsafe(24)
    gate = Gate(site, port, token, max_body=int(options.max_upload_mb * 1e6) + 2**20)
    config = uvicorn.Config(gate, host=HOST, port=port, log_level="warning", timeout_graceful_shutdown=2)
    return uvicorn.Server(config), listener, f"http://{HOST}:{port}/?token={token}"
