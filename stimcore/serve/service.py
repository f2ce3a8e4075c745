"""The server without HTTP: library, results, jobs, pool, and their common life."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stimcore.serve import types
from stimcore.serve.errors import Busy
from stimcore.serve.jobs.queue import JobQueue
from stimcore.serve.jobs.result_cache import ResultCache
from stimcore.serve.limits import Limits
from stimcore.serve.metrics import Metrics
from stimcore.serve.repository.repository import ModelRepository, Snapshot, bundle_ref
from stimcore.serve.workers.messages import Forget
from stimcore.serve.workers.pool import Pool

log = logging.getLogger("stimcore.serve")


class Service:
    """Everything that one front process holds.

    Args:
        folder: `exported`.
        runs: Folder of run folders.
        devices: One worker each.
        threads: Inside one operator.
        limits: Bounds.
        token: That requests must carry; None on loopback.
        engine: `onnxruntime`, or `triton://HOST:PORT`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        runs: Path = Path("runs"),
        devices: Sequence[str] = ("auto",),
        threads: int = 1,
        limits: Limits | None = None,
        token: str | None = None,
        engine: str = "onnxruntime",
    ) -> None:
        self.limits, self.token = limits or Limits(), token
        self.repository = ModelRepository(folder, runs)
        self.results = ResultCache(self.limits.known_results)
        self.metrics = Metrics(self.limits.model_labels)
        self.jobs = JobQueue(self.repository, self.results, self.limits, lambda: self.provider)
        self.pool = Pool(devices, threads, self.jobs, self.limits, engine)
        self.draining = asyncio.Event()
        self.unloaded: set[str] = set()
        self.looked = False
        self._looking = asyncio.Lock()

    @property
    def provider(self) -> str:
        """onnxruntime's name of what runs networks; empty while no worker is up."""
        return self.pool.hello.provider if self.pool.hello else ""

    @property
    def ready(self) -> bool:
        """Whether it takes work."""
        return self.looked and self.pool.ready and not self.draining.is_set()

    def status(self) -> types.Status:
        """The server itself."""
        hello = self.pool.hello
        return types.Status(
            ready=self.ready,
            provider=self.provider,
            provider_note=hello.note if hello else "",
            versions=dict(hello.versions) if hello else {"numpy": np.__version__},
        )

    async def start(self) -> None:
        """Opens the bundles and starts the workers, which come up meanwhile. Returns early when the server is to end."""
        self.pool.start()
        looking, ending = asyncio.create_task(self.rescan()), asyncio.create_task(self.draining.wait())
        await asyncio.wait((looking, ending), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if looking.done():
            looking.result()
        else:
            looking.cancel()

    async def rescan(self) -> types.Catalogue:
        """Looks at the folder again; requests that are being answered keep what they began with."""
        async with self._looking:
            before = {bundle.fingerprint for bundle in self.repository.snapshot.bundles.values()}
            snapshot = await self._look()
            self.repository.put(snapshot)
            self.results.put_stored(snapshot.bundles.values())
            self.metrics.allow_models(snapshot.models)
            self.unloaded &= set(snapshot.models)
            now = {bundle.fingerprint: bundle for bundle in snapshot.bundles.values()}
            log.info(
                "looked",
                extra={"fields": {"bundles": len(now), "new": len(set(now) - before), "gone": len(before - set(now))}},
            )
            for problem in snapshot.problems:
                log.warning("problem", extra={"fields": {"path": problem.path, "message": problem.message}})
        self.looked = True
        return snapshot.catalogue

    async def _look(self) -> Snapshot:
        """Hashes in a thread of its own, for which the end of this process does not wait."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Snapshot] = loop.create_future()

        def tell(how: Callable[[Any], None], what: object) -> None:
            if not found.done():
                how(what)

        def look() -> None:
            try:
                outcome: tuple[Callable[[Any], None], object] = (found.set_result, self.repository.look())
            except Exception as reason:  # whatever it is, whoever asked is told
                outcome = (found.set_exception, reason)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(tell, *outcome)

        threading.Thread(target=look, name="look", daemon=True).start()
        return await found

    def forget(self, name: str) -> None:
        """Frees what workers hold of a bundle."""
        source = bundle_ref(self.repository.model(name).bundle)
        self.pool.tell_all(lambda number: Forget(number, source))

    def must_take_work(self) -> None:
        """Before anything that a worker has to do.

        Raises:
            Busy: The server is ending.
        """
        if self.draining.is_set():
            raise Busy("the server is ending", todo="Try again in a moment.")

    def drain(self) -> None:
        """No new work; streams end; what is in flight is finished."""
        self.draining.set()
        self.jobs.end_all()

    async def stop(self) -> None:
        """Ends the workers."""
        self.drain()
        await self.pool.stop()
