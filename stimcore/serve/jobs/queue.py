"""Evaluations as jobs: what is known already is answered at once, identical ones are one, unwatched ones end.

Knows neither HTTP nor processes: `pool.py` asks it what to do next and tells it what came of it. One event loop, no threads.
"""

import json
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable

from stimcore.bundle import Bundle
from stimcore.errors import StimcoreError, UsageError
from stimcore.serve import types
from stimcore.serve.errors import Busy, Late, NotFound, TooLarge, TooMany, WorkerCrashed
from stimcore.serve.jobs.job import Job
from stimcore.serve.jobs.result_cache import Conditions, ResultCache, conditions
from stimcore.serve.limits import Limits
from stimcore.serve.repository.repository import ModelRepository, bundle_ref
from stimcore.serve.workers.messages import Begin, Report

ATTEMPTS = 2
"""An evaluation that ended its worker is tried once more."""


class JobQueue:
    """All evaluations.

    Args:
        repository: What is served.
        known: Results so far.
        limits: Bounds.
        provider: onnxruntime's name of what would run now; empty while no worker is up.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        repository: ModelRepository,
        known: ResultCache,
        limits: Limits,
        provider: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.repository, self.results, self.limits = repository, known, limits
        self._provider, self._clock = provider, clock
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._numbers = 0
        self.woken: Callable[[], None] = lambda: None
        self.dropped: Callable[[Job], None] = lambda job: None
        self.answered: Callable[[Job], None] = lambda job: None

    def submit(self, request: types.JobRequest, client: str) -> Job:
        """A new evaluation, or the one that does the same already.

        Raises:
            NotFound: Experiment or method.
            SpecError: A spec that the network has not.
            UsageError: No specs, or no images.
            TooLarge: Too many specs.
            TooMany: Of this client's evaluations.
            Busy: The queue is full.
        """
        bundle = self.repository.bundle(request.experiment, request.method)
        if not request.specs:
            raise UsageError("no specs were given", allowed=f"1 to {self.limits.specs}")
        if len(request.specs) > self.limits.specs:
            raise TooLarge(f"{len(request.specs):,} specs", allowed=f"at most {self.limits.specs:,}")
        if request.max_images is not None and request.max_images < 1:
            raise UsageError(f"max_images is {request.max_images}", allowed="1 and more, or null for all")
        on = conditions(bundle, request.recalibrate, request.max_images)
        specs = tuple(str(bundle.topology.parse(text)) for text in request.specs)
        request = request.model_copy(update={"specs": specs, "max_images": on.max_images})
        if (same := self._same(on, request)) is not None:
            same.interactive |= request.interactive
            self._watch(same, client)
            self.woken()
            return same
        job = self._new(request, bundle, on, client)
        self._answer_from_known(job)
        if not job.final:
            self._check_room(client)
            self._waiting.append(job)
            job.say_progress(job.images, job.images_total)
            self.woken()
        self._jobs[job.id] = job
        self._forget_old()
        return job

    def _same(self, on: Conditions, request: types.JobRequest) -> Job | None:
        for job in self._jobs.values():
            if not job.final and job.on == on and job.request.specs == request.specs:
                return job
        return None

    def _new(self, request: types.JobRequest, bundle: Bundle, on: Conditions, client: str) -> Job:
        self._numbers += 1
        job = Job(
            id=uuid.uuid4().hex,
            number=self._numbers,
            request=request,
            bundle=bundle,
            source=bundle_ref(bundle),
            on=on,
            main=str(bundle.topology.full),
            images_total=on.max_images or bundle.manifest.images,
            owner=client,
            created=self._clock(),
            interactive=request.interactive,
        )
        self._watch(job, client)
        return job

    def _answer_from_known(self, job: Job) -> None:
        wanted = tuple(dict.fromkeys((job.main, *job.request.specs)))
        stored = None if job.request.fresh else self.results.stored(job.on)
        provider = self._provider()
        job.origin, job.provider = "stored", stored.provider if stored else provider
        for spec in () if job.request.fresh else wanted:
            if stored is not None and spec in stored.results:
                job.known[spec] = stored.results[spec]
            elif (text := self.results.measured(job.on, provider, spec)) is not None:
                job.known[spec], job.origin, job.provider = text, "cached", provider
        job.missing = tuple(spec for spec in wanted if spec not in job.known)
        if job.missing:
            job.origin, job.provider = "measured", ""
        else:
            self.results.hits += 1
            self._finish(job)
            self.answered(job)

    def _check_room(self, client: str) -> None:
        open_ = [job for job in self._jobs.values() if not job.final]
        if sum(job.owner == client for job in open_) >= self.limits.jobs_per_client:
            raise TooMany(
                f"this client has {self.limits.jobs_per_client} evaluations in progress", todo="Wait for one, or cancel one."
            )
        if len(open_) >= self.limits.jobs:
            raise Busy(f"{self.limits.jobs} evaluations wait or run: the queue is full", todo="Try again in a moment.")

    def _forget_old(self) -> None:
        results = finished = 0
        for job in reversed(list(self._jobs.values())):
            if job.final:
                finished, results = finished + 1, results + len(job.request.specs)
                if finished > self.limits.finished_jobs or (finished > 1 and results > self.limits.known_results):
                    del self._jobs[job.id]

    def get(self, id_: str, client: str | None = None) -> Job:
        """An evaluation by id; with a client, as a poll of that client's.

        Raises:
            NotFound: There is none, or it was forgotten.
        """
        job = self._jobs.get(id_)
        if job is None:
            raise NotFound(f"there is no evaluation '{id_[:40]}'", todo="Submit it again: what was measured is remembered.")
        if client is not None:
            self._watch(job, client)
        return job

    def all(self) -> list[Job]:
        """Every evaluation that is remembered, the oldest first."""
        return list(self._jobs.values())

    def cancel(self, id_: str, client: str) -> Job:
        """Takes a client's interest away; the work ends when nobody else watches.

        Raises:
            NotFound: There is none, or it was forgotten.
        """
        job = self.get(id_)
        job.watchers.pop(client, None)
        now = self._clock()
        others = [*(c for c, until in job.watchers.items() if until > now), *(c for c in job.streams if c != client)]
        if not job.final and not others:
            self._end(job, "cancelled")
        return job

    def _watch(self, job: Job, client: str) -> None:
        job.watchers[client] = self._clock() + self.limits.lease_s

    def drop_unwatched(self) -> None:
        """Ends what nobody watches any more and what takes too long; called about once a second."""
        now = self._clock()
        for job in list(self._jobs.values()):
            if job.final:
                continue
            job.watchers = {client: until for client, until in job.watchers.items() if until > now}
            if not job.watchers and not job.streams:
                self._end(job, "dropped")
            elif now - job.created > self.limits.job_s:
                self.fail(job, Late(f"the evaluation was not done after {self.limits.job_s:g} s"))

    def end_all(self) -> None:
        """The server ends."""
        for job in list(self._jobs.values()):
            if not job.final:
                self.fail(job, Busy("the server is ending", todo="Submit it again in a moment."))

    # What the pool asks and tells

    def next(self) -> Job | None:
        """Takes the next evaluation: interactive ones first, each in turn."""
        for wanted in (True, False):
            for job in self._waiting:
                if job.interactive is wanted:
                    self._waiting.remove(job)
                    return job
        return None

    def has_interactive(self) -> bool:
        """Whether an interactive one waits."""
        return any(job.interactive for job in self._waiting)

    def begin(self, job: Job) -> Begin:
        """How a worker is told of it."""
        chunk = min(500, max(100, 50_000 // len(job.missing)))  # first numbers early, also of thousands of sub-networks
        return Begin(job.number, job.source, job.missing, job.request.recalibrate, job.on.max_images, chunk)

    def report(self, job: Job, report: Report, provider: str) -> None:
        """A worker got further."""
        if job.final or report.phase == "stopped":
            return
        job.state, job.provider = "running", provider
        job.phase = report.phase
        if report.phase == "evaluate":
            job.images, job.images_total = report.images, report.images_total
            job.known.update({spec: text for spec, text in report.results.items() if spec in job.missing})
        if report.finished:
            self.results.add(job.on, provider, {spec: job.known[spec] for spec in job.missing})
            self._finish(job)
            return
        job.say_progress(report.images, report.images_total)
        if report.results:
            job.say_result()

    def put_back(self, job: Job) -> None:
        """It goes on later, in its turn; somebody who waits for a first number keeps the turn until it is there.

        Two calibrations that take turns would both end late; one after the other, the first one ends in half the time.
        """
        if job.final:
            return
        if job.interactive and job.phase == "calibrate" and len(job.request.specs) == 1:
            self._waiting.appendleft(job)
        else:
            self._waiting.append(job)

    def crashed(self, job: Job, blamed: bool) -> None:
        """Its worker ended: it starts anew, but not for ever. Until then it says what it said: clients see a pause."""
        if job.final:
            return
        job.attempts += blamed
        if job.attempts >= ATTEMPTS:
            self.fail(job, WorkerCrashed(f"the worker process ended {ATTEMPTS} times while it ran this evaluation"))
            return
        if job not in self._waiting:
            self._waiting.appendleft(job)

    def fail(self, job: Job, reason: StimcoreError) -> None:
        """It can't be done."""
        if job.final:
            return
        job.error = types.JobError(code=reason.code, message=str(reason))
        job.say("error", job.error.model_dump_json().encode())
        self._end(job, "failed")

    def _finish(self, job: Job) -> None:
        job.images = job.images_total
        job.say_result()
        self._end(job, "done")

    def _end(self, job: Job, state: types.JobState) -> None:
        job.state = state
        if job in self._waiting:
            self._waiting.remove(job)
        job.say("done", json.dumps({"state": state, "source": job.origin}).encode())
        if state != "done":
            self.dropped(job)
