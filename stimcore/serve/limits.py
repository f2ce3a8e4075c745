"""Every bound of the server, with its default, in one place; `--limit NAME=VALUE` sets one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from stimcore.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds. Names that end in `_s` are seconds, in `_bytes` bytes.

    Attributes:
        connections: Open connections; one more is closed at once.
        header_s: For the whole head of a request.
        body_s: For the whole body of a request.
        write_s: That a reader may leave the server waiting.
        keep_alive_s: That an idle connection is kept.
        body_bytes: Of a request, after decompression.
        chunks: Pieces in which a body may arrive.
        json_bytes: Of the JSON part of a request; larger tensors travel as binary.
        json_depth: Brackets within brackets.
        batch: Images in one inference.
        calls: Inferences, classifications and downloads that wait, of each priority.
        call_s: For an inference or a classification, waiting and a first re-calibration included.
        download_s: For a stand-alone network, waiting included.
        jobs: Evaluations that wait or run.
        jobs_per_client: Of these, those of one client.
        specs: Sub-networks in one evaluation.
        job_s: That an evaluation may take in all.
        lease_s: How long a poll counts as watching.
        finished_jobs: Finished evaluations that are remembered.
        known_results: Measured results that are remembered.
        streams: Open event streams.
        heartbeat_s: Silence in an event stream before a comment is sent.
        samples: Images in one answer.
        image_bytes: Of an image to classify.
        image_pixels: Of an image to classify.
        classify_specs: Sub-networks in one classification.
        engines: Bundles that a worker keeps open.
        keep_bytes: Of statistics, activations and sessions that a worker keeps for them.
        start_s: For a worker to start.
        silence_s: Of a worker at work before it is ended and replaced.
        crashes: Of workers within `crash_window_s`; with more, the server is not ready.
        crash_window_s: See `crashes`.
        drain_s: For requests in flight when the server ends.
        model_labels: Different model names in metrics; the others count as `other`.
    """

    connections: int = 512
    header_s: float = 10
    body_s: float = 60
    write_s: float = 30
    keep_alive_s: float = 20
    body_bytes: int = 64 << 20
    chunks: int = 65_536
    json_bytes: int = 1 << 20
    json_depth: int = 100
    batch: int = 1024
    calls: int = 64
    call_s: float = 30
    download_s: float = 120
    jobs: int = 32
    jobs_per_client: int = 8
    specs: int = 5832
    job_s: float = 1800
    lease_s: float = 10
    finished_jobs: int = 256
    known_results: int = 50_000
    streams: int = 64
    heartbeat_s: float = 15
    samples: int = 64
    image_bytes: int = 2_000_000
    image_pixels: int = 20_000_000
    classify_specs: int = 64
    engines: int = 6
    keep_bytes: int = 6 << 30
    start_s: float = 120
    silence_s: float = 300
    crashes: int = 3
    crash_window_s: float = 60
    drain_s: float = 8
    model_labels: int = 200

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not value > 0:
                raise UsageError(f"limit {item.name}={value}", allowed="more than 0")

    def with_texts(self, texts: Sequence[str]) -> "Limits":
        """These limits with some of them as `NAME=VALUE` says.

        Raises:
            UsageError: An unknown name, or a value that is no number above 0.
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
                raise UsageError(f"limit {name}={value}", allowed="a number above 0") from reason
        return replace(self, **changes)  # type: ignore[arg-type]  # each value has its field's type
