"""The engines of a worker: one per open bundle, opened on demand, with equal shares of the worker's memory."""

import os
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from stimcore.bundle import Bundle, Experiment, open_bundle
from stimcore.engine.engine import Engine
from stimcore.engine.inference import InferenceEngine
from stimcore.errors import BundleError
from stimcore.serve.repository.models import BundleRef
from stimcore.serve.workers.config import WorkerConfig, engine_token


class EngineCache:
    """Engines of the bundles that were used last. Its methods may be called from several threads.

    Args:
        config: What the worker may use.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._engines: OrderedDict[str, InferenceEngine] = OrderedDict()
        self._closed: Counter[str] = Counter()
        # weak: an experiment goes with the last engine that uses it, or every export that replaces one would leave its images
        self._experiments: weakref.WeakValueDictionary[str, Experiment] = weakref.WeakValueDictionary()

    def open(self, ref: BundleRef) -> InferenceEngine:
        """Return the engine of a bundle; open the bundle first, with all its hashes checked, when it is not open.

        The least recently used engine makes room for a new one. Jobs that still use it keep it alive until they end.

        Raises:
            BundleError: The bundle is broken, or was exported anew.
        """
        with self._lock:
            engine = self._engines.get(ref.fingerprint)
            if engine is None:
                new = self._make(ref)  # before anything is closed: when this fails, the other engines stay
                while len(self._engines) >= self._config.engines:
                    self._close(next(iter(self._engines)))
                engine = self._engines[ref.fingerprint] = new
                self._share_memory()
            self._engines.move_to_end(ref.fingerprint)
            return engine

    def fits(self, ref: BundleRef) -> bool:
        """Return whether a bundle is open, or can be opened without closing another one."""
        with self._lock:
            return ref.fingerprint in self._engines or len(self._engines) < self._config.engines

    def close(self, ref: BundleRef) -> None:
        """Close the engine of a bundle, if it is open, and give its memory to the others."""
        with self._lock:
            if ref.fingerprint in self._engines:
                self._close(ref.fingerprint)
            self._share_memory()

    def metrics(self) -> Mapping[str, float]:
        """Return bytes, hits and misses of the caches of all engines together; the latter two of closed engines, too.

        Hits and misses never become fewer: Prometheus would take that for a restart, and count all that are left a second time.
        """
        with self._lock:
            total = self._closed.copy()
            for engine in self._engines.values():
                total.update(engine.metrics())
        return dict(total)

    def _close(self, fingerprint: str) -> None:
        metrics = self._engines.pop(fingerprint).metrics()
        self._closed.update({name: value for name, value in metrics.items() if not name.endswith("_bytes")})

    def _share_memory(self) -> None:
        for engine in self._engines.values():
            engine.resize_caches(self._config.budget(len(self._engines)))

    def _make(self, ref: BundleRef) -> InferenceEngine:
        bundle = open_bundle(Path(ref.path))
        if bundle.fingerprint != ref.fingerprint:
            raise BundleError(
                f"{ref.path} was exported anew", todo="Ask again in a few seconds, when the server has noticed it."
            )
        bundle = replace(bundle, experiment=self._shared(bundle.experiment))
        if self._config.url is None:
            return self._make_local(bundle)
        # imported here: its HTTP client would double the time that a local worker takes to start
        from stimcore.serve.workers.remote_engine import RemoteEngine

        return RemoteEngine(bundle, self._config.url, lambda: self._make_local(bundle), engine_token(os.environ))

    def _make_local(self, bundle: Bundle) -> Engine:
        # the smallest share at first, so that memory is not exceeded before `_share_memory` has run
        smallest = self._config.budget(self._config.engines)
        return Engine(bundle, device=self._config.device, threads=self._config.threads, budget=smallest)

    def _shared(self, experiment: Experiment) -> Experiment:
        """Return the object that all bundles of an experiment use, so that its images are in memory only once."""
        key = f"{experiment.path} {experiment.sha256}"
        return self._experiments.setdefault(key, experiment)
