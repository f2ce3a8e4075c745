"""Error responses: one JSON form, one table of statuses, and the exception handlers that produce them.

Every response with a status of 400 or more has the body `{"error": sentence, "code": code}` (`types.Refusal`), also those that
starlette and FastAPI raise themselves: clients of the Open Inference Protocol read the key `error`.
"""

import json
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from stimcore.errors import StimcoreError, UsageError
from stimcore.serve import types
from stimcore.serve.errors import RETRY_AFTER_S, NotFound, http_status

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": types.Refusal, "description": text}
    for status, text in (
        (400, "wrong use"),
        (401, "no token, or a wrong one"),
        (403, "the read-only token is not enough"),
        (404, "not served"),
        (405, "another method"),
        (408, "the body came too slowly"),
        (413, "too large"),
        (429, "too many of this client's"),
        (500, "the server failed"),
        (503, "not now; see Retry-After"),
        (504, "not done in time"),
    )
}
"""Status -> how OpenAPI describes it, for all routes of a router."""
MAX_LISTED = 5
"""Invalid fields that one sentence lists; a body of garbage would fill pages otherwise."""


def encode_error(reason: StimcoreError) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an error response.

    Example:
        >>> from stimcore.serve.errors import Busy
        >>> status, headers, body = encode_error(Busy("the queue is full"))
        >>> status, headers["retry-after"], body
        (503, '1', b'{"error": "the queue is full.", "code": "busy"}')
    """
    status = http_status(reason)
    headers = {"content-type": "application/json"}
    if status in (429, 503):
        headers["retry-after"] = str(RETRY_AFTER_S)
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return status, headers, json.dumps({"error": str(reason), "code": reason.code}).encode()


def add_error_handlers(app: FastAPI) -> None:
    """Make an application answer our errors, starlette's and FastAPI's in the one JSON form."""
    app.add_exception_handler(StimcoreError, _on_stimcore_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)


def _response(request: Request, reason: StimcoreError, status: int | None = None) -> Response:
    """Return the error as a response, and note its code for the log and the metrics."""
    default_status, headers, body = encode_error(reason)
    request.scope["state"]["error_code"] = reason.code
    return Response(body, status or default_status, headers)


async def _on_stimcore_error(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, StimcoreError)
    return _response(request, reason)


async def _on_http_exception(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, HTTPException)
    path = request.url.path[:80]
    if reason.status_code == 404:
        return _response(request, NotFound(f"there is nothing at {path}"))
    allowed = (reason.headers or {}).get("Allow", "")
    error = UsageError(f"{request.method[:16]} {path}: {reason.detail}", allowed=allowed)
    response = _response(request, error, reason.status_code)
    if allowed:
        response.headers["Allow"] = allowed
    return response


async def _on_invalid_parameters(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, RequestValidationError)
    fields = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in reason.errors()[:MAX_LISTED]]
    return _response(request, UsageError("; ".join(fields)[:400]))
