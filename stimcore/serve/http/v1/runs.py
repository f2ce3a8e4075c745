"""Routes of runs: trainings that are started, watched, stopped and continued, and their events."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from stimcore.serve import types
from stimcore.serve.http.addresses import AddressCounter
from stimcore.serve.http.responses import CountedStream
from stimcore.serve.http.v1.requests import body_schema, read_model
from stimcore.serve.http.v1.streams import STREAM_HEADERS, check_streams, event_number
from stimcore.serve.service import Service

RUN_POLL_S = 1.0
"""Seconds between two looks at a run whose events are sent: its epochs take longer."""


def add_run_routes(router: APIRouter, service: Service, streams: AddressCounter) -> None:
    """Add the routes of runs to a router."""

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
        name, number = f"{experiment}/{run}", event_number(last)
        await service.run(name)
        check_streams(service, streams)
        return CountedStream(
            _run_stream(service, name, number), streams, media_type="text/event-stream", headers=STREAM_HEADERS
        )


async def _run_stream(service: Service, name: str, last: int) -> AsyncIterator[bytes]:
    """Yield a run's events after `last` finished epochs, until it waits and trains no longer or the server ends."""
    state, silent_since = "", time.monotonic()
    while not service.draining.is_set():
        info = await service.run(name, within_s=RUN_POLL_S / 2)
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
