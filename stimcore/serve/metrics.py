"""What Prometheus reads at `/metrics`. Labels are of bounded number and hold nothing of a user's."""

from collections import Counter as Counts
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from stimcore.serve.service import Service

OTHER = "other"
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """All metrics of one server.

    Args:
        model_labels: Different names of models; further ones count as `other`.
    """

    def __init__(self, model_labels: int) -> None:
        self.model_labels = model_labels
        self._models: set[str] = set()
        self._allowed: frozenset[str] = frozenset()
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("stim_requests", "Requests by route and status.", ["route", "status"], registry=own)
        self.seconds = Histogram("stim_request_seconds", "Time to answer.", ["route"], buckets=BUCKETS, registry=own)
        self.refused = Counter("stim_refused", "Requests that were refused, by code.", ["code"], registry=own)
        self.inferences = Counter("stim_inferences", "Inferences by model and result.", ["model", "result"], registry=own)
        self.images = Counter("stim_inference_images", "Images inferred, by model.", ["model"], registry=own)
        self.infer_seconds = Histogram("stim_inference_seconds", "Inference, waiting included.", buckets=BUCKETS, registry=own)
        self.waiting = Gauge("stim_waiting_calls", "Calls that no worker has yet.", registry=own)
        self.at_workers = Gauge("stim_calls_at_workers", "Calls that a worker has and did not answer yet.", registry=own)
        self.jobs = Gauge("stim_jobs", "Evaluations that are remembered, by state.", ["state"], registry=own)
        self.known = Gauge("stim_known_results", "Measured results that are remembered.", registry=own)
        self.known_hits = Gauge("stim_known_hits", "Evaluations that were answered without measuring.", registry=own)
        self.streams = Gauge("stim_streams", "Open event streams.", registry=own)
        self.restarts = Gauge("stim_worker_restarts", "Workers that ended and were replaced.", registry=own)
        self.caches = Gauge("stim_engine_cache", "What engines keep: bytes, hits, misses.", ["cache", "what"], registry=own)
        self.ready = Gauge("stim_ready", "1 when the server takes work.", registry=own)

    def allow_models(self, names: Iterable[str]) -> None:
        """Names that may become labels: those that are served."""
        self._allowed = frozenset(names)

    def model(self, name: str) -> str:
        """The label of a model: its name while there is room and it is served, else `other`."""
        if name in self._models:
            return name
        if name not in self._allowed or len(self._models) >= self.model_labels:
            return OTHER
        self._models.add(name)
        return name

    def text(self, server: "Service") -> bytes:
        """The exposition, with the gauges as they are now."""
        self.waiting.set(server.pool.waiting)
        self.at_workers.set(sum(len(worker.calls) for worker in server.pool.workers))
        for state in ("queued", "running", "done", "failed", "cancelled", "dropped"):
            self.jobs.labels(state).set(sum(job.state == state for job in server.jobs.all()))
        self.known.set(len(server.results))
        self.known_hits.set(server.results.hits)
        self.streams.set(sum(len(job.streams) for job in server.jobs.all()))
        self.restarts.set(server.pool.restarts)
        kept: Counts[str] = Counts()
        for worker in server.pool.workers:
            kept.update(worker.caches)
        for name, value in kept.items():
            self.caches.labels(*name.rsplit("_", 1)).set(value)
        self.ready.set(server.ready)
        return generate_latest(self.registry)
