"""Routes of jobs: specs that are checked and evaluated, jobs that are started, watched and left, and their events."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from stimcore.serve import types
from stimcore.serve.http.addresses import AddressCounter, address_group
from stimcore.serve.http.responses import CountedStream, PiecewiseResponse
from stimcore.serve.http.v1.requests import ClientId, body_schema, named_bundle, read_model
from stimcore.serve.http.v1.streams import STREAM_HEADERS, check_streams, event_number
from stimcore.serve.jobs.job import Job
from stimcore.serve.repository.describe import check_spec
from stimcore.serve.service import Service


def add_job_routes(router: APIRouter, service: Service, streams: AddressCounter) -> None:
    """Add the routes of jobs to a router."""

    @router.get("/experiments/{experiment}/spec", summary="Whether a text names a sub-network, and why not")
    async def spec(experiment: str, text: str, request: Request, method: str | None = None) -> types.SpecCheck:
        bundle = None if method is None else named_bundle(service, request, experiment, method)
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
    async def events(
        id: str, request: Request, last: Annotated[str, Header(alias="Last-Event-ID")] = "0", client: ClientId = ""
    ) -> Response:
        job = service.jobs.get(id, client)
        request.scope["state"]["bundle"] = job.bundle_ref.fingerprint
        number = event_number(last)
        check_streams(service, streams)
        return CountedStream(
            _event_stream(service, job, client, number), streams, media_type="text/event-stream", headers=STREAM_HEADERS
        )


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
