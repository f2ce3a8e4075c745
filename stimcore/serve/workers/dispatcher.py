"""Gives work to the workers and takes their messages: a bounded queue of calls, and the jobs of `jobs/queue.py`.

Calls (inference, classification, downloads) go before jobs, because somebody waits for each of them. A job is computed report
by report, so that a worker can turn to something more urgent between two reports. It stays with the worker that began it: the
statistics and counts so far are in that process.

Everything here runs in one event loop. Nothing here waits, so that the state can't change in the middle of a method.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from stimcore.errors import StimcoreError
from stimcore.serve.errors import Busy, Late, WorkerCrashed
from stimcore.serve.jobs.job import Job
from stimcore.serve.jobs.queue import JobQueue
from stimcore.serve.limits import Limits
from stimcore.serve.logs import TRACEPARENT
from stimcore.serve.workers.breaker import CircuitBreaker
from stimcore.serve.workers.handle import PendingCall, WorkerHandle
from stimcore.serve.workers.messages import (
    Abandon,
    Advance,
    Answer,
    Begin,
    Call,
    CallFailure,
    Drop,
    Hello,
    JobFailure,
    Pong,
    Report,
    Warmup,
    WarmupDone,
)

log = logging.getLogger("stimcore.serve")
CALLS_AHEAD = 1
"""Calls that a worker holds beyond those that it runs at once, so that it never waits for the front to send the next one."""
ATTEMPTS = 2
"""Number of workers that try a call before it fails: the first one may have ended for another reason, such as full memory."""


class Dispatcher:
    """Decides which worker does what.

    Args:
        workers: The workers, running or not.
        jobs: Where jobs come from, and where their progress goes.
        limits: Bounds of the server.
        breaker: While it is open, calls are refused and workers get nothing to do.
    """

    def __init__(self, workers: Sequence[WorkerHandle], jobs: JobQueue, limits: Limits, breaker: CircuitBreaker) -> None:
        self._workers, self._jobs, self._limits, self._breaker = workers, jobs, limits, breaker
        self._waiting: deque[PendingCall] = deque()
        self._holders: dict[Job, WorkerHandle] = {}
        self._numbers = itertools.count(1)
        self._crashes_by_bundle: dict[str, CircuitBreaker] = {}
        self._logged_notes: set[str] = set()
        self._ending = False

    @property
    def num_waiting(self) -> int:
        """Calls that no worker has yet."""
        return len(self._waiting)

    async def call(self, make: Callable[[int], Call], seconds: float, priority: int = 1) -> Any:
        """Send a call to a worker and return the answer.

        Args:
            make: Makes the call, given its number.
            seconds: Deadline, including the time in the queue.
            priority: Calls of priority 1 go before those of priority 2.

        Raises:
            Busy: The queue is full, the server ends, the workers keep ending, or those that opened this bundle do.
            Late: The call was not done by the deadline.
            WorkerCrashed: The call ended two workers.
            StimcoreError: The worker refused the call.
        """
        if self._ending:
            raise _ending_error()
        if self._breaker.open:
            raise Busy("the worker process keeps ending", todo="Try again in a minute; the server's log has the reason.")
        if sum(other.priority == priority for other in self._waiting) >= self._limits.calls:
            raise Busy(f"{self._limits.calls} requests wait: exceeds maximum queue size", todo="Try again in a moment.")
        call = replace(make(next(self._numbers)), traceparent=TRACEPARENT.get())
        if self._set_aside(call.bundle.fingerprint):
            raise self._bundle_error()
        pending = PendingCall(call, asyncio.get_running_loop().create_future(), priority)
        positions = (i for i, other in enumerate(self._waiting) if other.priority > priority)
        self._waiting.insert(next(positions, len(self._waiting)), pending)
        self.dispatch()
        try:
            return await asyncio.wait_for(pending.answer, seconds)
        except TimeoutError as reason:
            raise Late(f"the answer was not ready within {seconds:g} s", todo="Ask for less at once, or try again.") from reason
        finally:
            # after a timeout, or when the client is gone, nobody needs the answer
            if pending in self._waiting:
                self._waiting.remove(pending)
            for worker in self._workers:
                if worker.calls.get(call.id) is pending:
                    # It counts as running until the worker answers; the pool ends a worker that goes on for `late_s`.
                    pending.abandoned_at = time.monotonic()
                    # A worker without `hello` is being ended: it takes no message, and `recover` drops what nobody waits for.
                    if worker.hello is not None:
                        worker.send(Abandon(call.id), pending.abandoned_at)

    def _set_aside(self, fingerprint: str) -> bool:
        """Return whether workers keep ending when they work with a bundle."""
        breaker = self._crashes_by_bundle.get(fingerprint)
        return breaker is not None and breaker.open

    def _bundle_error(self) -> Busy:
        return Busy(
            f"worker processes keep ending on this bundle, which is set aside for {self._limits.crash_window_s:g} s",
            todo="The server's log has the reason.",
        )

    def _blame(self, fingerprints: Iterable[str]) -> None:
        """Count the end of a worker for the bundles that it worked with.

        A bundle is set aside one crash before the server stops giving work to its workers altogether: one bad bundle must not
        take the others away.
        """
        for fingerprint in fingerprints:
            crashes = max(1, self._limits.crashes - 1)
            breaker = self._crashes_by_bundle.setdefault(fingerprint, CircuitBreaker(crashes, self._limits.crash_window_s))
            breaker.record()

    def broadcast(self, make: Callable[[int], Call]) -> None:
        """Send a call to every running worker; nobody waits for the answers.

        Args:
            make: Makes the call, given its number.
        """
        for worker in self._workers:
            if worker.hello is not None:
                worker.send(make(next(self._numbers)), time.monotonic())

    def warm_up(self, job: Job) -> None:
        """Let workers open the bundle of a job that was answered without measuring.

        A client that looks at stored results is likely to edit the network next. Only interactive jobs count, and each worker
        gets a bundle only once.
        """
        for worker in self._workers:
            if job.interactive and worker.hello is not None and job.bundle_ref.fingerprint not in worker.warmed_up:
                worker.warmed_up.add(job.bundle_ref.fingerprint)
                worker.send(Warmup(job.bundle_ref), time.monotonic())

    def dispatch(self) -> None:
        """Give every worker the work that it can take."""
        for worker in self._workers:
            self._dispatch_to(worker)

    def _dispatch_to(self, worker: WorkerHandle) -> None:
        if worker.hello is None or self._breaker.open:
            return
        now = time.monotonic()
        # Only a few calls are at a worker at any time. The others wait here, where a more urgent one can still overtake them,
        # where a deadline can remove them, and where the other workers can take them.
        while self._waiting and len(worker.calls) < worker.config.threads + CALLS_AHEAD:
            pending = self._waiting.popleft()
            worker.send(pending.call, now)
            worker.calls[pending.call.id] = pending
        while worker.job is None and (job := self._next_job(worker)) is not None:
            if self._set_aside(job.bundle_ref.fingerprint):
                self._jobs.fail(job, self._bundle_error())
                continue
            if job not in worker.open_jobs:
                worker.send(_begin(job), now)
                worker.open_jobs.add(job)
                self._holders[job] = worker
            worker.send(Advance(job.number), now)
            worker.job = job

    def _next_job(self, worker: WorkerHandle) -> Job | None:
        """Take the next job that this worker holds or that no worker holds; jobs of other workers keep their turn."""
        others = []
        try:
            while (job := self._jobs.next()) is not None:
                if self._holders.get(job, worker) is worker:
                    return job
                others.append(job)
            return None
        finally:
            for job in others:
                self._jobs.put_back(job)

    def drop(self, job: Job) -> None:
        """Stop the work for a job that has ended without its results.

        The worker answers a running `Advance` all the same, so that `worker.job` is left as it is until then.
        """
        worker = self._holders.pop(job, None)
        if worker is not None and job in worker.open_jobs and worker.hello is not None:
            worker.open_jobs.discard(job)
            worker.send(Drop(job.number), time.monotonic())

    def receive(self, worker: WorkerHandle, message: object) -> None:
        """Handle a message of a worker, and give it the next work."""
        worker.last_message_at = time.monotonic()
        match message:
            case Hello():
                worker.hello = message
                log.info("worker ready", extra={"fields": {"device": worker.config.device, "provider": message.provider}})
                if message.degraded and message.note not in self._logged_notes:
                    self._logged_notes.add(message.note)
                    log.warning("GPU unusable", extra={"fields": {"device": worker.config.device, "message": message.note}})
            case Answer():
                if (answer := self._answered(worker, message.id)) is not None:
                    answer.set_result(message.value)
            case CallFailure():
                if (answer := self._answered(worker, message.id)) is not None:
                    answer.set_exception(message.error)
            case JobFailure():
                self._job_failed(worker, message.error)
            case Pong():
                worker.unanswered_s = 0.0
            case WarmupDone():
                worker.caches = message.caches
            case Report():
                self._reported(worker, message)
        self._dispatch_to(worker)

    def _answered(self, worker: WorkerHandle, number: int) -> asyncio.Future[Any] | None:
        """Return where the answer to a call goes; None when nobody waits for it."""
        worker.failures = 0
        pending = worker.calls.pop(number, None)
        return None if pending is None or pending.answer.done() else pending.answer

    def _job_failed(self, worker: WorkerHandle, error: StimcoreError) -> None:
        job, worker.job = worker.job, None
        if job is not None:
            self._release(job, worker)
            self._jobs.fail(job, error)

    def _reported(self, worker: WorkerHandle, report: Report) -> None:
        job, worker.job = worker.job, None
        worker.failures, worker.caches = 0, report.caches
        if job is None or job.number != report.id or worker.hello is None:
            return
        if report.progress is not None:
            self._jobs.report(job, report.progress, report.progress.provider or worker.hello.provider)
        if report.finished or job.final:
            self._release(job, worker)
        else:
            self._jobs.put_back(job)

    def _release(self, job: Job, worker: WorkerHandle) -> None:
        worker.open_jobs.discard(job)
        self._holders.pop(job, None)

    def recover(self, worker: WorkerHandle) -> None:
        """Take back the work of a worker that has ended.

        Calls go to the front of the queue, in their old order: their clients have waited longest. All its jobs begin anew
        elsewhere, but only the job that was being computed may have caused the end, so that only its attempts are counted. A
        worker that was ended for a late call does not count at all.
        """
        current, worker.job = worker.job, None
        blamed = not worker.ended_for_lateness
        if blamed:
            bundles = {pending.call.bundle.fingerprint for pending in worker.calls.values()}
            self._blame(bundles | ({current.bundle_ref.fingerprint} if current else set()))
        for pending in reversed(list(worker.calls.values())):
            self._retry(pending, blamed=blamed)
        worker.calls.clear()
        jobs, worker.open_jobs = list(worker.open_jobs), set()
        for job in jobs:
            self._holders.pop(job, None)
            self._jobs.worker_ended(job, blamed=blamed and job is current)
        self.dispatch()

    def _retry(self, pending: PendingCall, *, blamed: bool) -> None:
        pending.attempts += blamed
        if pending.answer.done():
            return
        if pending.attempts >= ATTEMPTS:
            pending.answer.set_exception(WorkerCrashed(f"the worker process ended {ATTEMPTS} times on this request"))
        else:
            self._waiting.appendleft(pending)

    def refuse_all(self) -> None:
        """Refuse every call that has no answer, and those that are still to come, because the server ends."""
        self._ending = True
        for pending in [*self._waiting, *(call for worker in self._workers for call in worker.calls.values())]:
            if not pending.answer.done():
                pending.answer.set_exception(_ending_error())


def _ending_error() -> Busy:
    return Busy("the server is ending", todo="Try again in a moment.")


def _begin(job: Job) -> Begin:
    return Begin(job.number, job.bundle_ref, job.missing, job.request.recalibrate, job.conditions.max_images, job.chunk_images)
