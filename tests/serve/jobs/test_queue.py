"""The queue without HTTP and worker processes: turns, sharing, texts of many results, notifications of the workers."""

import json
import time
from pathlib import Path

import pytest

from stimcore.analysis.result import Result
from stimcore.bundle import open_bundle
from stimcore.engine.inference import Phase, Progress
from stimcore.serve import types
from stimcore.serve.jobs.job import Job
from stimcore.serve.jobs.queue import JobQueue
from stimcore.serve.jobs.result_cache import ResultCache, conditions_of, read_stored
from stimcore.serve.limits import Limits
from stimcore.serve.repository.models import bundle_ref
from stimcore.serve.repository.repository import ModelRepository
from stimcore.subnets.families import ordered
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology
from tests.serve.evaluations import job_request

CPU = "CPUExecutionProvider"


class NoWorkers:
    """Workers that do nothing and note their notifications."""

    provider = CPU

    def __init__(self) -> None:
        self.notifications: list[tuple[str, Job | None]] = []

    def job_waiting(self) -> None:
        self.notifications.append(("waiting", None))

    def job_ended(self, job: Job) -> None:
        self.notifications.append(("ended", job))

    def job_answered(self, job: Job) -> None:
        self.notifications.append(("answered", job))


@pytest.fixture
def workers() -> NoWorkers:
    return NoWorkers()


@pytest.fixture
def jobs(exported: Path, workers: NoWorkers) -> JobQueue:
    repository, limits = ModelRepository(exported, exported.parent / "runs"), Limits()
    repository.put(repository.scan())
    results = ResultCache(limits.known_results)
    results.put_stored(read_stored(repository.snapshot.bundles.values()))
    return JobQueue(repository, results, limits, workers)


def result(spec: Spec, *, correct: int = 150, images: int = 300) -> Result:
    return Result.counted(spec, images=images, correct=correct, lost=20, won=10, ce_nats=1.25, kl_nats=0.5, max_ce_nats=9.0)


def measured(job: Job, images: int) -> Progress:
    """Return a report with results of everything that the job needs, on some of 300 images."""
    results = {spec: result(spec, correct=images // 2, images=images) for spec in job.missing}
    return Progress("evaluate", images, 300, results)


def test_a_first_calibration_keeps_its_turn_and_everything_else_takes_turns(jobs: JobQueue) -> None:
    requests = (
        job_request("common", "d1-2-2", fresh=True),
        job_request("stimulative", "d1-2-2", fresh=True),
        job_request("common", "d1-2-2", "d2-1-2", fresh=True),
    )
    first, second, several = (jobs.submit(request, "somebody") for request in requests)

    def step(phase: Phase) -> Job:
        job = jobs.next()
        assert job is not None
        jobs.report(job, Progress("calibrate", 1, 9) if phase == "calibrate" else measured(job, 100), CPU)
        jobs.put_back(job)
        return job

    assert [step("calibrate") for _ in range(3)] == [first] * 3
    assert [step("evaluate"), step("calibrate"), step("evaluate")] == [first, second, second]
    assert [step("calibrate"), step("evaluate"), step("evaluate")] == [several, first, second]


def test_workers_are_notified_of_waiting_ended_and_answered_jobs(jobs: JobQueue, workers: NoWorkers) -> None:
    answered = jobs.submit(job_request("stimulative", "d1-1-1"), "somebody")
    assert (answered.state, answered.source) == ("done", "stored")
    waiting = jobs.submit(job_request("common", "d1-1-1"), "somebody")
    assert jobs.submit(job_request("common", "d1-1-1"), "another") is waiting
    jobs.cancel(waiting.id, "somebody")
    assert not waiting.final
    jobs.cancel(waiting.id, "another")
    assert waiting.state == "cancelled"
    assert workers.notifications == [("answered", answered), ("waiting", None), ("waiting", None), ("ended", waiting)]


def test_results_that_were_measured_answer_the_next_job(jobs: JobQueue) -> None:
    first = jobs.submit(job_request("common", "d1-1-1"), "somebody")
    assert jobs.next() is first
    jobs.report(first, measured(first, 300), CPU)
    assert first.state == "done"
    second = jobs.submit(job_request("common", "1.4.7"), "somebody")
    assert (second.state, second.source, second.provider) == ("done", "cached", CPU)
    assert second.results == first.results


def test_a_result_event_is_read_late_as_it_was_announced(jobs: JobQueue) -> None:
    job = jobs.submit(job_request("common", "d1-1-1"), "somebody")
    jobs.report(job, measured(job, 100), CPU)
    jobs.report(job, measured(job, 200), CPU)
    events = list(job.events_after(0))
    assert [event.type for event in events] == ["progress", "result"]
    assert [event.id for event in events] == [job.version - 1, job.version]
    assert json.loads(events[1].text) == {
        "images": 200,
        "images_total": 300,
        "main": result(job.main, correct=100, images=200).to_dict(),
        "results": [result(job.specs[0], correct=100, images=200).to_dict()],
    }
    assert list(job.events_after(job.version)) == []
    assert list(job.events_after(0)) == events


def test_a_worker_that_ends_twice_on_a_job_fails_it(jobs: JobQueue) -> None:
    job = jobs.submit(job_request("common", "d1-1-1"), "somebody")
    assert jobs.next() is job
    jobs.worker_ended(job, blamed=False)
    jobs.worker_ended(job, blamed=True)
    assert jobs.next() is job
    jobs.worker_ended(job, blamed=True)
    assert job.error is not None
    assert (job.state, job.error.code) == ("failed", "worker_crashed")
    assert [event.type for event in job.events_after(0)] == ["progress", "error", "done"]


def test_a_job_of_5832_results_is_a_types_job_and_its_text_is_made_once(exported: Path) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    specs = tuple(ordered(Topology.of("deep", (18, 18, 18))))
    assert len(specs) == 5832
    job = Job(
        id="many",
        number=1,
        request=job_request("common", *map(str, specs)),
        specs=specs,
        bundle_ref=bundle_ref(bundle),
        conditions=conditions_of(bundle, True, None),
        main=specs[-1],
        images_total=300,
        owner="somebody",
        created_at=0.0,
        results={spec: result(spec) for spec in specs},
        state="running",
        phase="evaluate",
    )
    began = time.process_time()
    text = job.snapshot()
    assert time.process_time() - began < 2, "a bound for a busy machine; usually it takes 0.05 s"
    assert job.snapshot() is text
    value = types.Job.model_validate_json(text)
    assert list(value.results) == [result(spec) for spec in specs]
    assert value.main == result(specs[-1])
    job.announce_results()
    assert job.snapshot() is not text
