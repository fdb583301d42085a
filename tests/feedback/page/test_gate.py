import asyncio
import re

import pytest

from feedback.page.gate import Gate

TOKEN = "a-random-word"
COOKIE = f"feedback-7860={TOKEN}"
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


def ask(path="/", query="", method="GET", **headers):
    events = []

    async def send(event):
        events.append(event)

    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": sent}
    asyncio.run(Gate(site, 7860, TOKEN, max_body=1000)(scope, None, send))
    body = b"".join(event.get("body", b"") for event in events[1:])
    return events[0]["status"], dict(events[0]["headers"]), body


def test_the_page_names_no_other_address_and_forbids_them():
    status, headers, body = ask(host="127.0.0.1:7860", origin="http://127.0.0.1:7860", cookie=COOKIE)
    assert (status, body) == (200, b"<head>\n<title>t</title></head>")
    assert headers[b"content-length"] == str(len(body)).encode()
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert not re.search(r"https?:|\*", policy)


def test_other_content_passes_unchanged():
    status, headers, body = ask("/data", host="localhost:7860", cookie=f"a={{}}; {COOKIE}; b")
    assert (status, body) == (200, PAGE)
    assert b"content-security-policy" in headers


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example:7860"}, {}, {"host": "127.0.0.1:7860", "origin": "http://evil.example"}, {"host": "127.0.0.1:80"}]
)
def test_requests_that_name_another_site_are_refused(headers):
    status, _, body = ask(**headers, cookie=COOKIE)
    assert (status, b"own machine only" in body) == (403, True)


def test_the_address_with_the_token_gives_a_cookie_and_nothing_else_opens():
    status, headers, body = ask(query=f"token={TOKEN}", host="127.0.0.1:7860")
    assert (status, headers[b"location"], body) == (303, b"/", b"")
    assert headers[b"set-cookie"] == f"{COOKIE}; Path=/; HttpOnly; SameSite=Strict".encode()


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/queue/join", "/gradio_api/file=/etc/passwd", "/static/x", "/anything"])
@pytest.mark.parametrize(
    "given", [{}, {"query": "token=b"}, {"query": "token="}, {"cookie": "feedback-7860=b"}, {"cookie": f"feedback-1={TOKEN}"}]
)
def test_without_the_token_every_route_is_closed(path, given):
    for method in ("GET", "POST"):
        status, headers, body = ask(path, method=method, host="127.0.0.1:7860", **given)
        assert (status, b"with its token" in body) == (403, True)
        assert b"set-cookie" not in headers


@pytest.mark.parametrize(
    "headers", [{"content_length": "1001"}, {"content_length": "-1"}, {"content_length": "9" * 40}, {"transfer_encoding": "chunked"}]
)
def test_a_body_that_is_too_large_or_unannounced_is_refused(headers):
    assert ask("/gradio_api/upload", method="POST", host="127.0.0.1:7860", cookie=COOKIE, **headers)[0] == 413
    assert ask("/gradio_api/upload", method="POST", host="127.0.0.1:7860", cookie=COOKIE, content_length="1000")[0] == 200


def test_a_websocket_without_the_token_is_closed():
    events = []

    async def send(event):
        events.append(event)

    asyncio.run(Gate(site, 7860, TOKEN)({"type": "websocket", "path": "/", "headers": [(b"host", b"localhost:7860")]}, None, send))
    assert events == [{"type": "websocket.close", "code": 1008}]
