"""The routes under /v1: catalogue, specs, evaluations with their event streams, networks, samples, classification, runs."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError

from stimcore.bundle import Bundle
from stimcore.errors import UsageError
from stimcore.serve import pictures, types
from stimcore.serve.errors import NotStored, TooLarge, TooMany
from stimcore.serve.http import body
from stimcore.serve.jobs.job import Job
from stimcore.serve.repository.describe import check_spec, finite, networks_of, stored_sweep
from stimcore.serve.repository.repository import bundle_ref
from stimcore.serve.service import Service
from stimcore.serve.workers.messages import Classify, Standalone

T = TypeVar("T", bound=BaseModel)
MAX_CLIENT = 64
Client = Annotated[str, Header(alias="X-Stimcore-Client", max_length=MAX_CLIENT, description="who watches; any text of yours")]
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": types.Refusal, "description": text}
    for code, text in (
        (400, "wrong use"),
        (401, "no token, or a wrong one"),
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


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """How OpenAPI describes a body that is parsed whatever its Content-Type."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(model)}}}}


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a flat model."""
    schema = model.model_json_schema()
    assert "$defs" not in schema
    return schema


async def read_as(model: type[T], request: Request, server: Service, max_bytes: int | None = None) -> T:
    """The body as a wire type.

    Raises:
        UsageError: It is none; says where it differs.
    """
    limit = max_bytes or server.limits.json_bytes
    raw = await body.read(request, server.limits, limit)
    if body.depth(raw) > server.limits.json_depth:
        raise UsageError("JSON is nested too deeply", allowed=f"{server.limits.json_depth} brackets within each other")
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as reason:
        raise UsageError("; ".join(_places(reason)), allowed=", ".join(model.model_fields)) from reason


def _places(reason: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, error['loc'])) or 'the body'}: {error['msg']}"[:200] for error in reason.errors()[:5]]


def routes(server: Service) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/v1", responses=REFUSALS)
    _about(router, server)
    _evaluations(router, server)
    _bundles(router, server)
    _images(router, server)
    return router


def _about(router: APIRouter, server: Service) -> None:
    @router.get("/catalogue", summary="Everything that is served, and what could not be")
    async def catalogue() -> types.Catalogue:
        return server.repository.snapshot.catalogue

    @router.post("/rescan", summary="Look at the folder again")
    async def rescan() -> types.Catalogue:
        server.must_take_work()
        return await server.rescan()

    @router.get("/status", summary="The server itself")
    async def status() -> types.Status:
        return server.status()

    @router.get("/runs", summary="Run folders on the server's machine, the one written last first")
    async def runs() -> list[types.RunInfo]:
        found = await asyncio.to_thread(server.repository.runs)
        return [info.model_copy(update={"rows": finite(list(info.rows))}) for info in found]


def _evaluations(router: APIRouter, server: Service) -> None:
    @router.get("/experiments/{experiment}/spec", summary="Whether a text names a sub-network, and why not")
    async def spec(experiment: str, text: str, method: str | None = None) -> types.SpecCheck:
        bundle = None if method is None else server.repository.bundle(experiment, method)
        return check_spec(bundle, server.repository.experiment(experiment), text)

    @router.post(
        "/jobs",
        status_code=202,
        response_model=types.Job,
        summary="Evaluate sub-networks",
        openapi_extra=body_of(types.JobRequest),
    )
    async def submit(request: Request, client: Client = "") -> Response:
        server.must_take_work()
        asked = await read_as(types.JobRequest, request, server)
        job = server.jobs.submit(asked, client)
        return _job(job, 202, {"Location": f"/v1/jobs/{job.id}"})

    @router.get("/jobs", summary="Evaluations that are remembered, without their results")
    async def jobs() -> list[types.JobLine]:
        return [_line(job) for job in server.jobs.all()]

    @router.get("/jobs/{id}", response_model=types.Job, summary="One evaluation; asking counts as watching it")
    async def job(id: str, client: Client = "") -> Response:
        return _job(server.jobs.get(id, client))

    @router.delete("/jobs/{id}", response_model=types.Job, summary="Cancel: the work ends unless others watch it too")
    async def cancel(id: str, client: Client = "") -> Response:
        return _job(server.jobs.cancel(id, client))

    @router.get(
        "/jobs/{id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "events"}},
        summary="Server-sent events: progress, result, error, done",
    )
    async def events(id: str, last: Annotated[str, Header(alias="Last-Event-ID")] = "0", client: Client = "") -> Response:
        found = server.jobs.get(id, client)
        if not (last.isascii() and last.isdigit() and len(last) < 19):
            raise UsageError(f"Last-Event-ID is '{last[:40]}'", allowed="a number that this stream sent")
        if sum(len(job.streams) for job in server.jobs.all()) >= server.limits.streams:
            raise TooMany(f"{server.limits.streams} event streams are open", todo="Poll, or try again in a moment.")
        return StreamingResponse(
            _sse(server, found, client, int(last)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def _job(job: Job, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(job.snapshot(), status, media_type="application/json", headers=headers)


def _line(job: Job) -> types.JobLine:
    return types.JobLine(
        id=job.id,
        state=job.state,
        experiment=job.request.experiment,
        method=job.request.method,
        num_specs=len(job.request.specs),
        images=job.images,
        images_total=job.images_total,
    )


async def _sse(server: Service, job: Job, client: str, last: int) -> AsyncIterator[bytes]:
    async for event in job.stream(client, last, server.draining, server.limits.heartbeat_s):
        if event is None:
            yield b": still there\n\n"
        else:
            number, type_, text = event
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (number, type_.encode(), text)


def _bundles(router: APIRouter, server: Service) -> None:
    base = "/experiments/{experiment}/methods/{method}"

    @router.get(base + "/training", summary="Records of the epochs")
    async def training(experiment: str, method: str) -> list[dict[str, Any]]:
        bundle = server.repository.bundle(experiment, method)
        return list(finite(await asyncio.to_thread(bundle.training)))

    @router.get(base + "/sweeps/{kind}", summary="Stored accuracies of a family")
    async def sweep(experiment: str, method: str, kind: str) -> dict[str, Any]:
        found = await asyncio.to_thread(stored_sweep, server.repository.bundle(experiment, method), kind)
        if found is None:
            raise NotStored(
                f"{experiment}/{method} has no stored sweep '{kind}'", todo="'python -m stimcore.sweep --store' makes one."
            )
        return dict(finite(found))

    @router.get(base + "/networks", summary="The listed ONNX files")
    async def networks(experiment: str, method: str) -> types.Networks:
        return networks_of(server.repository.bundle(experiment, method))

    @router.get(
        base + "/onnx",
        response_class=Response,
        responses={
            200: {
                "content": {"application/onnx": {"schema": {"type": "string", "format": "binary"}}},
                "description": "the file",
            }
        },
        summary="A sub-network as one self-contained, verified ONNX file",
    )
    async def onnx(experiment: str, method: str, spec: str) -> Response:
        server.must_take_work()
        bundle = server.repository.bundle(experiment, method)
        source, text = bundle_ref(bundle), str(bundle.topology.parse(spec))
        model = await server.pool.call(lambda number: Standalone(number, source, text), server.limits.download_s)
        name = f"{experiment}.{method}.{bundle.topology.short(bundle.topology.parse(spec))}"[:120]
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
        return Response(
            model, media_type="application/onnx", headers={"Content-Disposition": f'attachment; filename="{safe}.onnx"'}
        )


def _images(router: APIRouter, server: Service) -> None:
    @router.get("/experiments/{experiment}/samples", summary="Evaluation images, drawn with a seed")
    async def samples(
        experiment: str, count: Annotated[int, Query(ge=1)] = 12, seed: Annotated[int, Query(ge=0, lt=2**63)] = 0
    ) -> list[types.Sample]:
        bundle = server.repository.experiment(experiment)
        if count > server.limits.samples:
            raise TooLarge(f"{count:,} samples", allowed=f"at most {server.limits.samples}")
        return await asyncio.to_thread(_samples, bundle, count, seed)

    @router.post(
        "/experiments/{experiment}/classify",
        summary="What sub-networks say of one image",
        openapi_extra=body_of(types.ClassifyRequest),
    )
    async def classify(experiment: str, request: Request) -> types.Classification:
        server.must_take_work()
        room = server.limits.image_bytes * 4 // 3 + server.limits.json_bytes
        asked = await read_as(types.ClassifyRequest, request, server, room)
        bundle = server.repository.bundle(experiment, asked.method)
        if (asked.index is None) == (asked.image_base64 is None):
            raise UsageError("index and image_base64", allowed="exactly one of both")
        if not 1 <= len(asked.specs) <= server.limits.classify_specs:
            raise TooLarge(f"{len(asked.specs)} specs", allowed=f"1 to {server.limits.classify_specs}")
        image = None if asked.image_base64 is None else _decoded(asked.image_base64, server.limits.image_bytes)
        specs = [str(bundle.topology.parse(text)) for text in asked.specs]
        source, most = bundle_ref(bundle), server.limits.image_pixels
        png, found = await server.pool.call(
            lambda number: Classify(number, source, specs, asked.index, image, most), server.limits.call_s
        )
        results = [types.Classified(spec=text, probabilities=shares) for text, shares in found]
        return types.Classification(png_base64=base64.b64encode(png).decode(), results=results)


def _decoded(text: str, most: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as reason:
        raise UsageError("image_base64 is not base64") from reason
    if len(data) > most:
        raise TooLarge(f"an image of {len(data):,} bytes", allowed=f"at most {most:,}")
    return data


def _samples(bundle: Bundle, count: int, seed: int) -> list[types.Sample]:
    pixels, labels = bundle.experiment.evaluation
    chosen = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))[:count]
    return [
        types.Sample(
            index=int(i),
            label=int(labels[i]),
            label_name=bundle.experiment.classes[labels[i]],
            png_base64=base64.b64encode(pictures.png(pixels[i])).decode(),
        )
        for i in chosen
    ]
