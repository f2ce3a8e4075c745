"""Routes under /v2: the Open Inference Protocol with binary tensors, model repository, statistics and configuration.

NVIDIA's client for Triton runs against these routes in the tests, which fixes the paths, keys and sentences that it needs.

Source: Open Inference Protocol v2 (REST), and Triton's extensions for the model repository, statistics and configuration.
"""

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from stimcore.errors import BundleError, StimcoreError, UsageError
from stimcore.serve.errors import RETRY_AFTER_S, Busy, NotFound
from stimcore.serve.http.addresses import AddressCounter
from stimcore.serve.http.body import read_body
from stimcore.serve.http.error_response import ERROR_RESPONSES
from stimcore.serve.http.responses import PiecewiseResponse
from stimcore.serve.metrics import OTHER
from stimcore.serve.oip_codec import LENGTH_HEADER, decode_request, encode_response
from stimcore.serve.parsing import parse_json
from stimcore.serve.repository.models import Model
from stimcore.serve.service import Service
from stimcore.serve.workers.messages import Infer

EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics"]
PLATFORM = "onnxruntime_onnx"
VERSION = "1"
"""The only version of every model: a new export replaces the old one."""


@dataclass
class ModelStatistics:
    """Statistics of one model since the start of the service.

    Attributes:
        last_ms: Time of the last inference, in milliseconds since 1970.
        images: Images that were inferred.
        runs: Inferences that succeeded.
        failures: Inferences that were refused or failed.
        total_ns: Time of the successful ones, waiting included.
        failed_ns: Time of the others.
        compute_ns: Time that the networks ran.
    """

    last_ms: int = 0
    images: int = 0
    runs: int = 0
    failures: int = 0
    total_ns: int = 0
    failed_ns: int = 0
    compute_ns: int = 0

    def add_success(self, images: int, total_ns: int, compute_ns: int) -> None:
        """Count a successful inference."""
        self.last_ms = int(1000 * time.time())
        self.images += images
        self.runs += 1
        self.total_ns += total_ns
        self.compute_ns += compute_ns

    def add_failure(self, total_ns: int) -> None:
        """Count an inference that was refused or failed."""
        self.failures += 1
        self.failed_ns += total_ns

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return the statistics of the model `name` in Triton's form."""

        def duration(count: int, ns: int) -> dict[str, int]:
            return {"count": count, "ns": ns}

        return {
            "name": name,
            "version": VERSION,
            "last_inference": self.last_ms,
            "inference_count": self.images,
            "execution_count": self.runs,
            "inference_stats": {
                "success": duration(self.runs, self.total_ns),
                "fail": duration(self.failures, self.failed_ns),
                "queue": duration(self.runs, self.total_ns - self.compute_ns),
                "compute_input": duration(self.runs, 0),
                "compute_infer": duration(self.runs, self.compute_ns),
                "compute_output": duration(self.runs, 0),
            },
            "batch_stats": [],
        }


@dataclass(frozen=True)
class Inference:
    """An inference that succeeded.

    Attributes:
        response: The response.
        images: Number of images.
        compute_ns: Time that the network ran.
    """

    response: Response
    images: int
    compute_ns: int


class DirectRoute(APIRoute):
    """A route whose function takes the request and the texts in its path, and returns the response.

    FastAPI describes it as any other, and calls it without validating parameters, of which every text is valid, and without
    looking for dependencies. Both take about as long as the rest of the route.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            return await endpoint(request=request, **request.path_params)

        return handle


def routes(service: Service, by_model: dict[str, ModelStatistics]) -> APIRouter:
    """Return the router of all routes under /v2 but the inference.

    Args:
        service: The service.
        by_model: Statistics by the name of the model, never by an alias of it.
    """
    router = APIRouter(prefix="/v2", responses=ERROR_RESPONSES)
    _add_health_routes(router, service)
    _add_statistics_routes(router, service, by_model)  # first: `/models/{name}` would read /models/stats as a model's name
    _add_model_routes(router, service)
    _add_repository_routes(router, service)
    return router


def inference_routes(service: Service, by_model: dict[str, ModelStatistics], calls: AddressCounter) -> APIRouter:
    """Return the router of the inference, which is asked before all others: a path is compared with one route after the other.

    Args:
        service: The service.
        by_model: Statistics by the name of the model, which inferences are added to.
        calls: Counts the inferences of each address.
    """
    router = APIRouter(prefix="/v2", responses=ERROR_RESPONSES, route_class=DirectRoute)
    _add_inference_route(router, service, by_model, calls)
    return router


def _add_health_routes(router: APIRouter, service: Service) -> None:
    @router.get("", summary="Name, version and extensions of the server")
    async def metadata() -> dict[str, Any]:
        return {"name": "stimcore", "version": "1", "extensions": EXTENSIONS}

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Whether the server accepts work")
    async def ready() -> JSONResponse:
        return JSONResponse({"ready": True}) if service.ready else _not_ready(service)


def _not_ready(service: Service) -> JSONResponse:
    if service.draining.is_set():
        why = "the server is ending"
    elif service.pool.broken:
        why = "the worker process keeps ending"
    elif service.repository.lost:
        why = "the folder of bundles holds none any more"
    else:
        why = "the server is starting"
    return JSONResponse({"ready": False, "error": f"{why}.", "code": Busy.code}, 503, {"Retry-After": str(RETRY_AFTER_S)})


def _model(service: Service, request: Request, name: str, version: str = VERSION) -> Model:
    """Return a loaded model by its name or alias, and note that the response is about its bundle.

    Raises:
        NotFound: There is no such model, it does not have this version, or it was unloaded.
    """
    model = service.repository.model(name)
    request.scope["state"]["bundle"] = model.bundle.fingerprint
    _check_loaded(service, model, name, version)
    return model


def _check_loaded(service: Service, model: Model, name: str, version: str) -> None:
    """Refuse a model that does not have a version or was unloaded.

    Raises:
        NotFound: That is so.
    """
    if version != VERSION:
        raise NotFound(f"'{name}' has no version '{version[:40]}'", allowed=VERSION)
    if model.name in service.unloaded:
        raise NotFound(f"'{name}' was unloaded", todo=f"POST /v2/repository/models/{name}/load loads it.")


def _add_model_routes(router: APIRouter, service: Service) -> None:
    @router.get("/models/{name}", summary="Inputs and outputs of a model")
    @router.get("/models/{name}/versions/{version}", include_in_schema=False)
    async def metadata(name: str, request: Request, version: str = VERSION) -> dict[str, Any]:
        model = _model(service, request, name, version)
        return {
            "name": name,
            "versions": [VERSION],
            "platform": PLATFORM,
            "inputs": model.inputs,
            "outputs": model.outputs,
        }

    @router.get("/models/{name}/ready", summary="Whether a model accepts work")
    @router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
    async def ready(name: str, request: Request, version: str = VERSION) -> JSONResponse:
        _model(service, request, name, version)
        return JSONResponse({"name": name, "ready": True}) if service.ready else _not_ready(service)

    @router.get("/models/{name}/config", summary="Configuration of a model in Triton's form")
    @router.get("/models/{name}/versions/{version}/config", include_in_schema=False)
    async def config(name: str, request: Request, version: str = VERSION) -> dict[str, Any]:
        model = _model(service, request, name, version)

        def tensor(value: dict[str, Any]) -> dict[str, Any]:
            return {"name": value["name"], "data_type": f"TYPE_{value['datatype']}", "dims": value["shape"][1:]}

        return {
            "name": name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": service.limits.batch,
            "input": [tensor(value) for value in model.inputs],
            "output": [tensor(value) for value in model.outputs],
        }


_INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "additionalProperties": False,
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": {"type": "object"},
                        "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object"}},
                        "outputs": {"type": "array", "maxItems": 1, "items": {"type": "object"}},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def _add_inference_route(
    router: APIRouter, service: Service, by_model: dict[str, ModelStatistics], calls: AddressCounter
) -> None:
    @router.post("/models/{name}/infer", summary="Logits of normalised images", openapi_extra=_INFER_BODY)
    @router.post("/models/{name}/versions/{version}/infer", include_in_schema=False)
    async def infer(name: str, request: Request, version: str = VERSION) -> Response:
        started, metrics = time.perf_counter_ns(), service.metrics
        # Clients can make up any number of names: nothing is kept for one that is not served.
        label, statistics = OTHER, ModelStatistics()
        try:
            model = service.repository.model(name)
            label, statistics = metrics.model(model.name), by_model.setdefault(model.name, statistics)
            _check_loaded(service, model, name, version)
            inference = await _infer(service, model, name, request, calls)
        except StimcoreError:
            statistics.add_failure(time.perf_counter_ns() - started)
            metrics.inferences.labels(label, "refused").inc()
            raise
        total_ns = time.perf_counter_ns() - started
        statistics.add_success(inference.images, total_ns, inference.compute_ns)
        metrics.inferences.labels(label, "done").inc()
        metrics.images.labels(label).inc(inference.images)
        metrics.infer_seconds.observe(total_ns / 1e9)
        return inference.response


async def _infer(service: Service, model: Model, name: str, request: Request, calls: AddressCounter) -> Inference:
    """Run the network that a request names on its images.

    Args:
        service: The service.
        model: The model.
        name: The name or alias by which the request asks for it: clients expect the same one in the response.
        request: The request, whose body was not read yet.
        calls: Counts the inferences of each address.
    """
    service.must_take_work()
    request.scope["state"]["bundle"] = model.bundle.fingerprint
    # Without the length of its JSON, a body is nothing but JSON. It is bounded as such before it is in memory: a few kilobytes
    # of gzip may hold 64 MiB.
    plain = LENGTH_HEADER not in request.headers
    limits = service.limits
    limit = min(limits.json_bytes, limits.body_bytes) if plain else limits.body_bytes
    body = await read_body(request, limits, limit, "Send tensors as binary data." if plain else "")
    experiment, topology = model.bundle.experiment, model.bundle.topology
    asked = decode_request(body, request.headers.get(LENGTH_HEADER), tuple(experiment.image_shape), service.limits)
    if model.spec is not None and asked.spec is not None:
        raise UsageError(f"'{name}' with the parameter spec", allowed=f"spec with '{experiment.name}.{model.bundle.method}'")
    spec = model.spec or topology.parse(asked.spec or "main")
    ref, images = model.ref, asked.images
    # The body may have 64 MiB, of which images that were sent as bytes are a view, and which others need no more: one copy is
    # held while the call waits, and `asked`, which the response is made from, holds none.
    num_images = len(images)
    asked = replace(asked, images=images[:0].copy())
    call = Infer(0, ref, spec, asked.recalibrate, images)
    del body, images
    with calls.one(request.scope["state"]["address"]):
        logits, compute_ns = await service.call(
            lambda number: replace(call, id=number),
            asked.timeout_s or service.limits.call_s,
            asked.priority,
        )
    content, json_length = encode_response(asked, name, str(spec), logits)
    if json_length is None:
        response = PiecewiseResponse(content, media_type="application/json")
    else:
        response = PiecewiseResponse(content, media_type="application/octet-stream", headers={LENGTH_HEADER: str(json_length)})
    return Inference(response, images=num_images, compute_ns=compute_ns)


def _add_statistics_routes(router: APIRouter, service: Service, by_model: dict[str, ModelStatistics]) -> None:
    def of_model(model: Model, name: str) -> dict[str, Any]:
        return by_model.get(model.name, ModelStatistics()).to_dict(name)

    @router.get("/models/stats", summary="Statistics of all models")
    async def all_statistics() -> dict[str, Any]:
        loaded = [model for name, model in service.repository.snapshot.models.items() if name not in service.unloaded]
        return {"model_stats": [of_model(model, model.name) for model in loaded]}

    @router.get("/models/{name}/stats", summary="Statistics of a model")
    @router.get("/models/{name}/versions/{version}/stats", include_in_schema=False)
    async def statistics(name: str, request: Request, version: str = VERSION) -> dict[str, Any]:
        return {"model_stats": [of_model(_model(service, request, name, version), name)]}


def _add_repository_routes(router: APIRouter, service: Service) -> None:
    empty = {"requestBody": {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}}

    @router.post("/repository/index", summary="All models, broken ones included", openapi_extra=empty)
    async def index(request: Request) -> list[dict[str, str]]:
        asked = await _optional_object(request, service, ("ready",))
        only_ready = asked.get("ready", False)
        if not isinstance(only_ready, bool):
            raise UsageError("'ready' is no truth value", allowed="true or false")
        rows = [
            {"name": name, "version": VERSION, "state": "UNAVAILABLE" if name in service.unloaded else "READY", "reason": ""}
            for name in service.repository.snapshot.models
        ]
        known = set(service.repository.snapshot.models)
        for problem in service.repository.snapshot.problems:
            if (name := problem.path.replace("/", ".")) not in known:
                rows.append({"name": name, "version": VERSION, "state": "UNAVAILABLE", "reason": problem.message})
        return [row for row in rows if row["state"] == "READY" or not only_ready]

    @router.post("/repository/models/{name}/load", summary="Check all files again, and load a model", openapi_extra=empty)
    async def load(name: str, request: Request) -> Response:
        if (await _optional_object(request, service, ("parameters",))).get("parameters") not in (None, {}):
            raise UsageError(
                "a load with parameters", allowed="none: models are never uploaded, only exported bundles are served"
            )
        service.must_take_work()
        await service.rescan()  # a load promises that the files have been checked now, so that everything is hashed again
        if (problem := service.repository.problem(name)) is not None:
            raise BundleError(f"failed to load '{name[:80]}': {problem.message}")
        service.unloaded.discard(service.repository.model(name).name)
        return Response(status_code=200)

    @router.post("/repository/models/{name}/unload", summary="Unload a model until it is loaded again", openapi_extra=empty)
    async def unload(name: str, request: Request) -> Response:
        parameters = (await _optional_object(request, service, ("parameters",))).get("parameters")
        if parameters not in (None, {}, {"unload_dependents": True}, {"unload_dependents": False}):
            raise UsageError("the parameters of an unload", allowed="unload_dependents, true or false: no model has any")
        model = service.repository.model(name)
        service.unloaded.add(model.name)
        siblings = [other for other in service.repository.snapshot.models.values() if other.bundle is model.bundle]
        if all(sibling.name in service.unloaded for sibling in siblings):
            service.forget(name)  # the workers hold one engine for all models of a bundle
        return Response(status_code=200)


async def _optional_object(request: Request, service: Service, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the object in a request's body; an empty one where there is no body.

    Raises:
        UsageError: The body is not a JSON object, or has keys other than `keys`.
    """
    raw = await read_body(request, service.limits, service.limits.json_bytes)
    if not raw.strip():
        return {}
    value = parse_json(raw, service.limits)
    if not isinstance(value, dict) or set(value) - set(keys):
        raise UsageError("the body", allowed=f"nothing, or an object with {', '.join(keys)}")
    return value
