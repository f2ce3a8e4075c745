"""What every request passes: request id, host and token, log line, count. Plain ASGI, around the application."""

import hmac
import json
import logging
import re
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stimcore.errors import StimcoreError
from stimcore.serve.errors import RETRY_AFTER_S, Denied, status_of
from stimcore.serve.service import Service

log = logging.getLogger("stimcore.serve")
OPEN = ("/v2/health/live", "/v2/health/ready")
"""Paths that need no token: a container's health check has none."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)


def refusal(reason: StimcoreError) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a refusal."""
    status = status_of(reason)
    headers = {"content-type": "application/json"}
    if status in (429, 503):
        headers["retry-after"] = str(RETRY_AFTER_S)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return status, headers, json.dumps({"error": str(reason), "code": reason.code}).encode()


class Gate:
    """Around the application.

    Args:
        app: What answers.
        server: Whose limits, token and metrics apply.
    """

    def __init__(self, app: ASGIApp, server: Service) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        scope.setdefault("state", {})["request_id"] = given if _ID.match(given) else uuid.uuid4().hex
        passage = _Passage(scope, send)
        started = time.perf_counter()
        try:
            self._check(scope, headers)
            await self.app(scope, receive, passage.send)
        except StimcoreError as reason:
            await passage.refuse(reason)
        except Exception:
            log.exception("failed", extra={"fields": {"request": scope["state"]["request_id"]}})
            if not passage.status:
                await passage.refuse(StimcoreError(f"the server failed; its log says why under {scope['state']['request_id']}"))
        finally:
            self._count(scope, passage, time.perf_counter() - started)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        """Token where there is one; without, only what a program on this machine sent, not a page in its browser."""
        if scope["path"] in OPEN:
            return
        token = self.server.token
        if token is not None:
            given = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(given.encode(), token.encode()):
                raise Denied("the token is missing or wrong", allowed="the header 'Authorization: Bearer TOKEN'")
            return
        for name, value in (("Host", f"//{headers.get('host', '')}"), ("Origin", headers.get("origin", ""))):
            if value and _host(value) not in LOOPBACK:
                raise Denied(f"{name} is {value.lstrip('/')[:80]}", allowed="localhost, unless the server has a token")

    def _count(self, scope: Scope, passage: "_Passage", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "unknown"
        status = passage.status or 499
        metrics = self.server.metrics
        metrics.requests.labels(route, str(status)).inc()
        if not route.endswith("/events"):
            metrics.seconds.labels(route).observe(seconds)
        if code := scope["state"].get("refused"):
            metrics.refused.labels(code).inc()
        fields: dict[str, Any] = {
            "request": scope["state"]["request_id"],
            "method": scope["method"][:16],
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
        }
        if code:
            fields["code"] = code
        log.log(logging.ERROR if status >= 500 and status != 503 else logging.INFO, "request", extra={"fields": fields})


class _Passage:
    """What goes back to the client: with the request's id."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope, self._send = scope, send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = (b"x-request-id", self.scope["state"]["request_id"].encode())
            message = {**message, "headers": [*message.get("headers", ()), own]}
        await self._send(message)

    async def refuse(self, reason: StimcoreError) -> None:
        """Sends a refusal."""
        status, headers, body = refusal(reason)
        self.scope["state"]["refused"] = reason.code
        head = [(key.encode(), value.encode()) for key, value in headers.items()]
        head.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": b"" if self.scope["method"] == "HEAD" else body})


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
