"""Middleware of the dashboard's web application: names and origins it answers, compressed scripts, and security headers.

Streamlit serves its scripts uncompressed: thirty students who open a page with charts would load 220 MB over the network of
their classroom, compressed it is 75 MB.
"""

import functools
import gzip
import ipaddress
import logging
from pathlib import Path
from urllib.parse import urlsplit

import anyio.to_thread
import streamlit
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose
from streamlit import config

from app.access import HostCheck, own_names

log = logging.getLogger("stimcore.app")
_STATIC = (Path(streamlit.__file__).parent / "static").resolve()
_TYPES = {".js": b"text/javascript", ".css": b"text/css"}
_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss:; worker-src 'self' blob:; "
    b"object-src 'none'; base-uri 'self'"
)


def middleware() -> list[Middleware]:
    """Return the middleware in the order in which a request passes it."""
    return [Middleware(Headers), Middleware(HostCheck), Middleware(Origins), Middleware(CompressedStatic)]


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


class Origins:
    """Refuses web pages of other sites, which could otherwise connect to the dashboard in a visitor's browser.

    Streamlit would do it, and asks the internet for this machine's address first. Here the decision needs no network: a
    page may connect if it comes from this machine, from the address at which the request arrived, provided that this is a
    number and not a name that its owner can turn to any machine (DNS rebinding), or from an origin that is configured.
    Streamlit then sees an origin that it accepts without a question.

    Because every upload passes here, it needs no cookie against forged requests, and works in a frame where a browser keeps
    cookies of third parties from it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request of an accepted page on, and refuse that of another."""
        origin = _header(scope, b"origin") if scope["type"] in ("http", "websocket") else ""
        if origin:
            if not _is_accepted(origin, _header(scope, b"host")):
                await self._refuse(origin, scope, receive, send)
                return
            kept = [(name, value) for name, value in scope["headers"] if name != b"origin"]
            scope = {**scope, "headers": [*kept, (b"origin", b"http://localhost")]}
        await self.app(scope, receive, send)

    async def _refuse(self, origin: str, scope: Scope, receive: Receive, send: Send) -> None:
        log.warning("refused a page of %r; 'server.corsAllowedOrigins' or 'browser.serverAddress' can allow it", origin[:200])
        if scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason="a page of another site")(scope, receive, send)
        else:
            await PlainTextResponse("A page of another site sent this request.", status_code=403)(scope, receive, send)


def _is_accepted(origin: str, host: str) -> bool:
    """Return whether a page may connect.

    Args:
        origin: The header `Origin`: scheme, host and port of the page.
        host: The header `Host`: where the browser connected to.
    """
    if not config.get_option("server.enableCORS"):
        return True
    page = _hostname(origin)
    configured = [config.get_option(name) for name in ("browser.serverAddress", "server.address")]
    allowed = {"localhost", "127.0.0.1", "::1", *map(str, filter(None, configured))}
    allowed |= own_names() | {_hostname(str(one)) for one in config.get_option("server.corsAllowedOrigins") or ()}
    return page in allowed or (_is_number(page) and page == _hostname(f"//{host}"))


def _hostname(url: str) -> str:
    """Return the host of a URL; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_number(host: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _header(scope: Scope, name: bytes) -> str:
    values = [value for key, value in scope["headers"] if key == name]
    return values[-1].decode("latin-1") if values else ""


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

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
