"""The state of one evaluation: what was requested, how far it is, which clients watch it, and the events that they read.

The module knows neither HTTP nor worker processes. Everything in it runs in one event loop.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from stimcore.analysis.result import Result
from stimcore.engine.inference import Phase
from stimcore.serve import types
from stimcore.serve.jobs.result_cache import Conditions
from stimcore.serve.repository.models import BundleRef
from stimcore.subnets.spec import Spec

JobPhase = Literal["queued"] | Phase
"""What a worker does for a job that is not done."""
EventType = Literal["progress", "result", "error", "done"]

FINAL: tuple[types.JobState, ...] = ("done", "failed", "cancelled", "dropped")
"""States that never change again."""
STREAM_S = 0.05
"""Shortest time between two events of a stream: a calibration makes hundreds of steps a second, which no client needs."""


class JobEvent(NamedTuple):
    """One event of a job's stream.

    Attributes:
        id: The job's version after the event; a client that reconnects sends the last id that it has seen.
        type: Type of the event.
        text: Its data as JSON.
    """

    id: int
    type: EventType
    text: bytes


@dataclass(eq=False, kw_only=True)
class Job:
    """One evaluation, shared by all clients that requested the same.

    Attributes:
        id: Its name in the API.
        number: Its name in messages to workers, from 1.
        request: The request, with specs in long form.
        specs: The same specs, parsed, in the request's order.
        bundle_ref: The bundle.
        conditions: What its results depend on besides the specs.
        main: The main network's spec.
        images_total: Images that are evaluated in all; steps of calibration are not counted.
        owner: The client that submitted it, by the name that it sent.
        address: The address that it was submitted from, as `http.addresses.address_group` returns it; empty where unknown.
        created_at: Time of the submission, in seconds of the queue's clock.
        results: The results so far; of `missing` specs they grow with every report.
        missing: Specs that have to be measured.
        state: Its state.
        phase: What a worker does for it now.
        images: Images that were evaluated so far.
        source: Where the results come from.
        provider: onnxruntime's name of the execution provider; empty until it is known.
        note: What the reader has to know about how the numbers came about; empty when there is nothing.
        error: Why it failed; None unless it has.
        interactive: Whether somebody waits for it; such jobs go before sweeps.
        watchers: Client -> time until which its last poll counts as watching.
        streams: Clients of the open event streams.
        attempts: Workers that ended while they computed it.
        version: Grows with every event.
        changed: Set at the next event, which then puts a new `asyncio.Event` in its place.
    """

    id: str
    number: int
    request: types.JobRequest
    specs: tuple[Spec, ...]
    bundle_ref: BundleRef
    conditions: Conditions
    main: Spec
    images_total: int
    owner: str
    created_at: float
    results: dict[Spec, Result] = field(default_factory=dict)
    missing: tuple[Spec, ...] = ()
    state: types.JobState = "queued"
    phase: JobPhase = "queued"
    images: int = 0
    source: types.JobSource = "measured"
    provider: str = ""
    note: str = ""
    error: types.JobError | None = None
    interactive: bool = True
    address: str = ""
    watchers: dict[str, float] = field(default_factory=dict)
    streams: list[str] = field(default_factory=list)
    attempts: int = 0
    version: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    # The newest event of each type, in order of their ids. An event holds everything that earlier ones of its type did, so that
    # a client which was away for a while misses nothing. The text of a result is made when a client first reads it; until then
    # it is None.
    _latest: dict[EventType, tuple[int, bytes | None]] = field(default_factory=dict)
    _snapshot: tuple[int, bytes] = (-1, b"")

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in FINAL

    @property
    def chunk_images(self) -> int:
        """Images between two reports: few enough that first numbers come early, also of thousands of sub-networks."""
        return min(500, max(100, 50_000 // max(1, len(self.missing))))

    def snapshot(self) -> bytes:
        """Return the JSON text of `types.Job`; it is made once per version, because many clients ask for the same."""
        if self._snapshot[0] != self.version:
            value = {
                "id": self.id,
                "state": self.state,
                "request": self.request.model_dump(mode="json"),
                "phase": "done" if self.state == "done" else self.phase,
                "images": self.images,
                "images_total": self.images_total,
                "source": self.source,
                "provider": self.provider,
                "note": self.note,
                "error": self.error and self.error.model_dump(),
                "fingerprint": self.bundle_ref.fingerprint,
                **self._results_value(),
            }
            self._snapshot = (self.version, _to_json(value))
        return self._snapshot[1]

    def _results_value(self) -> dict[str, Any]:
        """Return `main` and `results` as JSON values: either of all specs, or of none while one of them has no result yet."""
        if not all(spec in self.results for spec in (self.main, *self.specs)):
            return {"main": None, "results": []}
        return {"main": self.results[self.main].to_dict(), "results": [self.results[spec].to_dict() for spec in self.specs]}

    def announce_progress(self, images: int, images_total: int) -> None:
        """Announce how far the phase is.

        Args:
            images: Images of the phase that are done: evaluation images, or calibration images.
            images_total: Images of the phase in all.
        """
        value = {"phase": self.phase, "images": images, "images_total": images_total}
        self._announce("progress", _to_json(value))

    def announce_results(self) -> None:
        """Announce the results so far."""
        self._announce("result", None)

    def announce_error(self, error: types.JobError) -> None:
        """Announce why the job failed."""
        self.error = error
        self._announce("error", error.model_dump_json().encode())

    def announce_end(self) -> None:
        """Announce the final state, as the last event."""
        self._announce("done", _to_json({"state": self.state, "source": self.source}))

    def _announce(self, type_: EventType, text: bytes | None) -> None:
        self.version += 1
        self._latest.pop(type_, None)  # so that the new event comes last
        self._latest[type_] = (self.version, text)
        self.changed.set()
        self.changed = asyncio.Event()

    def events_after(self, last: int) -> Iterator[JobEvent]:
        """Yield the events that a client who has seen those up to id `last` has not seen."""
        for type_, (number, text) in list(self._latest.items()):
            if number > last:
                yield JobEvent(number, type_, self._results_text(number) if text is None else text)

    def _results_text(self, number: int) -> bytes:
        text = _to_json({"images": self.images, "images_total": self.images_total, **self._results_value()})
        self._latest["result"] = (number, text)  # an existing key keeps its place in the order
        return text

    async def stream(self, client: str, last: int, stop: asyncio.Event, heartbeat_s: float) -> AsyncIterator[JobEvent | None]:
        """Yield events until the last one, or until `stop` is set; an open stream counts as watching.

        Args:
            client: The client that reads.
            last: Id of the last event that it has seen.
            stop: Ends the stream, because the server ends.
            heartbeat_s: None is yielded after so many seconds without an event, so that the connection can be kept alive.
        """
        self.streams.append(client)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while True:
                # fetched before the events are read: an event that is announced meanwhile sets this very object
                changed = self.changed
                for event in self.events_after(last):
                    last = event.id
                    yield event
                if self.final or stop.is_set():
                    return
                waiting = asyncio.ensure_future(changed.wait())
                try:
                    both: tuple[asyncio.Future[Any], ...] = (waiting, stopping)
                    done, _ = await asyncio.wait(both, timeout=heartbeat_s, return_when="FIRST_COMPLETED")
                finally:
                    waiting.cancel()
                if done:
                    await asyncio.sleep(STREAM_S)
                else:
                    yield None
        finally:
            stopping.cancel()
            self.streams.remove(client)


def _to_json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
