"""Metrics for Prometheus, served at `/metrics`. Labels are bounded in number and hold nothing that a user typed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stimcore.serve.types import JobState

OTHER = "other"
"""Label of models that have no label of their name."""
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
"""Upper bounds of the histograms, in seconds."""


@dataclass(frozen=True, kw_only=True)
class GaugeValues:
    """What the gauges show at one moment.

    Attributes:
        waiting_calls: Calls that no worker has yet.
        calls_at_workers: Calls that a worker has and has not answered yet.
        jobs: State -> number of jobs; states without a job may be absent.
        known_results: Measured results in the result cache.
        known_hits: Jobs that were answered without measuring.
        worker_restarts: Workers that ended and were replaced.
        engine_caches: `CACHE_WHAT` -> value, summed over the workers: bytes, hits and misses of what the engines keep.
        ready: Whether the server accepts work.
    """

    waiting_calls: int
    calls_at_workers: int
    jobs: Mapping[JobState, int]
    known_results: int
    known_hits: int
    worker_restarts: int
    engine_caches: Mapping[str, float]
    ready: bool


class Metrics:
    """All metrics of one server.

    Args:
        model_labels: Number of different model names in labels; further models count as `other`.

    Example:
        >>> metrics = Metrics(model_labels=1)
        >>> metrics.allow_models(["tiny.common", "tiny.stimulative"])
        >>> [metrics.model(name) for name in ("tiny.common", "tiny.stimulative", "made-up")]
        ['tiny.common', 'other', 'other']
    """

    def __init__(self, model_labels: int) -> None:
        self.model_labels = model_labels
        self._models: set[str] = set()
        self._allowed: frozenset[str] = frozenset()
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("stim_requests", "Requests by route and status.", ["route", "status"], registry=registry)
        self.seconds = Histogram("stim_request_seconds", "Time to answer.", ["route"], buckets=BUCKETS, registry=registry)
        self.refused = Counter("stim_refused", "Requests that were refused, by code.", ["code"], registry=registry)
        self.inferences = Counter("stim_inferences", "Inferences by model and result.", ["model", "result"], registry=registry)
        self.images = Counter("stim_inference_images", "Images inferred, by model.", ["model"], registry=registry)
        self.infer_seconds = Histogram(
            "stim_inference_seconds", "Inference, waiting included.", buckets=BUCKETS, registry=registry
        )
        self._waiting = Gauge("stim_waiting_calls", "Calls that no worker has yet.", registry=registry)
        self._at_workers = Gauge("stim_calls_at_workers", "Calls that a worker has and did not answer yet.", registry=registry)
        self._jobs = Gauge("stim_jobs", "Evaluations that are remembered, by state.", ["state"], registry=registry)
        self._known_results = Gauge("stim_known_results", "Measured results that are remembered.", registry=registry)
        self._known_hits = Gauge("stim_known_hits", "Evaluations that were answered without measuring.", registry=registry)
        self.streams = Gauge("stim_streams", "Open event streams.", registry=registry)
        self._restarts = Gauge("stim_worker_restarts", "Workers that ended and were replaced.", registry=registry)
        self._caches = Gauge(
            "stim_engine_cache", "What engines keep: bytes, hits, misses.", ["cache", "what"], registry=registry
        )
        self.in_flight_bytes = Gauge(
            "stim_in_flight_bytes", "Bytes of the bodies of requests that are not answered yet.", registry=registry
        )
        self._ready = Gauge("stim_ready", "1 when the server takes work.", registry=registry)

    def allow_models(self, names: Iterable[str]) -> None:
        """Set the names that may become labels: those of the models that are served."""
        self._allowed = frozenset(names)

    def model(self, name: str) -> str:
        """Return the label of a model: its name if it is served and there is room for another label, else `other`.

        A name that once was a label stays one after its model has gone, because Prometheus keeps its counters.
        """
        if name in self._models:
            return name
        if name not in self._allowed or len(self._models) >= self.model_labels:
            return OTHER
        self._models.add(name)
        return name

    def text(self, values: GaugeValues) -> bytes:
        """Return all metrics in Prometheus' text format, with the gauges at `values`."""
        self._waiting.set(values.waiting_calls)
        self._at_workers.set(values.calls_at_workers)
        for state in get_args(JobState):  # states without jobs too: a gauge that is not set keeps its last value
            self._jobs.labels(state).set(values.jobs.get(state, 0))
        self._known_results.set(values.known_results)
        self._known_hits.set(values.known_hits)
        self._restarts.set(values.worker_restarts)
        self._caches.clear()  # or a worker that was replaced, and has opened nothing yet, would show what the one before kept
        for name, value in values.engine_caches.items():
            self._caches.labels(*name.rsplit("_", 1)).set(value)
        self._ready.set(values.ready)
        return generate_latest(self.registry)
