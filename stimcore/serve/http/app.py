"""The ASGI application of a service: routes under /v1 and /v2, metrics, middleware, error responses, start and end."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Response
from starlette.middleware import Middleware

from stimcore.serve import types
from stimcore.serve.http import v1, v2
from stimcore.serve.http.addresses import AddressCounter, Network
from stimcore.serve.http.budget import BudgetMiddleware
from stimcore.serve.http.error_response import add_error_handlers
from stimcore.serve.http.middleware import (
    AccessMiddleware,
    AddressMiddleware,
    ErrorMiddleware,
    HeadMiddleware,
    LogMiddleware,
    OpeningMiddleware,
    RequestIdMiddleware,
)
from stimcore.serve.service import Service
from stimcore.serve.tokens import Tokens

RESULT_REF = {"$ref": "#/components/schemas/Result"}


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """What concerns the HTTP of a server and not its service.

    Attributes:
        read_token: Token that opens everything but what changes the server or shows its runs; None for none.
        trusted_proxies: Proxies whose `X-Forwarded-For` counts.
        frame_ancestors: Origins whose pages may show a response in a frame, as Content-Security-Policy lists them.
    """

    read_token: str | None = None
    trusted_proxies: tuple[Network, ...] = ()
    frame_ancestors: str = "'none'"


class Application(FastAPI):
    """FastAPI with two corrections of the OpenAPI document, which clients are generated from."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document.

        FastAPI lists a status 422 for every route, but invalid parameters are a 400 here. And pydantic repeats the schema of
        a result wherever one occurs, because `Result` is a dataclass of ours: one named schema takes the place of the copies.
        """
        if self.openapi_schema is None:
            document = super().openapi()
            for methods in document["paths"].values():
                for operation in methods.values():
                    operation["responses"].pop("422", None)
            schemas = {name: _with_result_ref(schema) for name, schema in document["components"]["schemas"].items()}
            document["components"]["schemas"] = dict(sorted({**schemas, "Result": types.RESULT_SCHEMA}.items()))
        assert self.openapi_schema is not None
        return self.openapi_schema


def application(service: Service, options: HttpOptions | None = None) -> FastAPI:
    """Return the application that uvicorn runs; its lifespan starts and stops the service."""
    options = options or HttpOptions()

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            yield
        finally:
            await service.stop()

    app = Application(
        title="stimcore model server",
        version="1",
        description="Sub-networks composed on request: Open Inference Protocol v2 under /v2, evaluations under /v1.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(AddressMiddleware, options.trusted_proxies),
            Middleware(LogMiddleware, service.metrics),
            Middleware(RequestIdMiddleware, options.frame_ancestors),
            Middleware(ErrorMiddleware, service.draining),
            Middleware(AccessMiddleware, Tokens(service.token, options.read_token)),
            Middleware(OpeningMiddleware, service.opened),
            Middleware(BudgetMiddleware, service.limits, service.metrics),
            Middleware(HeadMiddleware),
        ],
    )
    add_error_handlers(app)
    calls = AddressCounter(service.limits.calls_per_address, "inferences, classifications and downloads")
    by_model: dict[str, v2.ModelStatistics] = {}
    app.include_router(v2.inference_routes(service, by_model, calls))
    app.include_router(v1.routes(service, calls))
    app.include_router(v2.routes(service, by_model))

    @app.get("/metrics", response_class=Response, summary="Metrics for Prometheus")
    async def metrics() -> Response:
        return _metrics(service)

    return app


def metrics_application(service: Service) -> FastAPI:
    """Return an application that serves `/metrics` alone, for a port of its own that needs no token."""
    middleware = [Middleware(HeadMiddleware)]
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, middleware=middleware)
    add_error_handlers(app)

    @app.get("/metrics")
    async def metrics() -> Response:
        return _metrics(service)

    return app


def _metrics(service: Service) -> Response:
    text = service.metrics.text(service.gauges())
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _with_result_ref(schema: Any) -> Any:
    """Return a JSON schema in which every copy of the result's schema is a reference to the named one."""
    if schema == types.RESULT_SCHEMA:
        return RESULT_REF
    if isinstance(schema, dict):
        return {key: _with_result_ref(value) for key, value in schema.items()}
    return [_with_result_ref(value) for value in schema] if isinstance(schema, list) else schema
