"""The routes under /v2: Open Inference Protocol, with binary tensors, model repository, statistics and configuration."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from stimcore.errors import BundleError, StimcoreError, UsageError
from stimcore.serve.errors import Busy, NotFound
from stimcore.serve.http import body as bodies
from stimcore.serve.http import oip_codec
from stimcore.serve.http.v1 import REFUSALS
from stimcore.serve.repository.repository import Model, bundle_ref
from stimcore.serve.service import Service
from stimcore.serve.workers.messages import Infer

EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics"]
PLATFORM = "onnxruntime_onnx"
HEADER = "Inference-Header-Content-Length"
VERSION = "1"


@dataclass
class Counts:
    """What statistics say of one model. Times in nanoseconds."""

    last_ms: int = 0
    images: int = 0
    runs: int = 0
    failures: int = 0
    total_ns: int = 0
    failed_ns: int = 0
    compute_ns: int = 0


def routes(server: Service) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v2", responses=REFUSALS)
    counts: dict[str, Counts] = {}
    _health(router, server)
    _statistics(router, server, counts)  # before models: its path would be taken for a name
    _models(router, server)
    _inference(router, server, counts)
    _repository(router, server)
    return router


def _health(router: APIRouter, server: Service) -> None:
    @router.get("", summary="The server")
    async def metadata() -> dict[str, Any]:
        return {"name": "stimcore", "version": "1", "extensions": EXTENSIONS}

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Whether it takes work")
    async def ready() -> JSONResponse:
        return JSONResponse({"ready": True}) if server.ready else _not_ready(server)


def _not_ready(server: Service) -> JSONResponse:
    if server.draining.is_set():
        why = "the server is ending"
    elif server.pool.broken:
        why = "the worker process keeps ending"
    else:
        why = "the server is starting"
    return JSONResponse({"ready": False, "error": f"{why}.", "code": Busy.code}, 503, {"Retry-After": "1"})


def _model(server: Service, name: str, version: str = VERSION) -> Model:
    """A loaded model.

    Raises:
        NotFound: There is none, not in this version, or it was unloaded.
    """
    model = server.repository.model(name)
    if version != VERSION:
        raise NotFound(f"'{name}' has no version '{version[:40]}'", allowed=VERSION)
    if model.name in server.unloaded:
        raise NotFound(f"'{name}' was unloaded", todo=f"POST /v2/repository/models/{name}/load loads it.")
    return model


def _models(router: APIRouter, server: Service) -> None:
    @router.get("/models/{name}", summary="Inputs and outputs")
    @router.get("/models/{name}/versions/{version}", include_in_schema=False)
    async def metadata(name: str, version: str = VERSION) -> dict[str, Any]:
        model = _model(server, name, version)
        return {
            "name": name,
            "versions": [VERSION],
            "platform": PLATFORM,
            "inputs": model.inputs,
            "outputs": model.outputs,
        }

    @router.get("/models/{name}/ready", summary="Whether a model takes work")
    @router.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
    async def ready(name: str, version: str = VERSION) -> JSONResponse:
        _model(server, name, version)
        return JSONResponse({"name": name, "ready": True}) if server.ready else _not_ready(server)

    @router.get("/models/{name}/config", summary="Triton's view of a model")
    @router.get("/models/{name}/versions/{version}/config", include_in_schema=False)
    async def config(name: str, version: str = VERSION) -> dict[str, Any]:
        model = _model(server, name, version)

        def tensor(value: dict[str, Any]) -> dict[str, Any]:
            return {"name": value["name"], "data_type": f"TYPE_{value['datatype']}", "dims": value["shape"][1:]}

        return {
            "name": name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": server.limits.batch,
            "input": [tensor(value) for value in model.inputs],
            "output": [tensor(value) for value in model.outputs],
        }


_INFER: dict[str, Any] = {
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


def _inference(router: APIRouter, server: Service, counts: dict[str, Counts]) -> None:
    @router.post("/models/{name}/infer", summary="Logits of normalised images", openapi_extra=_INFER)
    @router.post("/models/{name}/versions/{version}/infer", include_in_schema=False)
    async def infer(name: str, request: Request, version: str = VERSION) -> Response:
        started = time.perf_counter_ns()
        count = counts.setdefault(server.metrics.model(name), Counts())
        try:
            response, images, compute_ns = await _infer(server, _model(server, name, version), request)
        except StimcoreError:
            count.failures, count.failed_ns = count.failures + 1, count.failed_ns + time.perf_counter_ns() - started
            server.metrics.inferences.labels(server.metrics.model(name), "refused").inc()
            raise
        total_ns = time.perf_counter_ns() - started
        count.last_ms = int(1000 * time.time())
        count.images, count.runs = count.images + images, count.runs + 1
        count.total_ns, count.compute_ns = count.total_ns + total_ns, count.compute_ns + compute_ns
        label = server.metrics.model(name)
        server.metrics.inferences.labels(label, "done").inc()
        server.metrics.images.labels(label).inc(images)
        server.metrics.infer_seconds.observe(total_ns / 1e9)
        return response


async def _infer(server: Service, model: Model, request: Request) -> tuple[Response, int, int]:
    """The response, images, and nanoseconds of computing."""
    server.must_take_work()
    body = await bodies.read(request, server.limits)
    experiment, topology = model.bundle.experiment, model.bundle.topology
    asked = oip_codec.parse(body, request.headers.get(HEADER), tuple(experiment.image_shape), server.limits)
    if model.spec is not None and asked.spec is not None:
        raise UsageError(
            f"'{model.name}' with the parameter spec", allowed=f"spec with '{experiment.name}.{model.bundle.method}'"
        )
    spec = str(topology.parse(asked.spec or model.spec or "main"))
    source, shape, data = bundle_ref(model.bundle), asked.images.shape, asked.images.tobytes()
    found, compute_ns = await server.pool.call(
        lambda number: Infer(number, source, spec, asked.recalibrate, shape, data),
        asked.timeout_s or server.limits.call_s,
        asked.priority,
    )
    logits = np.frombuffer(found, np.float32).reshape(shape[0], -1)
    content, header = oip_codec.respond(asked, model.name, spec, logits)
    if header is None:
        return Response(content, media_type="application/json"), shape[0], compute_ns
    return Response(content, media_type="application/octet-stream", headers={HEADER: str(header)}), shape[0], compute_ns


def _statistics(router: APIRouter, server: Service, counts: dict[str, Counts]) -> None:
    @router.get("/models/stats", summary="Statistics of all models")
    async def all_statistics() -> dict[str, Any]:
        names = [name for name in server.repository.snapshot.models if name not in server.unloaded]
        return {"model_stats": [_stats(name, counts.get(name, Counts())) for name in names]}

    @router.get("/models/{name}/stats", summary="Statistics of a model")
    @router.get("/models/{name}/versions/{version}/stats", include_in_schema=False)
    async def statistics(name: str, version: str = VERSION) -> dict[str, Any]:
        _model(server, name, version)
        return {"model_stats": [_stats(name, counts.get(name, Counts()))]}


def _stats(name: str, count: Counts) -> dict[str, Any]:
    def duration(runs: int, ns: int) -> dict[str, int]:
        return {"count": runs, "ns": ns}

    return {
        "name": name,
        "version": VERSION,
        "last_inference": count.last_ms,
        "inference_count": count.images,
        "execution_count": count.runs,
        "inference_stats": {
            "success": duration(count.runs, count.total_ns),
            "fail": duration(count.failures, count.failed_ns),
            "queue": duration(count.runs, count.total_ns - count.compute_ns),
            "compute_input": duration(count.runs, 0),
            "compute_infer": duration(count.runs, count.compute_ns),
            "compute_output": duration(count.runs, 0),
        },
        "batch_stats": [],
    }


def _repository(router: APIRouter, server: Service) -> None:
    empty = {"requestBody": {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}}

    @router.post("/repository/index", summary="All models, the broken ones too", openapi_extra=empty)
    async def index(request: Request) -> list[dict[str, str]]:
        asked = await _optional(request, server, ("ready",))
        only_ready = asked.get("ready", False)
        if not isinstance(only_ready, bool):
            raise UsageError("'ready' is no truth value", allowed="true or false")
        rows = [
            {"name": name, "version": VERSION, "state": "UNAVAILABLE" if name in server.unloaded else "READY", "reason": ""}
            for name in server.repository.snapshot.models
        ]
        known = set(server.repository.snapshot.models)
        for problem in server.repository.snapshot.problems:
            if (name := problem.path.replace("/", ".")) not in known:
                rows.append({"name": name, "version": VERSION, "state": "UNAVAILABLE", "reason": problem.message})
        return [row for row in rows if row["state"] == "READY" or not only_ready]

    @router.post("/repository/models/{name}/load", summary="Look again, hash by hash, and load", openapi_extra=empty)
    async def load(name: str, request: Request) -> Response:
        if (await _optional(request, server, ("parameters",))).get("parameters") not in (None, {}):
            raise UsageError(
                "a load with parameters", allowed="none: models are never uploaded, only exported bundles are served"
            )
        server.must_take_work()
        await server.rescan()
        for problem in server.repository.snapshot.problems:
            if name == (broken := problem.path.replace("/", ".")) or name.startswith(broken + "."):
                raise BundleError(f"failed to load '{name[:80]}': {problem.message}")
        server.unloaded.discard(server.repository.model(name).name)
        return Response(status_code=200)

    @router.post("/repository/models/{name}/unload", summary="Take a model out until it is loaded again", openapi_extra=empty)
    async def unload(name: str, request: Request) -> Response:
        parameters = (await _optional(request, server, ("parameters",))).get("parameters")
        if parameters not in (None, {}, {"unload_dependents": True}, {"unload_dependents": False}):
            raise UsageError("the parameters of an unload", allowed="unload_dependents, true or false: no model has any")
        model = server.repository.model(name)
        server.unloaded.add(model.name)
        if all(other.name in server.unloaded for other in server.repository.snapshot.models.values() if other.bundle is model.bundle):
            server.forget(name)
        return Response(status_code=200)


async def _optional(request: Request, server: Service, keys: tuple[str, ...]) -> dict[str, Any]:
    """A body that may be missing.

    Raises:
        UsageError: It is no JSON object, or one with other keys.
    """
    raw = await bodies.read(request, server.limits, server.limits.json_bytes)
    if not raw.strip():
        return {}
    value = bodies.parse(raw, server.limits)
    if not isinstance(value, dict) or set(value) - set(keys):
        raise UsageError("the body", allowed=f"nothing, or an object with {', '.join(keys)}")
    return value
