"""One evaluation: what was asked, how far it is, who waits for it, and the events that they read.

Knows neither HTTP nor processes, nor of other evaluations: those are `jobs.py`'s. One event loop, no threads.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from stimcore.bundle import Bundle
from stimcore.serve import types
from stimcore.serve.jobs.result_cache import Conditions
from stimcore.serve.workers.messages import BundleRef

FINAL = ("done", "failed", "cancelled", "dropped")
STREAM_S = 0.05
"""Least time between two looks of a stream: a hundred steps of calibration a second are of no use to anybody."""


@dataclass(eq=False, kw_only=True)
class Job:
    """One evaluation and everybody who waits for it.

    Attributes:
        request: With specs in long form.
        number: How the worker knows it.
        known: Spec -> JSON text of what is known.
        missing: Specs that are to be measured.
        watchers: Client -> until when its last poll counts.
        streams: Client of every open event stream.
        attempts: Workers that ended while they were at it.
        version: Grows with every change; also the ids of events.
        latest: Type of event -> id and JSON text of the newest of its kind: a later one says all that earlier ones did.
    """

    id: str
    number: int
    request: types.JobRequest
    bundle: Bundle
    source: BundleRef
    on: Conditions
    main: str
    images_total: int
    owner: str
    created: float
    known: dict[str, bytes] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    state: types.JobState = "queued"
    phase: str = "queued"
    images: int = 0
    origin: str = "measured"
    provider: str = ""
    error: types.JobError | None = None
    interactive: bool = True
    watchers: dict[str, float] = field(default_factory=dict)
    streams: list[str] = field(default_factory=list)
    attempts: int = 0
    version: int = 0
    latest: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _snapshot: tuple[int, bytes] = (-1, b"")

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in FINAL

    def results_text(self) -> bytes:
        """`"main": ..., "results": [...]` as far as known: all or none."""
        if not all(spec in self.known for spec in (self.main, *self.request.specs)):
            return b'"main": null, "results": []'
        rows = b", ".join(self.known[spec] for spec in self.request.specs)
        return b'"main": ' + self.known[self.main] + b', "results": [' + rows + b"]"

    def snapshot(self) -> bytes:
        """JSON text of `wire.Job`, made once per version: many clients ask for the same."""
        if self._snapshot[0] != self.version:
            head = {
                "id": self.id,
                "state": self.state,
                "request": self.request.model_dump(mode="json"),
                "phase": "done" if self.state == "done" else self.phase,
                "images": self.images,
                "images_total": self.images_total,
                "source": self.origin,
                "provider": self.provider,
                "error": self.error and self.error.model_dump(),
            }
            text = json.dumps(head, allow_nan=False).encode()[:-1] + b", " + self.results_text() + b"}"
            self._snapshot = (self.version, text)
        return self._snapshot[1]

    def say(self, type_: Literal["progress", "result", "error", "done"], text: bytes) -> None:
        """A new event; wakes those who wait."""
        self.version += 1
        self.latest.pop(type_, None)
        self.latest[type_] = (self.version, text)
        self.changed.set()
        self.changed = asyncio.Event()

    def events_after(self, last: int) -> Iterator[tuple[int, str, bytes]]:
        """Id, type and JSON text of the events that a reader who saw `last` has not seen."""
        yield from ((number, type_, text) for type_, (number, text) in list(self.latest.items()) if number > last)

    def say_progress(self, images: int, images_total: int) -> None:
        """How far it is: images, or steps of calibration."""
        self.say("progress", json.dumps({"phase": self.phase, "images": images, "images_total": images_total}).encode())

    def say_result(self) -> None:
        """What is known so far."""
        counts = f'{{"images": {self.images}, "images_total": {self.images_total}, '.encode()
        self.say("result", counts + self.results_text() + b"}")

    async def stream(
        self, client: str, last: int, stop: asyncio.Event, heartbeat_s: float
    ) -> AsyncIterator[tuple[int, str, bytes] | None]:
        """Events after `last` until the last one or until `stop`; None where silence of `heartbeat_s` should be broken."""
        self.streams.append(client)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while True:
                changed = self.changed
                for event in self.events_after(last):
                    last = event[0]
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
