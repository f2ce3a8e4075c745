"""The queue of evaluations: known results answer at once, identical requests share a job, and jobs without a client end.

The module knows neither HTTP nor worker processes: `workers/dispatcher.py` takes the next job and reports its progress.
Everything in it runs in one event loop.
"""

import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol

from stimcore.bundle import Bundle
from stimcore.engine.inference import Progress
from stimcore.errors import StimcoreError, UsageError
from stimcore.serve import types
from stimcore.serve.errors import Busy, Late, NotFound, TooLarge, TooMany, WorkerCrashed
from stimcore.serve.jobs.job import Job
from stimcore.serve.jobs.result_cache import Conditions, ResultCache, conditions_of
from stimcore.serve.limits import Limits
from stimcore.serve.repository.models import bundle_ref
from stimcore.serve.repository.repository import ModelRepository
from stimcore.subnets.spec import Spec

ATTEMPTS = 2
"""Number of workers that try a job before it fails."""


class Workers(Protocol):
    """What the queue asks of the workers, and what it notifies them of."""

    @property
    def provider(self) -> str:
        """Name of the execution provider that would run a job now; empty while no worker takes work."""

    def job_waiting(self) -> None:
        """A job waits that could be computed."""

    def job_ended(self, job: Job) -> None:
        """A job has ended without its results; nobody needs further work for it."""

    def job_answered(self, job: Job) -> None:
        """A job was answered from known results, without a worker."""


class JobQueue:
    """All evaluations: waiting, running, and finished ones that are still remembered.

    Args:
        repository: The bundles.
        results: Known results.
        limits: Bounds of the server.
        workers: Who computes the jobs.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        repository: ModelRepository,
        results: ResultCache,
        limits: Limits,
        workers: Workers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository, self._results, self._limits = repository, results, limits
        self._workers, self._clock = workers, clock
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._last_number = 0

    def submit(self, request: types.JobRequest, client: str, address: str = "") -> Job:
        """Return a new job, or the unfinished one that does the same already.

        Args:
            request: The request.
            client: The client, which watches the job from now on.
            address: The address that the request comes from; empty where no bound per address applies.

        Raises:
            NotFound: There is no such experiment or method.
            SpecError: The network has no such sub-network.
            UsageError: There are no specs, or no images.
            TooLarge: There are too many specs.
            TooMany: The client or its address has too many jobs in progress.
            Busy: The queue is full.
        """
        bundle = self._repository.bundle(request.experiment, request.method)
        if not request.specs:
            raise UsageError("no specs were given", allowed=f"1 to {self._limits.specs}")
        if len(request.specs) > self._limits.specs:
            raise TooLarge(f"{len(request.specs):,} specs", allowed=f"at most {self._limits.specs:,}")
        if request.max_images is not None and request.max_images < 1:
            raise UsageError(f"max_images is {request.max_images}", allowed="1 and more, or null for all")
        conditions = conditions_of(bundle, request.recalibrate, request.max_images)
        specs = tuple(bundle.topology.parse(text) for text in request.specs)
        if (same := self._find_same(conditions, specs)) is not None:
            same.interactive |= request.interactive
            self._watch(same, client)
            self._workers.job_waiting()
            return same
        job = self._make(request, bundle, conditions, specs, client)
        self._answer_from_cache(job)
        if not job.final:
            self._check_room(client, address)
            job.address = address
            self._waiting.append(job)
            job.announce_progress(job.images, job.images_total)
            self._workers.job_waiting()
        self._jobs[job.id] = job
        self._forget_old()
        return job

    def _find_same(self, conditions: Conditions, specs: tuple[Spec, ...]) -> Job | None:
        """Return an unfinished job that gives the same results.

        A fresh job counts too: whatever is unfinished is being measured now.
        """
        for job in self._jobs.values():
            if not job.final and job.conditions == conditions and job.specs == specs:
                return job
        return None

    def _make(
        self, request: types.JobRequest, bundle: Bundle, conditions: Conditions, specs: tuple[Spec, ...], client: str
    ) -> Job:
        self._last_number += 1
        long_forms = tuple(map(str, specs))
        job = Job(
            id=uuid.uuid4().hex,
            number=self._last_number,
            request=request.model_copy(update={"specs": long_forms, "max_images": conditions.max_images}),
            specs=specs,
            bundle_ref=bundle_ref(bundle),
            conditions=conditions,
            main=bundle.topology.full,
            images_total=conditions.max_images or bundle.manifest.images,
            owner=client,
            created_at=self._clock(),
            interactive=request.interactive,
        )
        self._watch(job, client)
        return job

    def _answer_from_cache(self, job: Job) -> None:
        """Give a job the results that are known, and finish it when these are all.

        The source of a job with results from several places is the most recent of them: `measured`, `cached`, then `stored`.
        """
        wanted = tuple(dict.fromkeys((job.main, *job.specs)))
        if not job.request.fresh:
            stored = self._results.stored(job.conditions)
            provider = self._workers.provider
            job.source, job.provider = "stored", stored.provider if stored else provider
            for spec in wanted:
                if stored is not None and spec in stored.results:
                    job.results[spec] = stored.results[spec]
                elif (result := self._results.measured(job.conditions, provider, spec)) is not None:
                    job.results[spec], job.source, job.provider = result, "cached", provider
        job.missing = tuple(spec for spec in wanted if spec not in job.results)
        if job.missing:
            job.source, job.provider = "measured", ""
        else:
            self._results.hits += 1
            self._finish(job)
            self._workers.job_answered(job)

    def _check_room(self, client: str, address: str) -> None:
        unfinished = [job for job in self._jobs.values() if not job.final]
        if sum(job.owner == client for job in unfinished) >= self._limits.jobs_per_client:
            raise TooMany(
                f"this client has {self._limits.jobs_per_client} evaluations in progress", todo="Wait for one, or cancel one."
            )
        if address and sum(job.address == address for job in unfinished) >= self._limits.jobs_per_address:
            raise TooMany(
                f"this address has {self._limits.jobs_per_address} evaluations in progress", todo="Wait for one, or cancel one."
            )
        if len(unfinished) >= self._limits.jobs:
            raise Busy(f"{self._limits.jobs} evaluations wait or run: the queue is full", todo="Try again in a moment.")

    def _forget_old(self) -> None:
        """Forget the oldest finished jobs above the limits of jobs and of results; the newest one always stays."""
        results = finished = 0
        for job in reversed(list(self._jobs.values())):
            if job.final:
                finished, results = finished + 1, results + len(job.specs)
                if finished > self._limits.finished_jobs or (finished > 1 and results > self._limits.known_results):
                    del self._jobs[job.id]

    def get(self, id_: str, client: str | None = None) -> Job:
        """Return a job by its id.

        Args:
            id_: The id.
            client: The client that polls and thereby watches the job; None for a look that does not count.

        Raises:
            NotFound: There is no such job, or it was forgotten.
        """
        job = self._jobs.get(id_)
        if job is None:
            raise NotFound(f"there is no evaluation '{id_[:40]}'", todo="Submit it again: measured results are remembered.")
        if client is not None:
            self._watch(job, client)
        return job

    def all(self) -> list[Job]:
        """Return every job that is remembered, the oldest first."""
        return list(self._jobs.values())

    def cancel(self, id_: str, client: str) -> Job:
        """Stop watching a job for a client; the job ends when no other client watches it.

        Raises:
            NotFound: There is no such job, or it was forgotten.
        """
        job = self.get(id_)
        job.watchers.pop(client, None)
        now = self._clock()
        others = [*(c for c, until in job.watchers.items() if until > now), *(c for c in job.streams if c != client)]
        if not job.final and not others:
            self._end(job, "cancelled")
        return job

    def _watch(self, job: Job, client: str) -> None:
        job.watchers[client] = self._clock() + self._limits.lease_s

    def drop_unwatched(self) -> None:
        """End jobs that no client watches any more, and jobs that take too long; called about once a second."""
        now = self._clock()
        for job in list(self._jobs.values()):
            if job.final:
                continue
            job.watchers = {client: until for client, until in job.watchers.items() if until > now}
            if not job.watchers and not job.streams:
                self._end(job, "dropped")
            elif now - job.created_at > self._limits.job_s:
                self.fail(job, Late(f"the evaluation was not done after {self._limits.job_s:g} s"))

    def end_all(self) -> None:
        """Fail every unfinished job, because the server ends."""
        for job in list(self._jobs.values()):
            if not job.final:
                self.fail(job, Busy("the server is ending", todo="Submit it again in a moment."))

    def next(self) -> Job | None:
        """Take the next job out of the queue: interactive jobs first, and each in its turn."""
        for interactive in (True, False):
            for job in self._waiting:
                if job.interactive is interactive:
                    self._waiting.remove(job)
                    return job
        return None

    def put_back(self, job: Job) -> None:
        """Put a job that is not done yet back into the queue.

        Usually it goes to the end, so that jobs take turns. But while somebody waits for the first number of one sub-network,
        its calibration keeps the turn: two calibrations that took turns would both end late, whereas one after the other, the
        first ends in half the time and the second no later.
        """
        if job.final:
            return
        if job.interactive and job.phase == "calibrate" and len(job.specs) == 1:
            self._waiting.appendleft(job)
        else:
            self._waiting.append(job)

    def report(self, job: Job, progress: Progress, provider: str) -> None:
        """Take over the progress of a worker.

        Args:
            job: The job.
            progress: The engine's report.
            provider: The execution provider that runs the job.
        """
        if job.final:
            return
        job.state, job.phase, job.provider, job.note = "running", progress.phase, provider, progress.note
        if progress.phase == "evaluate":
            job.images, job.images_total = progress.images, progress.images_total
            # The engine always evaluates the main network along; a main result that was known stays as it was, so that a client
            # gets the same value as before.
            job.results.update((spec, progress.results[spec]) for spec in job.missing)
        if progress.done:
            self._results.add(job.conditions, provider, (job.results[spec] for spec in job.missing))
            self._finish(job)
            return
        job.announce_progress(progress.images, progress.images_total)
        if progress.results:
            job.announce_results()

    def worker_ended(self, job: Job, *, blamed: bool) -> None:
        """Let a job begin anew on another worker, unless it has ended too many; until then, clients see a pause.

        Args:
            job: A job that the worker held.
            blamed: Whether the worker was computing this job when it ended.
        """
        if job.final:
            return
        job.attempts += blamed
        if job.attempts >= ATTEMPTS:
            self.fail(job, WorkerCrashed(f"the worker process ended {ATTEMPTS} times while it ran this evaluation"))
            return
        if job not in self._waiting:
            self._waiting.appendleft(job)

    def fail(self, job: Job, reason: StimcoreError) -> None:
        """End a job with an error, unless it has ended already."""
        if job.final:
            return
        job.announce_error(types.JobError(code=reason.code, message=str(reason)))
        self._end(job, "failed")

    def _finish(self, job: Job) -> None:
        job.images = job.images_total
        job.announce_results()
        self._end(job, "done")

    def _end(self, job: Job, state: types.JobState) -> None:
        job.state = state
        if job in self._waiting:
            self._waiting.remove(job)
        job.announce_end()
        if state != "done":
            self._workers.job_ended(job)
