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
from stimcore.serve.jobs.job import Job
from stimcore.serve.jobs.queue import JobQueue
from stimcore.serve.limits import Limits
from stimcore.serve.workers.handle import WorkerHandle, Waiting
from stimcore.serve.workers.messages import Advance, Answer, Call, Drop, Warmup, WarmupDone, Hello, Refused, Report

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

    def __init__(self, devices: Sequence[str], threads: int, jobs: JobQueue, limits: Limits, engine: str = ENGINE) -> None:
        self.threads, self.jobs, self.limits = threads, jobs, limits
        self.url = None if engine == ENGINE else address(engine)
        self.workers = [WorkerHandle(device) for device in devices]
        self.restarts = 0
        self.fatal: StimcoreError | None = None
        self.on_fatal: Callable[[], None] = lambda: None
        self._waiting: deque[Waiting] = deque()
        self._numbers = itertools.count(1)
        self._crashes: deque[float] = deque()
        self._holders: dict[Job, WorkerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False
        jobs.woken, jobs.dropped, jobs.answered = self._feed_all, self._drop, self._get_ready

    @property
    def hello(self) -> Hello | None:
        """What the first worker that is up said of itself, or said last."""
        return next((worker.hello for worker in self.workers if worker.hello), None)

    @property
    def waiting(self) -> int:
        """Calls that no worker has yet."""
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether a worker is up and workers don't keep ending."""
        return not self._ending and any(worker.hello for worker in self.workers) and not self.broken

    @property
    def broken(self) -> bool:
        """Whether workers keep ending: more than `crashes` within the window."""
        while self._crashes and time.monotonic() - self._crashes[0] > self.limits.crash_window_s:
            self._crashes.popleft()
        return len(self._crashes) > self.limits.crashes

    def start(self) -> None:
        """Starts the workers; returns at once."""
        self._tasks = [asyncio.create_task(self._serve(worker)) for worker in self.workers]
        self._tasks.append(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        """Ends the workers: their input closes, and that is their sign."""
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiting in [*self._waiting, *(w for worker in self.workers for w in worker.calls.values())]:
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
        for worker in self.workers:
            if worker.hello is not None:
                worker.send(make(next(self._numbers)), time.monotonic())

    # Feeding

    def _feed_all(self) -> None:
        for worker in self.workers:
            self._feed(worker)

    def _feed(self, worker: WorkerHandle) -> None:
        if worker.hello is None or self.broken:
            return
        now = time.monotonic()
        while self._waiting and len(worker.calls) < self.threads + AHEAD:
            waiting = self._waiting.popleft()
            worker.send(waiting.call, now)
            worker.calls[waiting.call.id] = waiting
        if worker.job is None and (job := self._next_job(worker)) is not None:
            if job not in worker.begun:
                worker.send(self.jobs.begin(job), now)
                worker.begun.add(job)
                self._holders[job] = worker
            worker.send(Advance(job.number), now)
            worker.job = job

    def _next_job(self, worker: WorkerHandle) -> Job | None:
        """The next evaluation that this worker holds or that none holds."""
        others = []
        try:
            while (job := self.jobs.next()) is not None:
                if self._holders.get(job, worker) is worker:
                    return job
                others.append(job)
            return None
        finally:
            for job in others:
                self.jobs.put_back(job)

    def _drop(self, job: Job) -> None:
        worker = self._holders.pop(job, None)
        if worker is not None and job in worker.begun and worker.hello is not None:
            worker.begun.discard(job)
            worker.send(Drop(job.number), time.monotonic())

    def _get_ready(self, job: Job) -> None:
        """Whoever looks at stored numbers is about to ask for others."""
        for worker in self.workers:
            if job.interactive and worker.hello is not None and job.source.fingerprint not in worker.looked_at:
                worker.looked_at.add(job.source.fingerprint)
                worker.send(Warmup(job.source), time.monotonic())

    # Hearing

    def _hear(self, worker: WorkerHandle, message: object) -> None:
        worker.heard = time.monotonic()
        match message:
            case Hello():
                worker.hello = message
                log.info("worker ready", extra={"fields": {"device": worker.device, "provider": message.provider}})
            case Answer(id=number, value=value):
                self._answered(worker, number, value, None)
            case Refused(id=number, error=error) if number in worker.calls:
                self._answered(worker, number, None, error)
            case Refused(id=0, error=error):  # it can't start at all, and another one couldn't either
                self.fatal = error
                self.on_fatal()
            case Refused(error=error):
                if worker.job is not None:
                    self._let_go(worker.job, worker)
                    self.jobs.fail(worker.job, error)
                    worker.job = None
            case WarmupDone():
                worker.caches = message.caches
            case Report() as report:
                self._reported(worker, report)
        self._feed(worker)

    def _answered(self, worker: WorkerHandle, number: int, value: object, error: StimcoreError | None) -> None:
        waiting = worker.calls.pop(number, None)
        worker.failures = 0
        if waiting is None or waiting.answer.done():
            return  # told to all, or nobody waits any more
        if error is not None:
            waiting.answer.set_exception(error)
        else:
            waiting.answer.set_result(value)

    def _reported(self, worker: WorkerHandle, report: Report) -> None:
        job, worker.job = worker.job, None
        worker.failures, worker.caches = 0, report.caches
        if job is None or job.number != report.id or worker.hello is None:
            return
        self.jobs.report(job, report, worker.hello.provider)
        if report.finished or job.final:
            self._let_go(job, worker)
        else:
            self.jobs.put_back(job)

    def _let_go(self, job: Job, worker: WorkerHandle) -> None:
        worker.begun.discard(job)
        self._holders.pop(job, None)

    # Processes

    async def _serve(self, worker: WorkerHandle) -> None:
        while not self._ending:
            try:
                await self._live(worker)
            finally:
                await self._bury(worker)
            if self.fatal is not None:
                return
            worker.failures += 1
            self.restarts += 1
            self._crashes.append(time.monotonic())
            await asyncio.sleep(min(BACKOFF_S, 0.1 * 2 ** min(10, worker.failures - 1)) if worker.failures > 1 else 0)

    async def _live(self, worker: WorkerHandle) -> None:
        """One worker, from its start until its output closes."""
        words = ["--device", worker.device, "--threads", str(self.threads)]
        words += ["--engines", str(self.limits.engines), "--keep-bytes", str(self.limits.keep_bytes)]
        if self.url is not None:
            words += ["--url", self.url]
        async with contextlib.aclosing(worker.run(words, time.monotonic())) as said:
            async for message in said:
                self._hear(worker, message)

    async def _bury(self, worker: WorkerHandle) -> None:
        """After the end of a worker: what it held goes on elsewhere."""
        code = await worker.leave(kill=not self._ending)
        if code is not None and not self._ending and self.fatal is None:
            log.error("worker ended", extra={"fields": {"device": worker.device, "code": code}})
        if self._ending:
            return
        for waiting in reversed(list(worker.calls.values())):
            self._once_more(waiting)
        worker.calls.clear()
        current, worker.job = worker.job, None
        held, worker.begun = list(worker.begun), set()
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
            for worker in self.workers:
                silence = self.limits.start_s if worker.hello is None else self.limits.silence_s
                if worker.process is not None and (worker.hello is None or not worker.idle) and now - worker.heard > silence:
                    log.error("worker silent", extra={"fields": {"device": worker.device, "seconds": round(now - worker.heard)}})
                    with contextlib.suppress(ProcessLookupError):
                        worker.process.kill()
            self.jobs.drop_unwatched()
            self._feed_all()
