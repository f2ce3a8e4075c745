"""Middleware of the dashboard's web application: who is answered (`app.access`), compressed scripts, and security headers.

Streamlit serves its scripts uncompressed: thirty students who open a page with charts would load 220 MB over the network of
their classroom, compressed it is 75 MB.
"""

import functools
import gzip
from pathlib import Path

import anyio.to_thread
import streamlit
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config

from app.access import HostCheck, OriginCheck

_STATIC = (Path(streamlit.__file__).parent / "static").resolve()
_TYPES = {".js": b"text/javascript", ".css": b"text/css"}
_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self' blob:; "
    b"object-src 'none'; base-uri 'self'"
)


def middleware() -> list[Middleware]:
    """Return the middleware in the order in which a request passes it."""
    return [Middleware(Headers), Middleware(HostCheck), Middleware(OriginCheck), Middleware(CompressedStatic)]


@functools.cache
def _compressed(path: Path) -> bytes:
    return gzip.compress(path.read_bytes(), 9)


class CompressedStatic:
    """Answers requests for Streamlit's scripts and style sheets with gzip, compressed once per process."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a script or a style sheet; pass every other one on."""
        path = self._file(scope)
        if path is None:
            await self.app(scope, receive, send)
            return
        body = await anyio.to_thread.run_sync(_compressed, path)
        headers = [
            (b"content-type", _TYPES[path.suffix]),
            (b"content-encoding", b"gzip"),
            (b"content-length", str(len(body)).encode()),
            (b"vary", b"accept-encoding"),
            (b"cache-control", b"public, immutable, max-age=31536000"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _file(self, scope: Scope) -> Path | None:
        if (
            scope["type"] != "http"
            or scope["method"] not in ("GET", "HEAD")
            or not scope["path"].startswith(f"{_base()}/static/")
        ):
            return None
        if b"gzip" not in dict(scope["headers"]).get(b"accept-encoding", b""):
            return None
        path = (_STATIC / scope["path"].removeprefix(_base()).lstrip("/")).resolve()
        return path if path.suffix in _TYPES and path.is_relative_to(_STATIC) and path.is_file() else None


def _base() -> str:
    """Return the path under which a proxy serves the dashboard: `/class` for `server.baseUrlPath = "class"`, else nothing."""
    words = str(config.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{words}" if words else ""


class Headers:
    """Adds headers that forbid the browser to load anything from other hosts and to guess content types."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add the headers to its answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [
                    (b"content-security-policy", _POLICY),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        if scope["type"] == "http":
            await self.app(scope, receive, with_headers)
            return
        try:
            await self.app(scope, receive, send)
        except RuntimeError as reason:
            # A browser may leave while Streamlit is about to close its socket. Starlette calls that an error, in these words.
            if scope["type"] != "websocket" or "once a close message has been sent" not in str(reason):
                raise
