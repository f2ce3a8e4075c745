"""Worker processes: started, fed, watched, replaced. Calls wait in one bounded queue and go before evaluations.

Knows no HTTP. Everything here runs in one event loop; the work is done in `worker.py`, a process per device.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from stimcore.errors import StimcoreError, UsageError
from stimcore.serve.errors import Busy, Late, WorkerCrashed
from stimcore.serve.jobs.job import Evaluation
from stimcore.serve.jobs.queue import Jobs
from stimcore.serve.limits import Limits
from stimcore.serve.workers.handle import Seat, Waiting
from stimcore.serve.workers.messages import Advance, Answer, Call, Drop, GetReady, GotReady, Hello, Refused, Report

log = logging.getLogger("stimcore.serve")
ENGINE = "onnxruntime"
"""What runs networks unless a `triton://HOST:PORT` does."""
AHEAD = 1
"""Calls that a worker holds beyond those that it runs at once, so that it never waits for the front."""
ATTEMPTS = 2
"""A call that ended its worker is tried once more."""
BACKOFF_S = 5.0
"""Longest pause before a worker that keeps ending is started again."""


def address(engine: str) -> str:
    """`http://HOST:PORT` of `triton://HOST:PORT`.

    Raises:
        UsageError: It is none.
    """
    try:
        parts = urlsplit(engine)
        good = parts.scheme == "triton" and parts.hostname and parts.port and not (parts.path or parts.query or parts.username)
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"there is no engine '{engine[:80]}'", allowed="onnxruntime, triton://HOST:PORT")
    return f"http://{parts.netloc}"


class Pool:
    """All workers.

    Args:
        devices: One worker each: `auto`, `cpu`, `cuda:N`.
        threads: Inside one operator.
        jobs: Where evaluations come from.
        limits: Bounds.
        engine: `onnxruntime`, or `triton://HOST:PORT`.

    Raises:
        UsageError: There is no such engine.
    """

    def __init__(self, devices: Sequence[str], threads: int, jobs: Jobs, limits: Limits, engine: str = ENGINE) -> None:
        self.threads, self.jobs, self.limits = threads, jobs, limits
        self.url = None if engine == ENGINE else address(engine)
        self.seats = [Seat(device) for device in devices]
        self.restarts = 0
        self.fatal: StimcoreError | None = None
        self.on_fatal: Callable[[], None] = lambda: None
        self._waiting: deque[Waiting] = deque()
        self._numbers = itertools.count(1)
        self._crashes: deque[float] = deque()
        self._holders: dict[Evaluation, Seat] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False
        jobs.woken, jobs.dropped, jobs.answered = self._feed_all, self._drop, self._get_ready

    @property
    def hello(self) -> Hello | None:
        """What the first worker that is up said of itself, or said last."""
        return next((seat.hello for seat in self.seats if seat.hello), None)

    @property
    def waiting(self) -> int:
        """Calls that no worker has yet."""
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether a worker is up and workers don't keep ending."""
        return not self._ending and any(seat.hello for seat in self.seats) and not self.broken

    @property
    def broken(self) -> bool:
        """Whether workers keep ending: more than `crashes` within the window."""
        while self._crashes and time.monotonic() - self._crashes[0] > self.limits.crash_window_s:
            self._crashes.popleft()
        return len(self._crashes) > self.limits.crashes

    def start(self) -> None:
        """Starts the workers; returns at once."""
        self._tasks = [asyncio.create_task(self._serve(seat)) for seat in self.seats]
        self._tasks.append(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        """Ends the workers: their input closes, and that is their sign."""
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiting in [*self._waiting, *(w for seat in self.seats for w in seat.calls.values())]:
            if not waiting.answer.done():
                waiting.answer.set_exception(Busy("the server is ending"))

    async def call(self, make: Callable[[int], Call], seconds: float, priority: int = 1) -> Any:
        """The answer to a call.

        Args:
            make: The call, given its number.
            seconds: Deadline, waiting included.
            priority: 1 goes before 2.

        Raises:
            Busy: The queue is full, or no worker stays up.
            Late: Not done by the deadline.
            WorkerCrashed: It ended two workers.
            StimcoreError: What the worker says.
        """
        if self.broken:
            raise Busy("the worker process keeps ending", todo="Try again in a minute; the server's log says why.")
        if sum(other.priority == priority for other in self._waiting) >= self.limits.calls:
            raise Busy(f"{self.limits.calls} requests wait: exceeds maximum queue size", todo="Try again in a moment.")
        waiting = Waiting(make(next(self._numbers)), asyncio.get_running_loop().create_future(), priority)
        places = (i for i, other in enumerate(self._waiting) if other.priority > priority)
        self._waiting.insert(next(places, len(self._waiting)), waiting)
        self._feed_all()
        try:
            return await asyncio.wait_for(waiting.answer, seconds)
        except TimeoutError as reason:
            raise Late(f"not done within {seconds:g} s", todo="Ask for less at once, or try again.") from reason
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def tell_all(self, make: Callable[[int], Call]) -> None:
        """A call to every worker whose answer nobody waits for."""
        for seat in self.seats:
            if seat.hello is not None:
                seat.send(make(next(self._numbers)), time.monotonic())

    # Feeding

    def _feed_all(self) -> None:
        for seat in self.seats:
            self._feed(seat)

    def _feed(self, seat: Seat) -> None:
        if seat.hello is None or self.broken:
            return
        now = time.monotonic()
        while self._waiting and len(seat.calls) < self.threads + AHEAD:
            waiting = self._waiting.popleft()
            seat.send(waiting.call, now)
            seat.calls[waiting.call.id] = waiting
        if seat.job is None and (job := self._next_job(seat)) is not None:
            if job not in seat.begun:
                seat.send(self.jobs.begin(job), now)
                seat.begun.add(job)
                self._holders[job] = seat
            seat.send(Advance(job.number), now)
            seat.job = job

    def _next_job(self, seat: Seat) -> Evaluation | None:
        """The next evaluation that this worker holds or that none holds."""
        others = []
        try:
            while (job := self.jobs.next()) is not None:
                if self._holders.get(job, seat) is seat:
                    return job
                others.append(job)
            return None
        finally:
            for job in others:
                self.jobs.put_back(job)

    def _drop(self, job: Evaluation) -> None:
        seat = self._holders.pop(job, None)
        if seat is not None and job in seat.begun and seat.hello is not None:
            seat.begun.discard(job)
            seat.send(Drop(job.number), time.monotonic())

    def _get_ready(self, job: Evaluation) -> None:
        """Whoever looks at stored numbers is about to ask for others."""
        for seat in self.seats:
            if job.interactive and seat.hello is not None and job.source.fingerprint not in seat.looked_at:
                seat.looked_at.add(job.source.fingerprint)
                seat.send(GetReady(job.source), time.monotonic())

    # Hearing

    def _hear(self, seat: Seat, message: object) -> None:
        seat.heard = time.monotonic()
        match message:
            case Hello():
                seat.hello = message
                log.info("worker ready", extra={"fields": {"device": seat.device, "provider": message.provider}})
            case Answer(id=number, value=value):
                self._answered(seat, number, value, None)
            case Refused(id=number, error=error) if number in seat.calls:
                self._answered(seat, number, None, error)
            case Refused(id=0, error=error):  # it can't start at all, and another one couldn't either
                self.fatal = error
                self.on_fatal()
            case Refused(error=error):
                if seat.job is not None:
                    self._let_go(seat.job, seat)
                    self.jobs.fail(seat.job, error)
                    seat.job = None
            case GotReady():
                seat.caches = message.caches
            case Report() as report:
                self._reported(seat, report)
        self._feed(seat)

    def _answered(self, seat: Seat, number: int, value: object, error: StimcoreError | None) -> None:
        waiting = seat.calls.pop(number, None)
        seat.failures = 0
        if waiting is None or waiting.answer.done():
            return  # told to all, or nobody waits any more
        if error is not None:
            waiting.answer.set_exception(error)
        else:
            waiting.answer.set_result(value)

    def _reported(self, seat: Seat, report: Report) -> None:
        job, seat.job = seat.job, None
        seat.failures, seat.caches = 0, report.caches
        if job is None or job.number != report.id or seat.hello is None:
            return
        self.jobs.report(job, report, seat.hello.provider)
        if report.finished or job.final:
            self._let_go(job, seat)
        else:
            self.jobs.put_back(job)

    def _let_go(self, job: Evaluation, seat: Seat) -> None:
        seat.begun.discard(job)
        self._holders.pop(job, None)

    # Processes

    async def _serve(self, seat: Seat) -> None:
        while not self._ending:
            try:
                await self._live(seat)
            finally:
                await self._bury(seat)
            if self.fatal is not None:
                return
            seat.failures += 1
            self.restarts += 1
            self._crashes.append(time.monotonic())
            await asyncio.sleep(min(BACKOFF_S, 0.1 * 2 ** min(10, seat.failures - 1)) if seat.failures > 1 else 0)

    async def _live(self, seat: Seat) -> None:
        """One worker, from its start until its output closes."""
        words = ["--device", seat.device, "--threads", str(self.threads)]
        words += ["--engines", str(self.limits.engines), "--keep-bytes", str(self.limits.keep_bytes)]
        if self.url is not None:
            words += ["--url", self.url]
        async with contextlib.aclosing(seat.run(words, time.monotonic())) as said:
            async for message in said:
                self._hear(seat, message)

    async def _bury(self, seat: Seat) -> None:
        """After the end of a worker: what it held goes on elsewhere."""
        code = await seat.leave(kill=not self._ending)
        if code is not None and not self._ending and self.fatal is None:
            log.error("worker ended", extra={"fields": {"device": seat.device, "code": code}})
        if self._ending:
            return
        for waiting in reversed(list(seat.calls.values())):
            self._once_more(waiting)
        seat.calls.clear()
        current, seat.job = seat.job, None
        held, seat.begun = list(seat.begun), set()
        for job in held:
            self._holders.pop(job, None)
            self.jobs.crashed(job, blamed=job is current)
        self._feed_all()

    def _once_more(self, waiting: Waiting) -> None:
        waiting.attempts += 1
        if waiting.answer.done():
            return
        if waiting.attempts >= ATTEMPTS:
            waiting.answer.set_exception(WorkerCrashed(f"the worker process ended {ATTEMPTS} times on this request"))
        else:
            self._waiting.appendleft(waiting)

    async def _watch(self) -> None:
        """Once a second: replaces workers that say nothing, ends evaluations that nobody watches."""
        while True:
            await asyncio.sleep(min(1.0, self.limits.silence_s / 4, self.limits.lease_s / 4))
            now = time.monotonic()
            for seat in self.seats:
                silence = self.limits.start_s if seat.hello is None else self.limits.silence_s
                if seat.process is not None and (seat.hello is None or not seat.idle) and now - seat.heard > silence:
                    log.error("worker silent", extra={"fields": {"device": seat.device, "seconds": round(now - seat.heard)}})
                    with contextlib.suppress(ProcessLookupError):
                        seat.process.kill()
            self.jobs.drop_unwatched()
            self._feed_all()
