"""Routes of runs: trainings that are started, watched, stopped and continued, and their events."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from stimcore.serve import types
from stimcore.serve.errors import NotFound
from stimcore.serve.http.addresses import AddressCounter
from stimcore.serve.http.responses import CountedStream
from stimcore.serve.http.v1.requests import body_schema, read_model
from stimcore.serve.http.v1.streams import STREAM_HEADERS, check_streams, event_number
from stimcore.serve.service import Service

RUN_POLL_S = 1.0
"""Seconds between two looks at a run whose events are sent: its epochs take longer."""
LOOKS_WITHOUT = 2
"""Looks in a row that do not find a run after which its folder counts as gone."""


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
        service.trainings.check_allowed()  # before the body is read: where nothing is trained, nothing in it can be right
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
        return CountedStream(run_stream(service, name, number), streams, media_type="text/event-stream", headers=STREAM_HEADERS)


async def run_stream(service: Service, name: str, last: int) -> AsyncIterator[bytes]:
    """Yield a run's events after the epoch `last`, until it waits and trains no longer or the server ends.

    The id of an event is the last epoch that a client has got with it: a client that reconnects with it misses none.
    """
    state, silent_since, looks_without = "", time.monotonic(), 0
    while not service.draining.is_set():
        try:
            info = await service.run(name, within_s=RUN_POLL_S / 2)
        except NotFound:
            # A folder that is being replaced is not there for a moment. After the head of the response there is no other way to
            # say that it has gone than an event.
            looks_without += 1
            if looks_without >= LOOKS_WITHOUT:
                yield _event(last, "done", {"state": "failed", "message": "The folder of the run is gone.", "bundle": ""})
                return
            await _pause(service)
            continue
        looks_without = 0
        finished = info.state not in ("queued", "training", "exporting")
        events: list[bytes] = []
        if info.state != state and not finished:
            events.append(_event(last, "state", {"state": info.state, "message": info.message}))
            state = info.state
        for number, row in numbered(info):
            if number > last:
                events.append(_event(number, "epoch", row))
                last = number
        if finished:
            events.append(_event(last, "done", {"state": info.state, "message": info.message, "bundle": info.bundle}))
        for event in events:
            yield event
        if finished:
            return
        if events:
            silent_since = time.monotonic()
        elif time.monotonic() - silent_since > service.limits.heartbeat_s:
            silent_since = time.monotonic()
            yield b": still there\n\n"
        await _pause(service)


def numbered(info: types.RunInfo) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the records of a run with their epochs; of a long run only the last records are there.

    The numbers grow from record to record, also where a file holds odd ones: they are ids of events.
    """
    number = 0
    for row in info.rows:
        epoch = row.get("epoch")
        number = epoch if isinstance(epoch, int) and number < epoch <= info.epochs else number + 1
        yield number, row


def _event(number: int, kind: str, data: Mapping[str, Any]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), json.dumps(data).encode())


async def _pause(service: Service) -> None:
    """Wait until the next look at a run, or until the server ends."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RUN_POLL_S):
            await service.draining.wait()
