"""The ASGI application of a server: routes, errors as one sentence, metrics, life. `Gate` stands around it."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from stimcore.errors import StimcoreError, UsageError
from stimcore.serve.errors import NotFound
from stimcore.serve.http import v1, v2
from stimcore.serve.http.middleware import Gate, refusal
from stimcore.serve.service import Service


class Api(FastAPI):
    """FastAPI, whose schema does not claim a status that is never sent: what does not validate is a 400 here."""

    def openapi(self) -> dict[str, Any]:
        """The schema."""
        schema = super().openapi()
        for methods in schema["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        return schema


def application(server: Service) -> ASGIApp:
    """What uvicorn runs."""

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        try:
            await server.start()
            yield
        finally:
            await server.stop()

    app = Api(
        title="stimcore model server",
        version="1",
        description="Sub-networks composed on request: Open Inference Protocol v2 under /v2, evaluations under /v1.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(StimcoreError, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.include_router(v1.routes(server))
    app.include_router(v2.routes(server))

    @app.get("/metrics", response_class=Response, summary="For Prometheus")
    async def metrics() -> Response:
        return Response(server.metrics.text(server), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Gate(app, server)


def answer(request: Request, reason: StimcoreError, status: int | None = None) -> Response:
    """A refusal as a response."""
    own, headers, body = refusal(reason)
    request.scope["state"]["refused"] = reason.code
    return Response(body, status or own, headers)


async def _refused(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, StimcoreError)
    return answer(request, reason)


async def _http(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, HTTPException)
    if reason.status_code == 404:
        return answer(request, NotFound(f"there is nothing at {request.url.path[:80]}"))
    allowed = (reason.headers or {}).get("Allow", "")
    response = answer(
        request,
        UsageError(f"{request.method[:16]} {request.url.path[:80]}: {reason.detail}", allowed=allowed),
        reason.status_code,
    )
    if allowed:
        response.headers["Allow"] = allowed
    return response


async def _invalid(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, RequestValidationError)
    places = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in reason.errors()[:5]]
    return answer(request, UsageError("; ".join(places)[:400]))
