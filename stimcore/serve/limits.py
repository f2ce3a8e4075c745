"""All limits of the server with their defaults; `--limit NAME=VALUE` sets one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

from stimcore.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the server. Names that end in `_s` are seconds, in `_bytes` bytes; the others are counts.

    Attributes:
        connections: Open connections; on a further one, only the health of the server is answered.
        connections_per_address: The same for the connections of one address.
        half_open_per_address: Connections of one address on which no complete request arrived yet; with more, the oldest of
            them is closed.
        header_s: Time for the whole head of a request.
        body_s: Time for the whole body of a request.
        write_s: Time for which the server waits until a client reads more of its response; any progress starts it anew.
        keep_alive_s: Time for which an idle connection stays open.
        body_bytes: Size of a body after decompression.
        in_flight_bytes: Bytes of the bodies of all requests that are not answered yet, and of large responses.
        in_flight_bytes_per_address: The same for the requests of one address.
        chunks: Chunks in which a body may arrive.
        json_bytes: Size of the JSON part of a request; larger tensors are sent as binary data.
        json_depth: Nesting depth of JSON.
        batch: Images in one inference request.
        calls: Waiting inferences, classifications and downloads, counted separately for each priority.
        calls_per_address: Inferences, classifications and downloads of one address that wait or run.
        call_s: Time for an inference or a classification, waiting and a first re-calibration included.
        download_s: Time for the download of a stand-alone network, waiting included.
        jobs: Jobs that wait or run.
        jobs_per_client: Jobs of one client, by the name that it sends, that wait or run.
        jobs_per_address: Jobs of one address that wait or run.
        specs: Sub-networks in one job.
        job_s: Time for a job, waiting included.
        lease_s: Time for which a poll counts as watching a job.
        finished_jobs: Finished jobs that the server remembers.
        known_results: Measured results in the result cache.
        streams: Open event streams.
        streams_per_address: Open event streams of one address.
        heartbeat_s: Time without an event after which a comment is sent on an event stream.
        samples: Images in one answer.
        image_bytes: Size of an image file to classify; `GET /v1/status` reports it.
        image_pixels: Pixels of an image to classify; `GET /v1/status` reports it.
        classify_specs: Sub-networks in one classification.
        engines: Bundles that a worker keeps open.
        keep_bytes: Memory of a worker for statistics, activations and sessions of these bundles.
        worker_bytes: Memory of a worker process in all; one that takes more is ended and replaced.
        start_s: Time for a worker to start.
        hang_s: Time after which a worker that does not answer the question whether it is alive is ended and replaced.
        late_s: Time for which a call may go on in its worker after its deadline; then the worker is ended and replaced.
        silence_s: Time after which a worker that is at work and sends nothing is ended and replaced.
        watch_s: Time between two looks whether the files of bundles have changed.
        crashes: Workers that may end within `crash_window_s`; with more, the server is not ready.
        crash_window_s: Time window of `crashes`.
        drain_s: Time for requests in flight when the server ends.
        model_labels: Different model names in the labels of the metrics; further ones count as `other`.
        trainings: Trainings that wait or run; one runs at a time.
        training_epochs: Epochs of one training.
        training_s: Time for one training, export included and waiting not; then it is stopped and can be continued.
    """

    connections: int = 512
    connections_per_address: int = 256
    half_open_per_address: int = 64
    header_s: float = 10
    body_s: float = 60
    write_s: float = 30
    keep_alive_s: float = 20
    body_bytes: int = 64 << 20
    in_flight_bytes: int = 256 << 20
    in_flight_bytes_per_address: int = 128 << 20
    chunks: int = 65_536
    json_bytes: int = 1 << 20
    json_depth: int = 100
    batch: int = 1024
    calls: int = 64
    calls_per_address: int = 48
    call_s: float = 30
    download_s: float = 120
    jobs: int = 64
    jobs_per_client: int = 8
    jobs_per_address: int = 32
    specs: int = 5832
    job_s: float = 1800
    lease_s: float = 10
    finished_jobs: int = 256
    known_results: int = 50_000
    streams: int = 64
    streams_per_address: int = 48
    heartbeat_s: float = 15
    samples: int = 64
    image_bytes: int = 2_000_000
    image_pixels: int = 20_000_000
    classify_specs: int = 64
    engines: int = 6
    keep_bytes: int = 6 << 30
    worker_bytes: int = 12 << 30
    start_s: float = 120
    hang_s: float = 6
    late_s: float = 30
    silence_s: float = 300
    watch_s: float = 3
    crashes: int = 3
    crash_window_s: float = 60
    drain_s: float = 8
    model_labels: int = 200
    trainings: int = 16
    training_epochs: int = 200
    training_s: float = 43_200

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not 0 < value < math.inf:  # false for NaN, too
                raise UsageError(f"limit {item.name}={value}", allowed=_allowed(item.name))
        for name in ("in_flight_bytes", "in_flight_bytes_per_address"):
            if getattr(self, name) < self.body_bytes:  # a body of the largest size would never be accepted
                raise UsageError(f"limit {name}={getattr(self, name)}", allowed=f"at least body_bytes, {self.body_bytes}")

        if self.worker_bytes <= self.keep_bytes:  # every worker that has filled its caches would be ended
            raise UsageError(f"limit worker_bytes={self.worker_bytes}", allowed=f"more than keep_bytes, {self.keep_bytes}")

    def with_texts(self, texts: Sequence[str]) -> Self:
        """Return these limits with changes that are written as `NAME=VALUE`.

        Raises:
            UsageError: There is no such limit, or the value is not a number above 0, whole unless it is seconds.

        Example:
            >>> Limits().with_texts(["jobs=3", "lease_s=0.5"]) == Limits(jobs=3, lease_s=0.5)
            True
        """
        names = [item.name for item in fields(self)]
        changes: dict[str, float] = {}
        for text in texts:
            name, _, value = text.partition("=")
            if name not in names:
                raise UsageError(f"there is no limit '{name}'", allowed=", ".join(names))
            try:
                changes[name] = float(value) if name.endswith("_s") else int(value)
            except ValueError as reason:
                raise UsageError(f"limit {name}={value[:40]}", allowed=_allowed(name)) from reason
        return replace(self, **changes)  # type: ignore[arg-type]  # each value has the type of its field


def _allowed(name: str) -> str:
    """Return which values a limit may have, in words; `1e9` and `2G` are no digits."""
    return "a finite number above 0" if name.endswith("_s") else "a whole number above 0, in digits"
