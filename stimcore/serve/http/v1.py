"""Routes under /v1: catalogue, specs, jobs with their event streams, listed networks, samples, classification, runs.

Request bodies are parsed here rather than by FastAPI: the limits apply before a body is read, and the Content-Type that a
client sends decides nothing. Job states are JSON text already, made once for all clients that poll the same job.
"""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError

from stimcore.bundle import Bundle, hits
from stimcore.errors import UsageError
from stimcore.serve import types
from stimcore.serve.errors import NotStored, TooLarge, TooMany
from stimcore.serve.http.addresses import AddressCounter, address_group
from stimcore.serve.http.body import read_body
from stimcore.serve.http.error_response import ERROR_RESPONSES, MAX_LISTED
from stimcore.serve.http.responses import CountedStream, PiecewiseResponse
from stimcore.serve.jobs.job import Job
from stimcore.serve.parsing import parse_json
from stimcore.serve.repository.describe import check_spec, networks_of, safe_json, stored_sweep
from stimcore.serve.repository.models import bundle_ref
from stimcore.serve.repository.wall import image_sample, stored_answers, wall_images
from stimcore.serve.service import Service
from stimcore.serve.workers.messages import AnswerImages, Classify, Standalone

T = TypeVar("T", bound=BaseModel)
MAX_CLIENT_CHARS = 64
RUN_POLL_S = 1.0
"""Seconds between two looks at a run whose events are sent: its epochs take longer."""
# Without these headers, proxies (nginx reads the second one) would collect events before they pass them on.
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
ClientId = Annotated[
    str, Header(alias="X-Stimcore-Client", max_length=MAX_CLIENT_CHARS, description="name of the client that watches; any text")
]


def routes(service: Service, calls: AddressCounter) -> APIRouter:
    """Return the router of all routes under /v1.

    Args:
        service: The service.
        calls: Counts the downloads and classifications of each address.
    """
    router = APIRouter(prefix="/v1", responses=ERROR_RESPONSES)
    _add_server_routes(router, service)
    streams = AddressCounter(service.limits.streams_per_address, "event streams")
    _add_job_routes(router, service, streams)
    _add_run_routes(router, service, streams)
    _add_bundle_routes(router, service, calls)
    _add_image_routes(router, service, calls)
    return router


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return how OpenAPI describes a body that the route parses itself; the model must be flat."""
    schema = model.model_json_schema()
    assert "$defs" not in schema  # FastAPI would not move them to where references look for them
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def read_model(model: type[T], request: Request, service: Service, max_bytes: int | None = None) -> T:
    """Return the body of a request as a type of the API.

    Raises:
        UsageError: The body does not fit the type; the sentence names the fields that do not.
        TooLarge: The body has more than `max_bytes`, by default the limit `json_bytes`.
        TooSlow: The body did not arrive in time.
    """
    limit = max_bytes or service.limits.json_bytes
    value = parse_json(await read_body(request, service.limits, limit), service.limits, limit)
    # Unknown keys are refused here, because pydantic would make an error of each of them.
    if isinstance(value, dict) and (unknown := [key for key in value if key not in model.model_fields]):
        raise UsageError(f"{unknown[0][:80]!r} is no key of the body", allowed=", ".join(model.model_fields))
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as reason:
        fields = [
            f"{'.'.join(map(str, error['loc'])) or 'the body'}: {error['msg']}"[:200] for error in reason.errors()[:MAX_LISTED]
        ]
        raise UsageError("; ".join(fields), allowed=", ".join(model.model_fields)) from reason


def _add_server_routes(router: APIRouter, service: Service) -> None:
    @router.get("/catalogue", summary="Experiments that are served, and folders that could not be opened")
    async def catalogue() -> types.Catalogue:
        return service.repository.snapshot.catalogue

    @router.post("/rescan", summary="Scan the folder again")
    async def rescan() -> types.Catalogue:
        service.must_take_work()
        return await service.rescan()

    @router.get("/status", summary="State of the server")
    async def status() -> types.Status:
        return service.status()


def _add_job_routes(router: APIRouter, service: Service, streams: AddressCounter) -> None:
    @router.get("/experiments/{experiment}/spec", summary="Whether a text names a sub-network, and why not")
    async def spec(experiment: str, text: str, method: str | None = None) -> types.SpecCheck:
        bundle = None if method is None else service.repository.bundle(experiment, method)
        return check_spec(bundle, service.repository.experiment(experiment), text)

    @router.post(
        "/jobs",
        status_code=202,
        response_model=types.Job,
        summary="Start a job that evaluates sub-networks",
        openapi_extra=body_schema(types.JobRequest),
    )
    async def submit(request: Request, client: ClientId = "") -> Response:
        service.must_take_work()
        asked = await read_model(types.JobRequest, request, service)
        job = service.jobs.submit(asked, client, address_group(request.scope["state"]["address"]))
        return _job_response(job, 202, {"Location": f"/v1/jobs/{job.id}"})

    @router.get("/jobs", summary="All jobs that the server remembers, without their results")
    async def jobs() -> list[types.JobLine]:
        return [_line(job) for job in service.jobs.all()]

    @router.get("/jobs/{id}", response_model=types.Job, summary="A job; asking for it counts as watching it")
    async def job(id: str, client: ClientId = "") -> Response:
        return _job_response(service.jobs.get(id, client))

    @router.delete("/jobs/{id}", response_model=types.Job, summary="Stop watching a job; it ends unless other clients watch it")
    async def cancel(id: str, client: ClientId = "") -> Response:
        return _job_response(service.jobs.cancel(id, client))

    @router.get(
        "/jobs/{id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "events"}},
        summary="Server-sent events: progress, result, error, done",
    )
    async def events(id: str, last: Annotated[str, Header(alias="Last-Event-ID")] = "0", client: ClientId = "") -> Response:
        job = service.jobs.get(id, client)
        number = _event_number(last)
        _check_streams(service, streams)
        return CountedStream(
            _event_stream(service, job, client, number), streams, media_type="text/event-stream", headers=STREAM_HEADERS
        )


def _add_run_routes(router: APIRouter, service: Service, streams: AddressCounter) -> None:
    @router.get("/runs", summary="Run folders on the server's machine, the last written one first")
    async def runs() -> list[types.RunInfo]:
        return await service.runs()

    @router.get("/runs/offer", summary="What the server trains on request")
    async def offer() -> types.TrainingOffer:
        return await service.trainings.offer(await service.runs())

    @router.post(
        "/runs",
        status_code=202,
        response_model=types.RunInfo,
        summary="Train a network and export it; one training runs at a time, the others wait",
        openapi_extra=body_schema(types.RunRequest),
    )
    async def submit(request: Request, response: Response) -> types.RunInfo:
        service.must_take_work()
        plan = await service.trainings.submit(await read_model(types.RunRequest, request, service))
        response.headers["Location"] = f"/v1/runs/{plan.name}"
        return await service.run(plan.name)

    @router.get("/runs/{experiment}/{run}", summary="A run; it goes on when nobody asks for it")
    async def run(experiment: str, run: str) -> types.RunInfo:
        return await service.run(f"{experiment}/{run}")

    @router.delete("/runs/{experiment}/{run}", summary="Stop a run, which keeps its last finished epoch")
    async def stop(experiment: str, run: str) -> types.RunInfo:
        service.trainings.stop(f"{experiment}/{run}")
        return await service.run(f"{experiment}/{run}")

    @router.post("/runs/{experiment}/{run}/continue", status_code=202, summary="Continue a run that was stopped or has failed")
    async def resume(experiment: str, run: str) -> types.RunInfo:
        service.must_take_work()
        plan = await service.trainings.resume(f"{experiment}/{run}")
        return await service.run(plan.name)

    @router.get(
        "/runs/{experiment}/{run}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "events"}},
        summary="Server-sent events: state, epoch, done",
    )
    async def events(experiment: str, run: str, last: Annotated[str, Header(alias="Last-Event-ID")] = "0") -> Response:
        name, number = f"{experiment}/{run}", _event_number(last)
        await service.run(name)
        _check_streams(service, streams)
        return CountedStream(
            _run_stream(service, name, number), streams, media_type="text/event-stream", headers=STREAM_HEADERS
        )


def _event_number(text: str) -> int:
    """Return the value of `Last-Event-ID`.

    Raises:
        UsageError: It is no number.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError(f"Last-Event-ID is '{text[:40]}'", allowed="a number that this stream sent")
    return int(text)


def _check_streams(service: Service, streams: AddressCounter) -> None:
    """Refuse a further event stream when as many are open as the server allows.

    Raises:
        TooMany: As many are open.
    """
    if streams.total >= service.limits.streams:
        raise TooMany(f"{service.limits.streams} event streams are open", todo="Poll, or try again in a moment.")


async def _run_stream(service: Service, name: str, last: int) -> AsyncIterator[bytes]:
    """Yield a run's events after `last` finished epochs, until it waits and trains no longer or the server ends."""
    state, silent_since = "", time.monotonic()
    while not service.draining.is_set():
        info = await service.run(name)
        events: list[tuple[str, Any]] = []
        finished = info.state not in ("queued", "training", "exporting")
        rows, last = info.rows[last:], max(last, len(info.rows))
        events += [("epoch", row) for row in rows]
        if info.state != state and not finished:
            events.insert(0, ("state", {"state": info.state, "message": info.message}))
            state = info.state
        if finished:
            events.append(("done", {"state": info.state, "message": info.message, "bundle": info.bundle}))
        for kind, data in events:
            number = data["epoch"] if kind == "epoch" and isinstance(data.get("epoch"), int) else last
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), json.dumps(data).encode())
        if finished:
            return
        if events:
            silent_since = time.monotonic()
        elif time.monotonic() - silent_since > service.limits.heartbeat_s:
            silent_since = time.monotonic()
            yield b": still there\n\n"
        await asyncio.sleep(RUN_POLL_S)


def _bundle(service: Service, request: Request, experiment: str, method: str) -> Bundle:
    """Return a bundle by name, and note that the response is about it; errors are those of `ModelRepository.bundle`."""
    bundle = service.repository.bundle(experiment, method)
    request.scope["state"]["bundle"] = bundle.fingerprint
    return bundle


def _job_response(job: Job, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return PiecewiseResponse(job.snapshot(), status, media_type="application/json", headers=headers)


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


async def _event_stream(service: Service, job: Job, client: str, last: int) -> AsyncIterator[bytes]:
    """Yield a job's events after `last` in the format of server-sent events."""
    async for event in job.stream(client, last, service.draining, service.limits.heartbeat_s):
        if event is None:
            yield b": still there\n\n"  # a comment, so that proxies do not close a silent connection
        else:
            number, type_, text = event
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (number, type_.encode(), text)


def _add_bundle_routes(router: APIRouter, service: Service, calls: AddressCounter) -> None:
    base = "/experiments/{experiment}/methods/{method}"

    @router.get(base + "/training", summary="Records of the training's epochs")
    async def training(experiment: str, method: str, request: Request) -> list[dict[str, Any]]:
        bundle = _bundle(service, request, experiment, method)
        return list(safe_json(await asyncio.to_thread(bundle.training)))

    @router.get(base + "/sweeps/{kind}", summary="Stored accuracies of a family of sub-networks")
    async def sweep(experiment: str, method: str, kind: str, request: Request) -> dict[str, Any]:
        stored = await asyncio.to_thread(stored_sweep, _bundle(service, request, experiment, method), kind)
        if stored is None:
            raise NotStored(
                f"{experiment}/{method} has no stored sweep '{kind}'", todo="'python -m stimcore.sweep --store' makes one."
            )
        return dict(safe_json(stored))

    @router.get(
        base + "/hits",
        response_class=Response,
        responses={
            200: {
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
                "description": "`hits.npz` of the bundle",
            }
        },
        summary="Which evaluation images the stored sub-networks classify correctly",
    )
    async def stored_hits(experiment: str, method: str) -> Response:
        bundle = service.repository.bundle(experiment, method)
        if not bundle.has(hits.FILE):
            raise NotStored(
                f"{experiment}/{method} has no stored hits",
                todo="'python -m stimcore.bundle migrate' makes them for a bundle of version 1.",
            )
        return PiecewiseResponse(await asyncio.to_thread(bundle.read, hits.FILE), media_type="application/octet-stream")

    @router.get(base + "/networks", summary="The listed ONNX files")
    async def networks(experiment: str, method: str, request: Request) -> types.Networks:
        return networks_of(_bundle(service, request, experiment, method))

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
    async def onnx(experiment: str, method: str, spec: str, request: Request) -> Response:
        service.must_take_work()
        bundle = _bundle(service, request, experiment, method)
        parsed, ref = bundle.topology.parse(spec), bundle_ref(bundle)
        with calls.one(request.scope["state"]["address"]):
            model = await service.call(lambda number: Standalone(number, ref, parsed), service.limits.download_s)
        name = f"{experiment}.{method}.{bundle.topology.short(parsed)}"[:120]
        # Names come from folders, which may hold quotes, line breaks or letters that a header can't.
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
        return PiecewiseResponse(
            model, media_type="application/onnx", headers={"Content-Disposition": f'attachment; filename="{safe}.onnx"'}
        )


def _add_image_routes(router: APIRouter, service: Service, calls: AddressCounter) -> None:
    @router.get("/experiments/{experiment}/samples", summary="Evaluation images, drawn with a seed")
    async def samples(
        experiment: str, count: Annotated[int, Query(ge=1)] = 12, seed: Annotated[int, Query(ge=0, lt=2**63)] = 0
    ) -> list[types.Sample]:
        bundle = service.repository.experiment(experiment)
        if count > service.limits.samples:
            raise TooLarge(f"{count:,} samples", allowed=f"at most {service.limits.samples}")
        return await asyncio.to_thread(_samples, bundle, count, seed)

    @router.get("/experiments/{experiment}/wall", summary="Evaluation images of the picture wall, the same for all methods")
    async def wall(experiment: str) -> list[types.Sample]:
        bundles = service.repository.bundles_of(experiment)

        def read() -> list[types.Sample]:
            return [image_sample(bundles[0], index) for index in wall_images(bundles)]

        return await asyncio.to_thread(read)

    @router.get(
        "/experiments/{experiment}/methods/{method}/wall", summary="Answers of a sub-network on the images of the picture wall"
    )
    async def wall_answers(
        experiment: str, method: str, spec: str, request: Request, recalibrate: bool = True
    ) -> types.WallAnswers:
        service.must_take_work()
        bundle, bundles = _bundle(service, request, experiment, method), service.repository.bundles_of(experiment)
        images = await asyncio.to_thread(wall_images, bundles)
        parsed, ref = bundle.topology.parse(spec), bundle_ref(bundle)
        stored = await asyncio.to_thread(stored_answers, bundle, parsed, images) if recalibrate else None
        answers = stored
        if answers is None:
            with calls.one(request.scope["state"]["address"]):
                answers = await service.call(
                    lambda number: AnswerImages(number, ref, parsed, recalibrate, images), service.limits.call_s
                )
        return types.WallAnswers(
            spec=str(parsed),
            classes=answers.classes,
            confidence=answers.confidence,
            source="measured" if stored is None else "stored",
        )

    @router.post(
        "/experiments/{experiment}/classify",
        summary="Predictions of sub-networks for one image",
        openapi_extra=body_schema(types.ClassifyRequest),
    )
    async def classify(experiment: str, request: Request) -> types.Classification:
        service.must_take_work()
        limits = service.limits
        max_bytes = limits.image_bytes * 4 // 3 + limits.json_bytes  # base64 makes four characters of three bytes
        asked = await read_model(types.ClassifyRequest, request, service, max_bytes)
        bundle = _bundle(service, request, experiment, asked.method)
        if (asked.index is None) == (asked.image_base64 is None):
            raise UsageError("index and image_base64", allowed="exactly one of both")
        if not 1 <= len(asked.specs) <= limits.classify_specs:
            raise TooLarge(f"{len(asked.specs)} specs", allowed=f"1 to {limits.classify_specs}")
        image = None if asked.image_base64 is None else _decode_base64(asked.image_base64, limits.image_bytes)
        ref, specs = bundle_ref(bundle), [bundle.topology.parse(text) for text in asked.specs]
        with calls.one(request.scope["state"]["address"]):
            png, predictions = await service.call(
                lambda number: Classify(number, ref, specs, asked.index, image, limits.image_pixels), limits.call_s
            )
        results = [types.Classified(spec=str(spec), probabilities=probabilities) for spec, probabilities in predictions]
        return types.Classification(png_base64=base64.b64encode(png).decode(), results=results)


def _decode_base64(text: str, max_bytes: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as reason:
        raise UsageError("image_base64 is not base64") from reason
    if len(data) > max_bytes:
        raise TooLarge(f"an image of {len(data):,} bytes", allowed=f"at most {max_bytes:,}")
    return data


def _samples(bundle: Bundle, count: int, seed: int) -> list[types.Sample]:
    num_images = len(bundle.experiment.evaluation[1])
    chosen = np.random.Generator(np.random.PCG64(seed)).permutation(num_images)[:count]
    return [image_sample(bundle, int(index)) for index in chosen]
