"""What travels between server and client, as frozen types that forbid extras; the one definition both sides import.

Knows no HTTP: paths and statuses are in `api.py` and `client.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

JobState = Literal["queued", "running", "done", "failed", "cancelled", "dropped"]
"""`cancelled` by a client; `dropped` because no client watched any more."""


class Wire(BaseModel):
    """Frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Result(Wire):
    """What is known of one sub-network: the keys of `stimcore.analysis.result.Result.to_dict`.

    Attributes:
        spec: Long form.
        correct: Images that were right.
        images: Images seen.
        accuracy_pct: In percent.
        interval_pct: 95%, Wilson.
        drop_pct: Accuracy of the main network minus this one's on the same images, in points.
        drop_interval_pct: 95%, paired.
        ce_nats: Mean cross entropy; None where only the counts are known (a main network of which no sweep is stored).
        kl_nats: Mean KL(main || this); None likewise.
        max_ce_nats: Largest cross entropy of one image; None likewise.
    """

    spec: str
    correct: int
    images: int
    accuracy_pct: float
    interval_pct: tuple[float, float]
    drop_pct: float
    drop_interval_pct: tuple[float, float]
    ce_nats: float | None = None
    kl_nats: float | None = None
    max_ce_nats: float | None = None


class MethodInfo(Wire):
    """One bundle.

    Attributes:
        name: Its folder, and how requests address it.
        method: Training method, `imported` for converted weights.
        label: `reduced recipe`, `paper` or `imported weights`.
        spec: What was trained alone, in the experiment's long form; None for a whole network. A twin.
        topology: Of this network, `stimcore.subnets.topology.Topology.to_dict`; a twin's is smaller than the experiment's.
        seed: Of the run.
        recipe: Plain values.
        options: Of the method.
        machine: Where it was trained.
        fingerprint: sha256 of its manifest: results belong to it.
        main: The main network on all evaluation images.
        parameters: Of the main network.
        macs: Of the main network, for one image.
        num_networks: Listed ONNX files.
        sweeps: Families whose accuracies are stored in the bundle.
    """

    name: str
    method: str
    label: str
    spec: str | None
    topology: Mapping[str, Any]
    seed: int
    recipe: Mapping[str, Any]
    options: Mapping[str, Any]
    machine: Mapping[str, Any]
    fingerprint: str
    main: Result
    parameters: int
    macs: int
    num_networks: int
    sweeps: Sequence[str]


class ExperimentInfo(Wire):
    """What all methods of an experiment share.

    Attributes:
        mean: Per channel, of pixels scaled to [0, 1]: networks take `(pixels / 255 - mean) / std`.
        std: Per channel, likewise.
        topology: `stimcore.subnets.topology.Topology.to_dict`.
        evaluation_images: Images behind every accuracy.
        calibration_images: Images for re-calibration.
        methods: Whole networks first (common, stimulative, then by name), then twins.
    """

    name: str
    dataset: str
    licence: str
    classes: Sequence[str]
    image_shape: tuple[int, int, int]
    mean: Sequence[float]
    std: Sequence[float]
    topology: Mapping[str, Any]
    evaluation_images: int
    calibration_images: int
    methods: Sequence[MethodInfo]


class Problem(Wire):
    """A folder that could not be opened, and why, in one sentence."""

    path: str
    message: str


class Catalogue(Wire):
    """Everything that is served, and what could not be."""

    experiments: Sequence[ExperimentInfo]
    problems: Sequence[Problem]


class SpecCheck(Wire):
    """Whether a text names a sub-network.

    Attributes:
        valid: Whether it does.
        reason: Why not, in one sentence; empty when it does.
        spec: Long form; empty when invalid.
        short: `d2-3-4` where there is one.
        kind: `main`, `ordered`, `delete`, `permute`, `delete+permute`; empty when invalid.
    """

    valid: bool
    reason: str = ""
    spec: str = ""
    short: str = ""
    kind: str = ""


class JobRequest(Wire):
    """An evaluation.

    Attributes:
        experiment: Name.
        method: Name of the bundle.
        specs: In any form that the grammar knows, in the bundle's own topology.
        recalibrate: Re-calibrate batch norms per sub-network.
        max_images: Only the first so many images; all when None.
        fresh: Measure even where a stored or cached result is known.
        interactive: Goes before sweeps.
    """

    experiment: str
    method: str
    specs: Sequence[str]
    recalibrate: bool = True
    max_images: int | None = None
    fresh: bool = False
    interactive: bool = True


class JobError(Wire):
    """Why a job failed: a stable code and a sentence."""

    code: str
    message: str


class Job(Wire):
    """State of an evaluation.

    Attributes:
        phase: `queued`, `calibrate`, `evaluate` or `done`.
        images: Seen so far.
        images_total: In all.
        main: The main network on the same images; None before the first chunk.
        results: In the order of the request's specs; empty before the first chunk.
        source: `stored` (in the bundle), `cached` (measured here before) or `measured`.
        provider: onnxruntime's name of what ran, or ran when it was stored; empty while queued.
    """

    id: str
    state: JobState
    request: JobRequest
    phase: str
    images: int
    images_total: int
    main: Result | None
    results: Sequence[Result]
    source: str
    provider: str
    error: JobError | None = None


class JobLine(Wire):
    """An evaluation in a list: `Job` without its specs and results."""

    id: str
    state: JobState
    experiment: str
    method: str
    num_specs: int
    images: int
    images_total: int


class Event(Wire):
    """One event of an evaluation's stream.

    Attributes:
        id: Grows along the stream; what `Last-Event-ID` carries when a stream is taken up again.
        type: `progress` (phase, images, images_total), `result` (images, images_total, main, results: everything that is
            known so far, in place of what earlier events said), `error` (code, message), `done` (state, source), the last.
        data: The values named above, as in `Job`.
    """

    id: int
    type: Literal["progress", "result", "error", "done"]
    data: Mapping[str, Any]


class Refusal(Wire):
    """Why a request was not answered: every answer with a status of 400 and more.

    Attributes:
        error: One sentence.
        code: Stable; `stimcore.serve.errors.STATUS` lists them.
    """

    error: str
    code: str


class Status(Wire):
    """The server itself.

    Attributes:
        ready: Whether it takes work.
        provider: onnxruntime's name of what runs networks.
        provider_note: Why that is not a GPU, in one sentence; empty on a GPU.
        versions: Library -> version.
    """

    ready: bool
    provider: str
    provider_note: str
    versions: Mapping[str, str]


class NetworkInfo(Wire):
    """One listed ONNX file: the keys of `stimcore.bundle.FileEntry`, its name, and what was measured in time.

    Attributes:
        file: Name in the bundle's folder.
        latency_ms: `{"batch1_p50", "batch1_p95", "batch32_p50", "batch32_p95"}` where it was measured, else empty.
    """

    file: str
    sha256: str
    bytes: int
    spec: str
    accuracy_pct: float
    correct: int
    correct_torch: int
    parity: float
    agreement: float
    parameters: int
    macs: int
    latency_ms: Mapping[str, float]


class Networks(Wire):
    """The listed files of a bundle.

    Attributes:
        latency_on: What the latencies were measured on (provider, threads, machine); empty when they weren't.
    """

    networks: Sequence[NetworkInfo]
    latency_on: Mapping[str, Any]


class Sample(Wire):
    """One evaluation image: its place among them, its class, and a PNG in base64."""

    index: int
    label: int
    label_name: str
    png_base64: str


class ClassifyRequest(Wire):
    """What sub-networks say of one image.

    Attributes:
        index: An evaluation image; or
        image_base64: any PNG or JPEG of at most 2 MB and 20 megapixels; exactly one of both.
        method: Name of the bundle.
        specs: Sub-networks.
    """

    method: str
    specs: Sequence[str]
    index: int | None = None
    image_base64: str | None = None


class Classified(Wire):
    """What one sub-network says: its probabilities in the order of the classes."""

    spec: str
    probabilities: Sequence[float]


class Classification(Wire):
    """What all of them say, and the image as the networks saw it, as a PNG in base64."""

    png_base64: str
    results: Sequence[Classified]


class RunInfo(Wire):
    """A run folder on the server's machine: finished or in progress.

    Attributes:
        name: `EXPERIMENT/RUN`.
        method: Training method.
        epochs: That the recipe asks for.
        rows: Its `training.jsonl`.
        active: Whether it was written to in the last two minutes and isn't finished.
    """

    name: str
    method: str
    epochs: int
    rows: Sequence[Mapping[str, Any]]
    active: bool
