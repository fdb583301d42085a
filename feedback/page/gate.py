"""Who may talk to the page: the browser of this machine that was given the printed address, and nobody else."""

import hmac
import re
from typing import Any
from urllib.parse import parse_qs

HOST = "127.0.0.1"
# Gradio needs inline scripts, eval (its drawing area compiles shaders and layouts) and workers; all of it from this server alone.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'"
)
# Link previews for social networks: they name addresses elsewhere.
_PREVIEWS = re.compile(rb"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>", re.DOTALL)


class Gate:
    """ASGI wrapper: answers this machine's own browser with the token only, and tells it to load nothing from elsewhere.

    A page of another site can make a browser send requests to 127.0.0.1; those name another host or origin and are refused. Another
    account's process on this machine can send what it likes, but has no token. The token comes once, in the address; a cookie takes its
    place, so that it stands in no link.

    Args:
        app: what is behind the gate.
        port: of this server.
        token: a random word.
        max_body: bytes of a request.
    """

    def __init__(self, app: Any, port: int, token: str, max_body: int = 2**25) -> None:
        self.app, self.token, self.max_body = app, token, max_body
        self.cookie = f"feedback-{port}"  # browsers keep cookies by host, not by port
        self.hosts = {f"{name}:{port}".encode() for name in (HOST, "localhost")}
        self.origins = {b"http://" + host for host in self.hosts}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if headers.get(b"host") not in self.hosts or (origin is not None and origin not in self.origins):
            await _refuse(scope, send, 403, b"This page answers the browser of its own machine only.\n")
            return
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[-1]
        if not self._is_token(given) and not self._is_token(self._from_cookie(headers.get(b"cookie", b""))):
            await _refuse(scope, send, 403, b"Open the address that the terminal shows, with its token.\n")
            return
        if given and scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/":
            cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            await _refuse(scope, send, 303, b"", [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")])
            return
        if scope["type"] == "http" and not self._fits(headers):
            await _refuse(scope, send, 413, f"At most {self.max_body / 1e6:.0f} MB are taken in.\n".encode())
            return
        await self.app(scope, receive, _Answer(send))

    def _is_token(self, word: str) -> bool:
        return hmac.compare_digest(word.encode(), self.token.encode())

    def _from_cookie(self, header: bytes) -> str:
        # By hand: other servers of this machine set cookies too, and the library stops at the first that it does not like.
        pairs = (part.partition(b"=") for part in header.split(b";"))
        return next((value.strip().decode("latin-1") for name, _, value in pairs if name.strip() == self.cookie.encode()), "")

    def _fits(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the body is announced and small enough; a browser always announces it."""
        length = headers.get(b"content-length", b"0")
        return b"transfer-encoding" not in headers and length.isdigit() and len(length) < 16 and int(length) <= self.max_body


def bounded(page: Any, limit: int) -> None:
    """Let one tab have at most `limit` events waiting in the queue of a Gradio `page`."""
    queue = page._queue
    push = queue.push

    async def push_if_few(body: Any, request: Any, username: Any) -> Any:
        waiting = [event for each in queue.event_queue_per_concurrency_id.values() for event in each.queue]
        if sum(event.session_hash == body.session_hash for event in waiting) >= limit:
            return False, "This tab has asked for too much at once; wait a moment.", "queue_full"
        return await push(body, request, username)

    queue.push = push_if_few


async def _refuse(scope: dict[str, Any], send: Any, status: int, said: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    more = [(b"content-type", b"text/plain; charset=utf-8"), (b"referrer-policy", b"no-referrer"), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": more})
    await send({"type": "http.response.body", "body": said})


class _Answer:
    """Adds the policy to every answer and takes the link previews out of pages; a page is held back until it is whole."""

    def __init__(self, send: Any) -> None:
        self.send = send
        self.held: dict[str, Any] | None = None
        self.body = b""

    async def __call__(self, event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            headers = [(k, v) for k, v in event["headers"] if k.lower() != b"content-security-policy"]
            event = {**event, "headers": [*headers, (b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]}
            plain = not any(k.lower() == b"content-encoding" for k, _ in headers)
            if plain and any(k.lower() == b"content-type" and v.startswith(b"text/html") for k, v in headers):
                self.held = event
                return
        elif event["type"] == "http.response.body" and self.held is not None:
            self.body += event.get("body", b"")
            if event.get("more_body"):
                return
            body = _PREVIEWS.sub(b"", self.body)
            headers = [(k, v) for k, v in self.held["headers"] if k.lower() != b"content-length"]
            await self.send({**self.held, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            self.held, event = None, {"type": "http.response.body", "body": body}
        await self.send(event)
