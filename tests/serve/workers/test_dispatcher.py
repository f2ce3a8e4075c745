"""The dispatcher without processes: what is sent to a worker, and where its messages go."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stimcore.engine.inference import Progress
from stimcore.errors import SpecError
from stimcore.serve.errors import Busy, Late, WorkerCrashed
from stimcore.serve.jobs.job import Job
from stimcore.serve.jobs.queue import JobQueue
from stimcore.serve.jobs.result_cache import ResultCache
from stimcore.serve.limits import Limits
from stimcore.serve.logs import TRACEPARENT
from stimcore.serve.repository.models import BundleRef
from stimcore.serve.repository.repository import ModelRepository
from stimcore.serve.workers.breaker import CircuitBreaker
from stimcore.serve.workers.config import WorkerConfig
from stimcore.serve.workers.dispatcher import CALLS_AHEAD, Dispatcher
from stimcore.serve.workers.handle import WorkerHandle
from stimcore.serve.workers.messages import (
    Abandon,
    Advance,
    Answer,
    Begin,
    Call,
    CallFailure,
    Drop,
    Forget,
    Hello,
    JobFailure,
    Report,
    Warmup,
)
from tests.serve.evaluations import job_request

CONFIG = WorkerConfig(device="cpu", threads=1, engines=2, keep_bytes=1 << 20)
HELLO = Hello("CPUExecutionProvider", "", {})
REF = BundleRef("/nowhere", "0")


class RecordingWorker(WorkerHandle):
    """A handle without a process, which notes what is sent."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.sent: list[object] = []

    def send(self, message: object, now: float) -> None:
        assert self.hello is not None, "a worker that has not said hello, or is being ended, takes no messages"
        self.last_message_at = now
        self.sent.append(message)


class Front:
    """A dispatcher with one worker, a queue of jobs and a circuit breaker that allows two crashes.

    Args:
        folder: What is served.
        limits: Bounds.
    """

    provider = HELLO.provider

    def __init__(self, folder: Path, limits: Limits) -> None:
        repository = ModelRepository(folder, folder)
        repository.put(repository.scan())
        self.jobs = JobQueue(repository, ResultCache(100), limits, self)
        self.worker = RecordingWorker()
        self.breaker = CircuitBreaker(2, 60)
        self.dispatcher = Dispatcher([self.worker], self.jobs, limits, self.breaker)

    def job_waiting(self) -> None:
        self.dispatcher.dispatch()

    def job_ended(self, job: Job) -> None:
        self.dispatcher.drop(job)

    def job_answered(self, job: Job) -> None:
        self.dispatcher.warm_up(job)

    def call(self, seconds: float = 5, priority: int = 1) -> "asyncio.Task[object]":
        return asyncio.create_task(self.dispatcher.call(self.make, seconds, priority))

    @staticmethod
    def make(number: int) -> Call:
        return Forget(number, REF)

    def receive(self, message: object) -> None:
        self.dispatcher.receive(self.worker, message)


def run(exported: Path, scenario: Callable[[Front], Awaitable[None]], limits: Limits | None = None) -> None:
    async def main() -> None:
        await scenario(Front(exported, limits or Limits()))

    asyncio.run(main())


def test_calls_wait_until_a_worker_says_hello_and_few_are_at_it(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        calls = [front.call() for _ in range(4)]
        await asyncio.sleep(0)
        assert front.worker.sent == []
        front.receive(HELLO)
        assert front.worker.sent == [Forget(1, REF), Forget(2, REF)]
        assert len(front.worker.sent) == CONFIG.threads + CALLS_AHEAD
        assert front.dispatcher.num_waiting == 2
        for number in (1, 2, 3, 4):
            front.receive(Answer(number, number))
        assert await asyncio.gather(*calls) == [1, 2, 3, 4]

    run(exported, scenario)


def test_a_gpu_that_does_not_work_is_logged_once(exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(front: Front) -> None:
        for note, degraded in (("no GPU", False), ("a library is missing", True), ("a library is missing", True)):
            front.receive(Hello("CPUExecutionProvider", note, {}, degraded=degraded))

    logging.getLogger("stimcore.serve").propagate = True
    with caplog.at_level(logging.WARNING, "stimcore.serve"):
        run(exported, scenario)
    assert [vars(record)["fields"]["message"] for record in caplog.records] == ["a library is missing"]


def test_a_job_shows_what_its_reports_note(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        front.receive(HELLO)
        job = front.jobs.submit(job_request("common", "d1-1-1"), "somebody")
        note = "The memory of the GPU is full, so that this evaluation ran on the processor."
        front.receive(Report(job.number, Progress("calibrate", 1, 2, provider="CPUExecutionProvider", note=note)))
        shown = json.loads(job.snapshot())
        assert (shown["note"], shown["provider"]) == (note, "CPUExecutionProvider")

    run(exported, scenario)


def test_priority_deadline_and_a_full_queue(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        later, first = front.call(priority=2), front.call()
        hurried = front.call(seconds=0.01)
        with pytest.raises(Late, match=r"not ready within 0\.01 s"):
            await hurried
        assert front.dispatcher.num_waiting == 2
        front.call()
        with pytest.raises(Busy, match="exceeds maximum queue size"):
            await front.call()
        front.receive(HELLO)
        assert [message.id for message in front.worker.sent if isinstance(message, Call)] == [2, 4]
        front.receive(CallFailure(2, SpecError("no such block")))
        with pytest.raises(SpecError, match="no such block"):
            await first
        front.dispatcher.refuse_all()
        with pytest.raises(Busy, match="the server is ending"):
            await later
        with pytest.raises(Busy, match="the server is ending"):
            await front.call()

    run(exported, scenario, Limits(calls=2))


def test_a_job_is_begun_advanced_and_dropped(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        front.receive(HELLO)
        job = front.jobs.submit(job_request("common", "d1-1-1"), "somebody")
        begin, advance = front.worker.sent
        assert isinstance(begin, Begin)
        assert (begin.id, begin.specs, begin.bundle) == (job.number, job.missing, job.bundle_ref)
        assert advance == Advance(job.number)
        front.receive(Report(job.number, Progress("calibrate", 256, 320), {"sessions_bytes": 5}))
        assert (job.state, job.phase) == ("running", "calibrate")
        assert front.worker.caches == {"sessions_bytes": 5}
        assert front.worker.sent[2:] == [Advance(job.number)]
        front.jobs.cancel(job.id, "somebody")
        assert front.worker.sent[3:] == [Drop(job.number)]
        assert front.worker.job is job, "until the worker has answered"
        front.receive(Report(job.number, None))
        assert front.worker.idle
        assert front.worker.open_jobs == set()

    run(exported, scenario)


def test_a_job_and_a_call_with_the_same_number_are_not_confused(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        front.receive(HELLO)
        job = front.jobs.submit(job_request("common", "d1-1-1"), "somebody")
        call = front.call()
        await asyncio.sleep(0)
        assert list(front.worker.calls) == [job.number]
        front.receive(JobFailure(job.number, SpecError("not of this bundle")))
        assert job.error is not None
        assert job.error.code == "bad_spec"
        assert not call.done()
        front.receive(Answer(1, "done"))
        assert await call == "done"

    run(exported, scenario)


def test_the_work_of_a_worker_that_ended_goes_on(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        front.receive(HELLO)
        job = front.jobs.submit(job_request("common", "d1-1-1"), "somebody")
        call = front.call()
        await asyncio.sleep(0)
        sent = list(front.worker.sent)
        front.worker.hello = None
        front.dispatcher.recover(front.worker)
        assert not front.worker.calls
        assert front.dispatcher.num_waiting == 1
        front.receive(HELLO)
        again = front.worker.sent[len(sent) :]
        assert sorted(map(repr, again)) == sorted(map(repr, sent)), "call and job begin anew"
        front.worker.hello = None
        front.dispatcher.recover(front.worker)
        with pytest.raises(WorkerCrashed):
            await call
        assert job.error is not None
        assert job.error.code == "worker_crashed"

    run(exported, scenario)


def test_a_worker_learns_that_nobody_waits_for_a_call_any_more(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        front.receive(HELLO)
        late, gone = front.call(seconds=0.01), front.call()
        with pytest.raises(Late):
            await late
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert front.worker.sent[2:] == [Abandon(1), Abandon(2)]
        assert all(pending.abandoned_at for pending in front.worker.calls.values()), "they run until the worker answers"
        waiting = front.call()
        await asyncio.sleep(0)
        assert front.dispatcher.num_waiting == 1
        front.receive(CallFailure(1, Late("nobody waits")))
        front.receive(Answer(3, "done"))
        assert await waiting == "done"

    run(exported, scenario)


def test_a_call_may_end_while_its_worker_is_being_ended(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        front.receive(HELLO)
        late, gone = front.call(seconds=0.01), front.call()
        await asyncio.sleep(0)
        front.worker.hello = None  # as `WorkerHandle.close` leaves it while it waits for the process
        with pytest.raises(Late, match=r"not ready within 0\.01 s"):
            await late
        gone.cancel()
        (outcome,) = await asyncio.gather(gone, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError)
        front.dispatcher.recover(front.worker)
        front.receive(HELLO)
        assert front.worker.idle, "nobody waits for these calls, so that no worker gets them again"

    run(exported, scenario)


def test_the_trace_of_a_request_goes_to_the_worker(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        front.receive(HELLO)
        TRACEPARENT.set("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        call = front.call()
        await asyncio.sleep(0)
        assert front.worker.sent == [Forget(1, REF, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
        front.receive(Answer(1, None))
        await call

    run(exported, scenario)


def test_a_worker_that_is_ended_for_a_late_call_blames_no_other(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        call = front.call()
        for _ in range(6):
            front.receive(HELLO)
            await asyncio.sleep(0)
            front.worker.hello, front.worker.ended_for_lateness = None, True
            front.dispatcher.recover(front.worker)
        front.receive(HELLO)
        front.receive(Answer(1, "done"))
        assert await call == "done"

    run(exported, scenario)


def test_a_bundle_on_which_workers_keep_ending_is_set_aside_and_no_other(exported: Path) -> None:
    other = BundleRef("/elsewhere", "1")

    async def scenario(front: Front) -> None:
        jobs = []
        for number in range(3):
            front.receive(HELLO)
            jobs.append(front.jobs.submit(job_request("common", f"d1-1-{number + 1}", fresh=True), "somebody"))
            front.worker.hello = None
            front.dispatcher.recover(front.worker)
        front.receive(HELLO)
        assert [job.state for job in jobs].count("failed") == 3
        assert jobs[-1].error is not None
        late = front.jobs.submit(job_request("common", "d3-3-1", fresh=True), "somebody")
        assert late.error is not None
        assert "set aside for 60 s" in late.error.message
        poisoned = jobs[0].bundle_ref
        with pytest.raises(Busy, match="set aside for 60 s"):
            await front.dispatcher.call(lambda number: Forget(number, poisoned), 5)
        healthy = asyncio.create_task(front.dispatcher.call(lambda number: Forget(number, other), 5))
        await asyncio.sleep(0)
        (number,) = front.worker.calls
        front.receive(Answer(number, "done"))
        assert await healthy == "done"
        assert not front.breaker.open

    run(exported, scenario)


def test_an_open_circuit_breaker_stops_all_work(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        for _ in range(3):
            front.breaker.record()
        front.receive(HELLO)
        front.jobs.submit(job_request("common", "d1-1-1"), "somebody")
        with pytest.raises(Busy, match="keeps ending"):
            await front.call()
        assert front.worker.sent == []

    run(exported, scenario)


def test_a_bundle_is_warmed_up_once(exported: Path) -> None:
    async def scenario(front: Front) -> None:
        front.receive(HELLO)
        job = front.jobs.submit(job_request("common", "d1-1-1"), "somebody")
        (begin, _) = front.worker.sent
        assert isinstance(begin, Begin)
        for _ in range(2):
            front.dispatcher.warm_up(job)
        assert front.worker.sent[2:] == [Warmup(job.bundle_ref)]

    run(exported, scenario)
