"""The model server without HTTP: it connects repository, results, jobs and workers, and starts and ends them together."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stimcore.errors import BundleError
from stimcore.serve import types
from stimcore.serve.errors import Busy, Late, NotFound
from stimcore.serve.jobs.job import Job
from stimcore.serve.jobs.queue import JobQueue
from stimcore.serve.jobs.result_cache import Conditions, ResultCache, StoredResults, read_stored
from stimcore.serve.limits import Limits
from stimcore.serve.metrics import GaugeValues, Metrics
from stimcore.serve.repository.models import BundleRef, bundle_ref
from stimcore.serve.repository.repository import ModelRepository, Snapshot
from stimcore.serve.threads import in_thread
from stimcore.serve.training.offer import TrainingConfig, check_config
from stimcore.serve.training.queue import TrainingQueue
from stimcore.serve.workers.config import LOCAL_ENGINE, NICENESS, WorkerConfig, engine_url
from stimcore.serve.workers.messages import Call, Forget
from stimcore.serve.workers.pool import WorkerPool

log = logging.getLogger("stimcore.serve")
BREAK_S = 0.5
"""Shortest time between two looks whether bundles have changed."""


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What a server serves, and with what.

    Attributes:
        folder: Folder of experiments, `exported`.
        runs: Folder of run folders.
        devices: `auto`, `cpu` or `cuda:N`, one worker process for each.
        threads: Threads of each worker that compute at once, on a CPU.
        limits: Bounds of the server.
        token: Token that requests carry; None without access control by token.
        engine: `onnxruntime`, or `triton://HOST:PORT` (`triton+https` with TLS) for an inference server that runs the networks.
        training: What the server trains on request.
        niceness: Added to the niceness of each worker.
    """

    folder: Path
    runs: Path = Path("runs")
    devices: Sequence[str] = ("auto",)
    threads: int = 1
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    engine: str = LOCAL_ENGINE
    training: TrainingConfig = field(default_factory=TrainingConfig)
    niceness: int = NICENESS


class Service:
    """Everything that the front process holds. It is the `Workers` of its job queue.

    Args:
        config: What is served, and with what.

    Attributes:
        limits: Bounds of the server.
        token: Token that requests carry, or None.
        repository: The bundles.
        results: Known results.
        metrics: Counters for Prometheus.
        jobs: Evaluations.
        trainings: Trainings that clients have asked for.
        pool: Worker processes.
        draining: Set when the server begins to end: no new work is accepted.
        unloaded: Names of models that were unloaded by request.

    Raises:
        UsageError: There is no such engine, or something that may be trained does not exist.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.limits, self.token = config.limits, config.token
        self.repository = ModelRepository(config.folder, config.runs)
        self.results = ResultCache(self.limits.known_results)
        self.metrics = Metrics(self.limits.model_labels)
        self.jobs = JobQueue(self.repository, self.results, self.limits, workers=self)
        check_config(config.training)
        self.trainings = TrainingQueue(
            config.training, exported=config.folder, runs=config.runs, limits=self.limits, on_export=self._rescan_changed
        )
        self.pool = WorkerPool(_worker_configs(config), self.jobs, self.limits)
        self.draining = asyncio.Event()
        self.unloaded: set[str] = set()
        self._scanned = False
        self._scan_lock = asyncio.Lock()
        self._next_scan: asyncio.Task[types.Catalogue] | None = None
        self._first_scan_ended = asyncio.Event()
        self._runs_seen: tuple[float, list[types.RunInfo]] | None = None
        self._reading_runs: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._suspicion = asyncio.Event()

    @property
    def provider(self) -> str:
        """Name of the execution provider, as onnxruntime calls it; empty while no worker takes work."""
        return self.pool.hello.provider if self.pool.hello else ""

    def job_waiting(self) -> None:
        """Give a job that waits to a worker."""
        self.pool.dispatch()

    def job_ended(self, job: Job) -> None:
        """Stop the work for a job that has ended without its results."""
        self.pool.drop(job)
        if job.error is not None and job.error.code == BundleError.code:
            self._suspicion.set()

    def job_answered(self, job: Job) -> None:
        """Open the bundle of a job that was answered without measuring: the next request is likely to need it."""
        self.pool.warm_up(job)

    @property
    def ready(self) -> bool:
        """Whether the server accepts work."""
        return self._scanned and not self.repository.lost and self.pool.ready and not self.draining.is_set()

    def status(self) -> types.Status:
        """Return the state of the server."""
        hello = self.pool.hello
        return types.Status(
            ready=self.ready,
            provider=self.provider,
            provider_note=hello.note if hello else "",
            versions=dict(hello.versions) if hello else {"numpy": np.__version__},
            image_bytes=self.limits.image_bytes,
            image_pixels=self.limits.image_pixels,
        )

    def gauges(self) -> GaugeValues:
        """Return what the gauges of `/metrics` show now."""
        jobs, workers = self.jobs.all(), self.pool.workers
        caches: Counter[str] = Counter()
        for worker in workers:
            caches.update(worker.caches)
        return GaugeValues(
            waiting_calls=self.pool.waiting,
            calls_at_workers=sum(len(worker.calls) for worker in workers),
            jobs=Counter(job.state for job in jobs),
            known_results=len(self.results),
            known_hits=self.results.hits,
            worker_restarts=self.pool.restarts,
            engine_caches=caches,
            ready=self.ready,
        )

    async def start(self) -> None:
        """Start the workers and begin to open the bundles; `opened` waits until that is done."""
        self.pool.start()
        self._opening = asyncio.create_task(self._open_and_watch())

    async def opened(self) -> None:
        """Wait until the bundles were opened for the first time.

        Raises:
            Busy: The server ends before that.
        """
        await self._first_scan_ended.wait()
        if not self._scanned:
            self.must_take_work()

    async def _open_and_watch(self) -> None:
        """Open the bundles, and scan again whenever their files have changed; never returns.

        It looks every `watch_s`, and when a worker finds other files than it was told of, but not more often than `BREAK_S`.
        """
        try:
            await self.rescan()
        except Exception:  # whatever it is, the next look may succeed
            log.exception("the bundles could not be opened")
        while True:
            await asyncio.sleep(min(BREAK_S, self.limits.watch_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.limits.watch_s):
                    await self._suspicion.wait()
            self._suspicion.clear()
            try:
                if await in_thread("watch", self.repository.changed):
                    await self.rescan(everything=False)
            except Exception:  # whatever it is, the next look may succeed, and requests are answered meanwhile
                log.exception("the bundles could not be looked at")

    async def runs(self, within_s: float = 0.0) -> list[types.RunInfo]:
        """Return the run folders and the trainings that wait, the last written first.

        Args:
            within_s: Age in seconds of a look at the folders that will do: streams that watch a run share one.

        Raises:
            Late: The folders could not be read within `call_s`: a network file system does not answer.
        """
        asked = time.monotonic()
        while self._runs_seen is None or asked - self._runs_seen[0] > within_s:
            # one look at a time, which goes on when a client that began it is gone
            if self._reading_runs is None or self._reading_runs.done():
                self._reading_runs = asyncio.create_task(self._read_runs())
            try:
                await asyncio.wait_for(asyncio.shield(self._reading_runs), self.limits.call_s)
            except TimeoutError as reason:
                raise Late(
                    f"the run folders were not read within {self.limits.call_s:g} s",
                    todo="Look whether the file system under --runs answers.",
                ) from reason
        return self.trainings.describe(self._runs_seen[1])

    async def _read_runs(self) -> None:
        began = time.monotonic()
        runs = await in_thread("runs", self.repository.runs)
        self._runs_seen = began, runs

    async def run(self, name: str, within_s: float = 0.0) -> types.RunInfo:
        """Return one run by its name, `EXPERIMENT/RUN`.

        Args:
            name: Of the run.
            within_s: See `runs`.

        Raises:
            NotFound: There is no such run.
        """
        run = next((info for info in await self.runs(within_s) if info.name == name), None)
        if run is None:
            raise NotFound(f"there is no run '{name[:120]}'")
        return run

    async def _rescan_changed(self) -> None:
        await self.rescan(everything=False)

    async def rescan(self, *, everything: bool = True) -> types.Catalogue:
        """Open bundles anew and serve them; requests that are being answered keep the bundles that they began with.

        Args:
            everything: Open and hash all bundles, and not only those whose files seem to have changed. Those who ask for this
                while another such scan waits for its turn share that one.
        """
        if not everything:
            async with self._scan_lock:
                return await self._scan_now(everything=False)
        if self._next_scan is None:
            self._next_scan = asyncio.create_task(self._scan_in_turn())
        return await asyncio.shield(self._next_scan)

    async def _scan_in_turn(self) -> types.Catalogue:
        async with self._scan_lock:
            self._next_scan = None  # from here on files are read: who asks now may know of newer ones
            return await self._scan_now(everything=True)

    async def _scan_now(self, *, everything: bool) -> types.Catalogue:
        """Scan; the caller holds the lock."""
        before = {bundle.fingerprint: bundle for bundle in self.repository.snapshot.bundles.values()}
        snapshot, stored = await in_thread("scan", lambda: self._scan(everything))
        self.repository.put(snapshot)
        self.results.put_stored(stored)
        self.metrics.allow_models(snapshot.models)
        self.unloaded &= set(snapshot.models)
        now = {bundle.fingerprint for bundle in snapshot.bundles.values()}
        gone = set(before) - now
        log.info("scanned", extra={"fields": {"bundles": len(now), "new": len(now - set(before)), "gone": len(gone)}})
        for problem in snapshot.problems:
            log.warning("problem", extra={"fields": {"path": problem.path, "message": problem.message}})
        # Engines of bundles that nobody can ask for any more would hold the workers' memory. They go when the calls that
        # are waiting for them now are answered or too late.
        refs = [bundle_ref(before[fingerprint]) for fingerprint in gone]
        asyncio.get_running_loop().call_later(self.limits.call_s, self._forget_gone, refs)
        self._scanned = True
        self._first_scan_ended.set()
        return snapshot.catalogue

    def _scan(self, everything: bool) -> tuple[Snapshot, Mapping[Conditions, StoredResults]]:
        snapshot = self.repository.scan(everything=everything)
        return snapshot, read_stored(snapshot.bundles.values())

    async def call(self, make: Callable[[int], Call], seconds: float, priority: int = 1) -> Any:
        """Send a call to a worker and return the answer; see `Dispatcher.call`.

        Raises:
            BundleError: The bundle's files have changed; the server looks at them now.
        """
        try:
            return await self.pool.call(make, seconds, priority)
        except BundleError:
            self._suspicion.set()
            raise

    def forget(self, name: str) -> None:
        """Free the memory that workers use for the bundle of a model."""
        self._forget(bundle_ref(self.repository.model(name).bundle))

    def _forget_gone(self, refs: Sequence[BundleRef]) -> None:
        """Free the memory for bundles that are no longer served; one may have come back meanwhile."""
        served = {bundle.fingerprint for bundle in self.repository.snapshot.bundles.values()}
        for ref in refs:
            if ref.fingerprint not in served:
                self._forget(ref)

    def _forget(self, ref: BundleRef) -> None:
        self.pool.broadcast(lambda number: Forget(number, ref))

    def must_take_work(self) -> None:
        """Refuse a request that needs a worker when the server is ending.

        Raises:
            Busy: The server is ending.
        """
        if self.draining.is_set():
            raise Busy("the server is ending", todo="Try again in a moment.")

    def drain(self) -> None:
        """Begin to end: refuse new work, fail unfinished jobs, end event streams; calls that were accepted are finished."""
        self.draining.set()
        self._first_scan_ended.set()  # requests that wait for it are refused
        self.jobs.end_all()

    def refuse_calls(self) -> None:
        """Refuse the calls that have no answer yet: the time of `drain_s` is over."""
        self.pool.refuse_all()

    async def stop(self) -> None:
        """End the workers."""
        self.drain()
        if self._opening is not None:
            self._opening.cancel()
        await asyncio.gather(self.trainings.close(), self.pool.stop())


def _worker_configs(config: ServiceConfig) -> list[WorkerConfig]:
    """Return the configuration of each worker.

    Raises:
        UsageError: There is no such engine.
    """
    url = engine_url(config.engine)
    return [
        WorkerConfig(
            device=device,
            threads=config.threads,
            engines=config.limits.engines,
            keep_bytes=config.limits.keep_bytes,
            niceness=config.niceness,
            url=url,
        )
        for device in config.devices
    ]
