import asyncio
import json
import re

import pytest

from common.errors import UsageError
from feedback.page.log import CorrectionLog
from feedback.page.options import ServeOptions
from feedback.page.serve import OnlyHere, learning_settings

PAGE = (
    b'<head><meta property="og:url" content="https://elsewhere.example/" />\n'
    b'<meta\n name="twitter:card" content="x" /><title>t</title></head>'
)


async def site(scope, receive, send):
    """Answers a page in two parts, as frameworks do."""
    kind = b"text/html; charset=utf-8" if scope["path"] == "/" else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(len(PAGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE[:40], "more_body": True})
    await send({"type": "http.response.body", "body": PAGE[40:]})


def ask(path="/", **headers):
    events = []

    async def send(event):
        events.append(event)

    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(OnlyHere(site, 7860)({"type": "http", "path": path, "headers": sent}, None, send))
    body = b"".join(event.get("body", b"") for event in events[1:])
    return events[0]["status"], dict(events[0]["headers"]), body


def test_the_page_names_no_other_address_and_forbids_them():
    status, headers, body = ask(host="127.0.0.1:7860", origin="http://127.0.0.1:7860")
    assert (status, body) == (200, b"<head>\n<title>t</title></head>")
    assert headers[b"content-length"] == str(len(body)).encode()
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert not re.search(r"https?:|\*", policy)


def test_other_content_passes_unchanged():
    status, headers, body = ask("/data", host="localhost:7860")
    assert (status, body) == (200, PAGE)
    assert b"content-security-policy" in headers


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example:7860"}, {}, {"host": "127.0.0.1:7860", "origin": "http://evil.example"}, {"host": "127.0.0.1:80"}]
)
def test_requests_that_name_another_site_are_refused(headers):
    status, _, body = ask(**headers)
    assert (status, b"own machine only" in body) == (403, True)


def test_learning_settings_are_the_runs_with_one_image_at_a_time(base_run):
    options = ServeOptions(run=base_run, images=base_run, learning_rate=0.5)
    described = learning_settings({"settings": {"image_size": 16}}, options)
    assert (described.explanation_weight, described.batch_size, described.learning_rate) == (0.3, 1, 0.5)
    stored = {"explanation_weight": 1.0, "explanation_loss": "distance", "layer": "conv2", "batch_size": 8, "feedback": "wrong", "seed": 3}
    tuned = learning_settings({"settings": stored}, options)
    assert (tuned.explanation_weight, tuned.explanation_loss, tuned.layer) == (1.0, "distance", "conv2")
    assert (tuned.batch_size, tuned.feedback) == (1, "all")
    own = learning_settings({"settings": stored}, ServeOptions(run=base_run, images=base_run, explanation_weight=0.0))
    assert own.explanation_weight == 0


def test_a_log_of_another_model_is_refused_and_left_alone(start, tmp_path):
    session = start()
    session.correct("ISIC_0000000.png", "both_right")
    session.close()
    path = tmp_path / "log" / "session.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "base_digest": "0" * 16}))
    with pytest.raises(UsageError, match=r"belongs to another model or other settings \(base_digest\)"):
        start()
    log = CorrectionLog.open(tmp_path / "log")
    assert len(log.entries()) == 1
    log.release()


def test_without_the_runs_images_there_is_no_guard(start, base_run):
    local = base_run / "local.json"
    text = local.read_text()
    local.unlink()
    try:
        session = start()
    finally:
        local.write_text(text)
    assert session.guard_reading() is None
    assert session.correct("ISIC_0000000.png", "both_right").entry["guard"] is None
