"""Supervision of the worker processes: they are started, watched, and replaced when they end or fall silent.

Networks run in separate processes for three reasons: an error inside onnxruntime or a GPU driver can end a process but not
the server; a GPU that is in a bad state recovers only in a new process; and the front never waits for a computation.

The life of a worker:

- *start*: the process gets its configuration on the command line and sends `Hello` when it takes work;
- *feed*: the `Dispatcher` sends it calls and jobs, and takes its answers;
- *watch*: a worker that does not answer for `hang_s` whether it is alive gets killed, as does one that has work and sends
  nothing for `silence_s` (`start_s` before its `Hello`), or that goes on with a call for `late_s` after its deadline, or that
  takes more memory than `worker_bytes`;
- *replace*: whichever way a process ends, its output closes. Its work goes back into the queues and a new process starts, at
  once after the first failure and with growing pauses when processes end before they answered anything;
- *circuit breaker*: after too many ends within a short time, the server refuses work until these ends are old enough.

The module knows no HTTP. Everything in it runs in one event loop.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from stimcore.errors import StimcoreError
from stimcore.serve.jobs.job import Job
from stimcore.serve.jobs.queue import JobQueue
from stimcore.serve.limits import Limits
from stimcore.serve.workers.breaker import CircuitBreaker
from stimcore.serve.workers.config import WorkerConfig
from stimcore.serve.workers.dispatcher import Dispatcher
from stimcore.serve.workers.handle import WorkerHandle
from stimcore.serve.workers.messages import Call, Hello, Ping, StartFailure

log = logging.getLogger("stimcore.serve")
FIRST_BACKOFF_S = 0.2
"""Pause before a worker is started again after its second failure in a row; every further failure doubles it."""
BACKOFF_S = 5.0
"""Longest pause before a worker is started again."""
WATCH_S = 1.0
"""Time between two checks of all workers and jobs; shorter where the limits are."""


class WorkerPool:
    """All worker processes, and the work that they do.

    Args:
        configs: The configuration of each worker.
        jobs: Where jobs come from.
        limits: Bounds of the server.

    Attributes:
        workers: One handle per configuration.
        restarts: Processes that ended and were replaced.
        fatal: Why workers can't start at all; None while they can.
        failed: Set when `fatal` is.
    """

    def __init__(self, configs: Sequence[WorkerConfig], jobs: JobQueue, limits: Limits) -> None:
        self.workers = [WorkerHandle(config) for config in configs]
        self.restarts = 0
        self.fatal: StimcoreError | None = None
        self.failed = asyncio.Event()
        self._jobs, self._limits = jobs, limits
        self._breaker = CircuitBreaker(limits.crashes, limits.crash_window_s)
        self._dispatcher = Dispatcher(self.workers, jobs, limits, self._breaker)
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    @property
    def hello(self) -> Hello | None:
        """The first message of the first worker that takes work; None when no worker does."""
        return next((worker.hello for worker in self.workers if worker.hello), None)

    @property
    def waiting(self) -> int:
        """Calls that no worker has yet."""
        return self._dispatcher.num_waiting

    @property
    def ready(self) -> bool:
        """Whether a worker takes work and answers, and workers don't keep ending."""
        answers = any(worker.hello and worker.unanswered_s <= self._limits.hang_s / 2 for worker in self.workers)
        return not self._ending and answers and not self.broken

    @property
    def broken(self) -> bool:
        """Whether workers keep ending: the circuit breaker is open."""
        return self._breaker.open

    def start(self) -> None:
        """Start the workers; returns at once, while they come up."""
        self._tasks = [asyncio.create_task(self._supervise(worker)) for worker in self.workers]
        self._tasks.append(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        """End the workers and refuse the calls that they did not answer."""
        self._ending = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._dispatcher.refuse_all()

    async def call(self, make: Callable[[int], Call], seconds: float, priority: int = 1) -> Any:
        """Send a call to a worker and return the answer; see `Dispatcher.call`."""
        return await self._dispatcher.call(make, seconds, priority)

    def refuse_all(self) -> None:
        """Refuse every call that has no answer, and those that are still to come; see `Dispatcher.refuse_all`."""
        self._dispatcher.refuse_all()

    def broadcast(self, make: Callable[[int], Call]) -> None:
        """Send a call to every worker; see `Dispatcher.broadcast`."""
        self._dispatcher.broadcast(make)

    def dispatch(self) -> None:
        """Give work to the workers that can take it."""
        self._dispatcher.dispatch()

    def drop(self, job: Job) -> None:
        """Stop the work for a job that has ended without its results."""
        self._dispatcher.drop(job)

    def warm_up(self, job: Job) -> None:
        """Let workers open the bundle of a job that was answered without them."""
        self._dispatcher.warm_up(job)

    async def _supervise(self, worker: WorkerHandle) -> None:
        """Keep a process running behind a handle until the server ends."""
        while not self._ending:
            try:
                await self._run(worker)
            finally:
                # also when this task is cancelled: no process may outlive the server
                await self._clean_up(worker)
            if self.fatal is not None:
                return
            self.restarts += 1
            if worker.ended_for_lateness:
                continue
            worker.failures += 1
            self._breaker.record()
            await asyncio.sleep(_pause_s(worker.failures))

    async def _run(self, worker: WorkerHandle) -> None:
        """Start a process and handle its messages until its output closes."""
        async with contextlib.aclosing(worker.run(time.monotonic())) as received:
            async for message in received:
                if isinstance(message, StartFailure):
                    self.fatal = message.error
                    self.failed.set()
                else:
                    self._dispatcher.receive(worker, message)

    async def _clean_up(self, worker: WorkerHandle) -> None:
        """Make sure that a process is gone, and put its work back into the queues."""
        # A process that closed its output by itself is broken or dying: it is killed soon, so that the next one finds the
        # memory of the GPU free. At the server's end it gets more time to end by itself.
        code = await worker.close(kill=not self._ending)
        if self._ending:
            return
        if code is not None and self.fatal is None:
            log.error("worker ended", extra={"fields": {"device": worker.config.device, "code": code}})
        self._dispatcher.recover(worker)

    async def _watch(self) -> None:
        """Kill workers that are stuck, and end jobs that no client watches any more."""
        limits = self._limits
        shortest_s = min(limits.silence_s, limits.lease_s, limits.hang_s, limits.late_s)
        interval_s = min(WATCH_S, shortest_s / 4)
        while True:
            await asyncio.sleep(interval_s)
            now = time.monotonic()
            for worker in self.workers:
                if worker.process is not None and worker.hello is not None:
                    self._check_alive(worker, now, interval_s)
                starting = worker.hello is None
                allowed_s = self._limits.start_s if starting else self._limits.silence_s
                at_work = starting or not worker.idle
                if worker.process is not None and at_work and now - worker.last_message_at > allowed_s:
                    seconds = round(now - worker.last_message_at)
                    log.error("worker silent", extra={"fields": {"device": worker.config.device, "seconds": seconds}})
                    worker.kill()  # `_supervise` replaces it
            self._jobs.drop_unwatched()
            # work can be left over without any event that would dispatch it: for example when the circuit breaker closes
            self._dispatcher.dispatch()

    def _check_alive(self, worker: WorkerHandle, now: float, interval_s: float) -> None:
        """Kill a worker that hangs, that goes on with a call that nobody waits for, or that takes too much memory."""
        if (used_bytes := worker.memory_bytes()) > self._limits.worker_bytes:
            log.error("worker too large", extra={"fields": {"device": worker.config.device, "bytes": used_bytes}})
            worker.kill()  # `_supervise` replaces it
            return
        late = [call for call in worker.calls.values() if call.abandoned_at and now - call.abandoned_at > self._limits.late_s]
        if late or worker.unanswered_s >= self._limits.hang_s:
            event = "call overdue" if late else "worker hung"
            fields = {"device": worker.config.device, "traceparent": late[0].call.traceparent if late else ""}
            log.error(event, extra={"fields": fields})
            worker.ended_for_lateness = bool(late)
            worker.kill()  # `_supervise` replaces it
            return
        if worker.unanswered_s == 0:
            worker.send(Ping(), now)
        # Counted in turns of the watch, not by a clock: when the whole server was stopped for a minute, or got no processor,
        # its workers were not late.
        worker.unanswered_s += interval_s


def _pause_s(failures: int) -> float:
    """Return the pause before the next start: none after the first failure in a row."""
    return 0.0 if failures <= 1 else min(BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(10, failures - 2))
