"""ASGI middleware around every request: address, log and metrics, request id, headers, error responses, access control.

`app.application` lists them from the outside to the inside. The order matters: a request that access control refuses gets an
error response with a request id, and is logged and counted as any other.

They are plain ASGI rather than starlette's `BaseHTTPMiddleware`, which runs the application in a separate task: a client that
disconnects from an event stream would be noticed late.
"""

import asyncio
import hmac
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stimcore.errors import StimcoreError
from stimcore.serve.errors import Busy, Denied, Forbidden
from stimcore.serve.http.addresses import Network, client_address
from stimcore.serve.http.error_response import encode_error
from stimcore.serve.logs import TRACEPARENT
from stimcore.serve.metrics import Metrics
from stimcore.serve.tokens import Tokens

log = logging.getLogger("stimcore.serve")
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
"""Paths that need no token: a container's health check has none."""
STATE_PATHS = (*OPEN_PATHS, "/metrics", "/v1/status")
"""Paths that tell how the server is, also before it has opened its bundles."""
ADMIN_PATHS = re.compile(r"/v1/rescan|/v1/runs(/.*)?|/v2/repository/models/.*", re.DOTALL)
"""Paths for which the read-only token is not enough: they change what is served, or show, start and stop runs of this
machine."""
UNKNOWN_ROUTE = "unknown"
"""Route of requests for what is not there, in the log and in labels."""
OPENAPI = "/openapi.json"
"""The one path whose route FastAPI does not note."""
CLIENT_CLOSED = 499
"""Logged as the status of a request whose client disconnected before the response began, as nginx does."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)
# Version, trace, parent and flags of W3C Trace Context; an id of zeros only is invalid.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z", re.ASCII)


class AddressMiddleware:
    """Notes the address of the client as `address` in the request's state.

    Args:
        app: The inner application.
        trusted: Proxies whose `X-Forwarded-For` counts.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self.app, self.trusted = app, trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            scope.setdefault("state", {})["address"] = client_address(scope, self.trusted)
        await self.app(scope, receive, send)


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
        route = getattr(scope.get("route"), "path", None) or (OPENAPI if scope["path"] == OPENAPI else UNKNOWN_ROUTE)
        if not route.endswith("/events"):  # a stream is open as long as its job runs, which is no time to answer
            self.metrics.seconds.labels(route).observe(seconds)
        fields: dict[str, Any] = {
            "request": scope["state"].get("request_id", ""),
            "address": scope["state"]["address"],
            "method": scope["method"][:16],
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
        }
        if traceparent := scope["state"].get("traceparent"):
            fields["traceparent"] = traceparent
        if code := scope["state"].get("error_code"):
            fields["code"] = code
        record_request(self.metrics, fields)


def record_request(metrics: Metrics, fields: Mapping[str, Any]) -> None:
    """Count a request in the metrics, and write its log line.

    Args:
        metrics: Metrics to count in.
        fields: Fields of the line. `route` and `status` are counted, and `code` where the request was refused.
    """
    status = fields["status"]
    metrics.requests.labels(fields["route"], str(status)).inc()
    if "code" in fields:
        metrics.refused.labels(fields["code"]).inc()
    # 503 is normal operation (a full queue, a start or an end), 504 may be the client's own time limit; both are counted. Other
    # statuses from 500 are failures of the server.
    log.log(logging.ERROR if status >= 500 and status not in (503, 504) else logging.INFO, "request", extra={"fields": fields})


class RequestIdMiddleware:
    """Gives every request an id, and sends it back in `X-Request-Id`; a well-formed id of the client is kept.

    A `traceparent` of W3C Trace Context is kept as well: it stands in the log, goes on to the worker that answers the request,
    and is sent back. A response about a bundle names its fingerprint in `X-Stimcore-Bundle`, so that a client can tell what the
    numbers belong to while bundles are exported anew.

    Args:
        app: The inner application.
        frame_ancestors: Origins that may show a response in a frame, as Content-Security-Policy lists them.
    """

    def __init__(self, app: ASGIApp, frame_ancestors: str) -> None:
        self.app = app
        self._headers = [
            (b"content-security-policy", f"frame-ancestors {frame_ancestors}".encode()),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = id_of_request(scope)
        headers = [*self._headers, (b"x-request-id", request_id.encode())]
        traceparent = _header(scope, b"traceparent")
        if _TRACEPARENT.match(traceparent):
            scope["state"]["traceparent"] = traceparent
            headers.append((b"traceparent", traceparent.encode()))
        else:
            traceparent = ""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                bundle = scope["state"].get("bundle")
                named = [] if bundle is None else [(b"x-stimcore-bundle", bundle.encode())]
                message = {**message, "headers": [*message.get("headers", ()), *headers, *named]}
            await send(message)

        reset = TRACEPARENT.set(traceparent)
        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            TRACEPARENT.reset(reset)


class ErrorMiddleware:
    """Answers exceptions that no exception handler caught: errors of middleware, and defects of the server.

    Also requests that uvicorn cancels because they took longer than `drain_s` when the server ends are answered here: uvicorn
    itself would answer with a text of its own, and log a traceback for each.

    Args:
        app: The inner application.
        draining: Set when the server begins to end.
    """

    def __init__(self, app: ASGIApp, draining: asyncio.Event) -> None:
        self.app, self.draining = app, draining

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
        except asyncio.CancelledError:
            if not self.draining.is_set():
                raise
            # The task ends here in any case. Where the response has begun, uvicorn closes the connection; see below.
            if not response_started:
                await _send_error(Busy("the server is ending", todo="Try again in a moment."), scope, send)
        except Exception as reason:
            # After the response has begun there is no other status to send: uvicorn closes the connection, which the client
            # sees as an incomplete response.
            if isinstance(reason, StimcoreError) and not response_started:
                await _send_error(reason, scope, send)
                return
            request_id = scope["state"]["request_id"]
            log.exception("failed", extra={"fields": {"request": request_id}})
            if not response_started:
                await _send_error(StimcoreError(f"the server failed; its log has the reason under {request_id}"), scope, send)


class AccessMiddleware:
    """Access control: bearer tokens where the server has them; else only programs on this machine.

    Without a token the server listens on loopback only, so that other machines can't reach it. A web page in a browser on this
    machine can: it may send requests to 127.0.0.1, directly (its `Origin` gives it away) or through a name of its site that
    resolves to 127.0.0.1 (DNS rebinding; `Host` gives it away). Both headers must name this machine. An image in a page of
    another site has neither; browsers say in `Sec-Fetch-Site` where such a request comes from.

    On a connection of the reserve (see `connections.py`) only the paths about health are open.

    Args:
        app: The inner application.
        tokens: Tokens that requests carry.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self.app, self.tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Raises:
            Denied: The token is missing or wrong, or a web page sent the request.
            Forbidden: The read-only token is not enough for this path.
            Busy: There are too many connections.
        """
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            if scope["state"].get("reserved"):
                raise Busy("too many connections are open", todo="Try again in a moment.")
            if _header(scope, b"sec-fetch-site") == "cross-site":
                raise Denied("a page of another site sent this request", allowed="programs, and pages of this machine")
            if self.tokens.admin is not None:
                self._check_token(_header(scope, b"authorization"), scope["path"], self.tokens.admin)
            else:
                if not (host := _header(scope, b"host")):
                    raise Denied("the request has no Host", allowed="localhost, unless the server has a token")
                self._check_loopback("Host", f"//{host}")
                self._check_loopback("Origin", _header(scope, b"origin"))
        await self.app(scope, receive, send)

    def _check_token(self, authorization: str, path: str, admin: str) -> None:
        scheme, _, credentials = authorization.partition(" ")
        given = credentials.strip().encode() if scheme.casefold() == "bearer" else b""  # names of schemes have no case
        # compare_digest takes the same time wherever the texts differ, so that answers don't reveal a token byte by byte.
        if hmac.compare_digest(given, admin.encode()):
            return
        if self.tokens.read is None or not hmac.compare_digest(given, self.tokens.read.encode()):
            raise Denied("the token is missing or wrong", allowed="the header 'Authorization: Bearer TOKEN'")
        if ADMIN_PATHS.fullmatch(as_routed(path)):
            raise Forbidden("the read-only token does not open this path", allowed="the admin token")

    def _check_loopback(self, name: str, url: str) -> None:
        if url and not is_loopback(_host(url)):
            raise Denied(f"{name} is {url.lstrip('/')[:80]}", allowed="localhost, unless the server has a token")


class OpeningMiddleware:
    """Lets requests wait until bundles were opened for the first time, except those that ask how the server is.

    Args:
        app: The inner application.
        opened: Returns as soon as they were; raises `Busy` where the server ends before that.
    """

    def __init__(self, app: ASGIApp, opened: Callable[[], Awaitable[None]]) -> None:
        self.app, self.opened = app, opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request.

        Raises:
            Busy: The server ends before the bundles were opened.
        """
        if scope["type"] == "http" and scope["path"] not in STATE_PATHS:
            await self.opened()
        await self.app(scope, receive, send)


class HeadMiddleware:
    """Lets every route that answers GET answer HEAD as well, with the same head and no body: monitors of uptime ask so.

    Event streams are left out: they have no end that a HEAD could wait for.

    Args:
        app: The inner application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or as_routed(scope["path"]).endswith("/events"):
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send_without_body)
        finally:
            if "route" in as_get:  # the router notes it, and the log names it
                scope["route"] = as_get["route"]


def _header(scope: Scope, name: bytes) -> str:
    """Return the last value of a header, empty where there is none; `name` is in lower case."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[-1].decode("latin-1") if values else ""


def id_of_request(scope: Scope) -> str:
    """Return the id of a request, the same one however often: the client's where it is well-formed, else a new one."""
    given = _header(scope, b"x-request-id")
    new = given if _REQUEST_ID.match(given) else uuid.uuid4().hex
    return str(scope["state"].setdefault("request_id", new))


def as_routed(path: str) -> str:
    """Return a path as the router reads it: `$` at the end of its patterns matches before a last line break too.

    Example:
        >>> as_routed("/v1/runs" + chr(10))
        '/v1/runs'
    """
    return path.removesuffix("\n")


def is_loopback(host: str) -> bool:
    """Return whether a host, as it stands in a URL, is this machine by its number or by the name that every machine has.

    Example:
        >>> is_loopback("127.0.0.2"), is_loopback("localhost."), is_loopback("localhost.example")
        (True, True, False)
    """
    host = host.removesuffix(".")  # of a name that is complete
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
