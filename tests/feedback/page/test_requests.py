"""Hostile requests to the running page, one tiny server for all of them. Skipped where Gradio is not installed."""

import http.cookiejar
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from feedback.experiments.serve import ServeSettings

gradio = pytest.importorskip("gradio", reason="gradio is not installed (requirements-page.txt)")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Gradio's and Starlette's own


class Client:
    """What a browser does, and what it does not: requests with the page's cookie."""

    def __init__(self, address: str, temporary: Path) -> None:
        self.root, self.temporary = address.split("?")[0], temporary
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        self.opener.open(address, timeout=30).read()
        self.config = json.loads(self.get("config")[1])
        self.sessions = 0

    def get(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(self.root + path, data, {name.replace("_", "-"): value for name, value in headers.items()})
        try:
            with self.opener.open(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def function(self, name: str) -> dict[str, Any]:
        """The event that presses the component with this elem_id."""
        (component,) = (item["id"] for item in self.config["components"] if item["props"].get("elem_id") == name)
        return next(item for item in self.config["dependencies"] if [component] == [target[0] for target in item["targets"]])

    def event(self, function: int, data: list[Any]) -> bytes:
        """Join the queue and wait for the outcome: everything that the server says of it."""
        self.sessions += 1
        session = f"session{self.sessions}"
        body = json.dumps({"data": data, "fn_index": function, "session_hash": session}).encode()
        status, said = self.get("gradio_api/queue/join", body, content_type="application/json")
        if status != 200:
            return said
        with self.opener.open(f"{self.root}gradio_api/queue/data?session_hash={session}", timeout=60) as stream:
            for line in stream:
                said += line
                if b"process_completed" in line or b"unexpected_error" in line:
                    break
        return said


@pytest.fixture
def client(start, base_run, tmp_path) -> Iterator[Client]:
    from feedback.page.serve import build_server

    session, temporary = start(), tmp_path / "gradio"
    temporary.mkdir()
    before = dict(os.environ)
    server, listener, address = build_server(session, ServeSettings(run=base_run, images=base_run.parent / "images", port=0), temporary)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield Client(address, temporary)
    server.should_exit = True
    thread.join(20)
    os.environ.clear()
    os.environ.update(before)


def test_an_event_reads_no_file_of_this_machine(client, tmp_path):
    secret, outside = tmp_path / "secret.txt", tmp_path / "outside.png"
    secret.write_text("SECRET-4711")
    Image.new("RGB", (48, 36)).save(outside)
    files = [{"path": str(path), "meta": {"_type": "gradio.FileData"}} for path in (secret, outside, "/etc/passwd")]
    for depends in client.config["dependencies"]:
        for place in range(len(depends["inputs"])):
            for file in files:
                data: list[Any] = [None] * len(depends["inputs"])
                data[place] = file
                client.event(depends["id"], data)
    kept = [path for path in client.temporary.rglob("*") if path.is_file()]
    assert not [path for path in kept if path.suffix != ".png" or b"SECRET-4711" in path.read_bytes()]
    assert not [path for path in kept if path.name == "outside.png"]
    uploads = tmp_path / "log" / "uploads"
    assert not uploads.is_dir() or not list(uploads.iterdir())


def test_an_honest_upload_is_taken_in(client, tmp_path):
    Image.new("RGB", (48, 36), (250, 0, 0)).save(tmp_path / "mine.png")
    line = b"--frontier\r\n"
    head = b'Content-Disposition: form-data; name="files"; filename="mine.png"\r\nContent-Type: image/png\r\n\r\n'
    body = line + head + (tmp_path / "mine.png").read_bytes() + b"\r\n--frontier--\r\n"
    status, said = client.get("gradio_api/upload", body, content_type="multipart/form-data; boundary=frontier")
    assert status == 200
    upload = client.function("upload")
    file = {"path": json.loads(said)[0], "meta": {"_type": "gradio.FileData"}}
    answer = client.event(upload["id"], [file, None, 0.5])
    assert b"upload/" in answer and b'"success":true' in answer
    assert len(list((tmp_path / "log" / "uploads").glob("*.png"))) == 1


def test_names_are_names_of_the_list(client):
    opened = client.function("image-name")
    for name in ("../secret.txt", "/etc/passwd", "upload/../../x", "ISIC_0000000.png/../../run/model.keras", {"a": 1}, ["x"], 7):
        said = client.event(opened["id"], [name, None, 0.5])
        assert b"root:" not in said and b"Traceback" not in said
        assert b'"src"' not in said
    assert b"ISIC_0000001.png" in client.event(opened["id"], ["ISIC_0000001.png", None, 0.5])


def test_one_tab_cannot_fill_the_queue(client):
    following = client.function("next")["id"]
    body = json.dumps({"data": ["name", None, 0.5], "fn_index": following, "session_hash": "greedy"}).encode()
    codes = [client.get("gradio_api/queue/join", body, content_type="application/json")[0] for _ in range(40)]
    assert 503 in codes and codes[0] == 200
    body = json.dumps({"data": ["name", None, 0.5], "fn_index": following, "session_hash": "modest"}).encode()
    assert client.get("gradio_api/queue/join", body, content_type="application/json")[0] == 200
