"""ASGI middleware around every request: log and metrics, request id, error responses, access control.

`MIDDLEWARE` lists them from the outside to the inside. The order matters: a request that access control refuses gets an error
response with a request id, and is logged and counted as any other.

They are plain ASGI rather than starlette's `BaseHTTPMiddleware`, which runs the application in a separate task: a client that
disconnects from an event stream would be noticed late.
"""

import hmac
import logging
import re
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stimcore.errors import StimcoreError
from stimcore.serve.errors import Denied
from stimcore.serve.http.error_response import encode_error
from stimcore.serve.metrics import Metrics

log = logging.getLogger("stimcore.serve")
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
"""Paths that need no token: a container's health check has none."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CLIENT_CLOSED = 499
"""Logged as the status of a request whose client disconnected before the response began, as nginx does."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)


class LogMiddleware:
    """Writes one log line per request, and counts the request in the metrics.

    Args:
        app: The inner application.
        metrics: Metrics to count in.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})
        status = CLIENT_CLOSED

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self.app(scope, receive, send_noting_status)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's pattern, never the path: names that clients make up must not become labels.
        route = getattr(scope.get("route"), "path", None) or "unknown"
        self.metrics.requests.labels(route, str(status)).inc()
        if not route.endswith("/events"):  # a stream is open as long as its job runs, which is no time to answer
            self.metrics.seconds.labels(route).observe(seconds)
        fields: dict[str, Any] = {
            "request": scope["state"].get("request_id", ""),
            "method": scope["method"][:16],
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
        }
        if code := scope["state"].get("error_code"):
            self.metrics.refused.labels(code).inc()
            fields["code"] = code
        # 503 is normal operation (a full queue, a start or an end); other statuses from 500 are failures of the server.
        log.log(logging.ERROR if status >= 500 and status != 503 else logging.INFO, "request", extra={"fields": fields})


class RequestIdMiddleware:
    """Gives every request an id, and sends it back in `X-Request-Id`; a well-formed id of the client is kept.

    Args:
        app: The inner application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = _header(scope, b"x-request-id")
        request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex
        scope["state"]["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id.encode())]}
            await send(message)

        await self.app(scope, receive, send_with_id)


class ErrorMiddleware:
    """Answers exceptions that no exception handler caught: errors of middleware, and defects of the server.

    Args:
        app: The inner application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        response_started = False

        async def send_noting_start(message: Message) -> None:
            nonlocal response_started
            response_started = True
            await send(message)

        try:
            await self.app(scope, receive, send_noting_start)
        except StimcoreError as reason:
            await _send_error(reason, scope, send)
        except Exception:
            request_id = scope["state"]["request_id"]
            log.exception("failed", extra={"fields": {"request": request_id}})
            # After the response has begun there is no other status to send: uvicorn closes the connection, which the client
            # sees as an incomplete response.
            if not response_started:
                await _send_error(StimcoreError(f"the server failed; its log has the reason under {request_id}"), scope, send)


class AccessMiddleware:
    """Access control: a bearer token where the server has one; else only programs on this machine.

    Without a token the server listens on loopback only, so that other machines can't reach it. A web page in a browser on this
    machine can: it may send requests to 127.0.0.1, directly (its `Origin` gives it away) or through a name of its site that
    resolves to 127.0.0.1 (DNS rebinding; `Host` gives it away). Both headers must name this machine.

    Args:
        app: The inner application.
        token: Token that requests carry; None without access control by token.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Raises:
            Denied: The token is missing or wrong, or a web page sent the request.
        """
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            if self.token is not None:
                self._check_token(_header(scope, b"authorization"), self.token)
            else:
                self._check_loopback("Host", f"//{_header(scope, b'host')}")
                self._check_loopback("Origin", _header(scope, b"origin"))
        await self.app(scope, receive, send)

    def _check_token(self, authorization: str, token: str) -> None:
        given = authorization.removeprefix("Bearer ").strip()
        # compare_digest takes the same time wherever the texts differ, so that answers don't reveal the token byte by byte.
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise Denied("the token is missing or wrong", allowed="the header 'Authorization: Bearer TOKEN'")

    def _check_loopback(self, name: str, url: str) -> None:
        if url and _host(url) not in LOOPBACK:
            raise Denied(f"{name} is {url.lstrip('/')[:80]}", allowed="localhost, unless the server has a token")


def _header(scope: Scope, name: bytes) -> str:
    """Return the last value of a header, empty where there is none; `name` is in lower case."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[-1].decode("latin-1") if values else ""


def _host(url: str) -> str:
    """Return the host of a URL; empty where the text is no URL, which is no host of this machine."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def _send_error(reason: StimcoreError, scope: Scope, send: Send) -> None:
    status, headers, body = encode_error(reason)
    scope["state"]["error_code"] = reason.code
    head = [(key.encode(), value.encode()) for key, value in headers.items()]
    head.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
