"""Types of the HTTP API: what server and client send each other, as frozen pydantic models that forbid unknown keys.

This is the only definition of the JSON under /v1; server and client both import it. It knows no HTTP: paths and statuses are
in `http/v1.py` and `client/client.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, PlainValidator, WithJsonSchema

from stimcore.analysis.result import Result
from stimcore.errors import SpecError
from stimcore.serve.limits import Limits

JobState = Literal["queued", "running", "done", "failed", "cancelled", "dropped"]
"""`cancelled`: by a client; `dropped`: because no client watched the job any more."""
JobPhase = Literal["queued", "calibrate", "evaluate", "done"]
"""What a job does at the moment."""
JobSource = Literal["stored", "cached", "measured"]
"""Where results come from: the bundle, an earlier job of this server, or this job."""

RESULT_SCHEMA: dict[str, Any] = {
    "title": "Result",
    "description": "Counts of one sub-network, compared with its main network on the same images.",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "spec": {"title": "Spec", "type": "string"},
        "correct": {"title": "Correct", "type": "integer"},
        "images": {"title": "Images", "type": "integer"},
        "accuracy_pct": {"title": "Accuracy Pct", "type": "number"},
        **{
            name: {
                "title": title,
                "type": "array",
                "prefixItems": [{"type": "number"}, {"type": "number"}],
                "minItems": 2,
                "maxItems": 2,
            }
            for name, title in (("interval_pct", "Interval Pct"), ("drop_interval_pct", "Drop Interval Pct"))
        },
        "drop_pct": {"title": "Drop Pct", "type": "number"},
        **{
            name: {"title": title, "anyOf": [{"type": "number"}, {"type": "null"}]}
            for name, title in (("ce_nats", "Ce Nats"), ("kl_nats", "Kl Nats"), ("max_ce_nats", "Max Ce Nats"))
        },
    },
    "required": ["spec", "correct", "images", "accuracy_pct", "interval_pct", "drop_pct", "drop_interval_pct"],
}
"""JSON schema of `Result.to_dict`, for the OpenAPI document."""


def _parse_result(value: object) -> Result:
    """Return a result from its JSON form; pydantic reports only a ValueError as an invalid value."""
    if isinstance(value, Result):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"a result is an object, not {type(value).__name__}")
    try:
        return Result.from_dict(value)
    except SpecError as reason:
        raise ValueError(str(reason)) from reason


ResultField = Annotated[Result, PlainValidator(_parse_result), PlainSerializer(Result.to_dict), WithJsonSchema(RESULT_SCHEMA)]
"""A `Result` as a field of a model: read by `Result.from_dict`, written by `Result.to_dict`."""


class ApiModel(BaseModel):
    """Base of all types of the API: immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodInfo(ApiModel):
    """Description of one bundle.

    Attributes:
        name: Name of the bundle's folder; requests address the bundle by it.
        method: Training method; `imported` for converted weights.
        label: `reduced recipe`, `paper` or `imported weights`.
        spec: For a twin, the sub-network that was trained alone, as a spec in the experiment's long form; None for a whole
            network.
        topology: Topology of this network, as `stimcore.subnets.topology.Topology.to_dict`; a twin's is smaller than the
            experiment's.
        seed: Seed of the run.
        recipe: Recipe of the run as plain values.
        options: Options of the training method.
        machine: Machine on which the network was trained.
        fingerprint: sha256 of the bundle's manifest; results belong to it.
        main: Result of the main network on all evaluation images. Its cross entropy is None where no sweep is stored.
        parameters: Parameters of the main network.
        macs: Multiply-accumulate operations of the main network for one image.
        num_networks: Number of listed ONNX files.
        sweeps: Families whose accuracies are stored in the bundle.
        hits: Whether the bundle stores which images its sub-networks classify correctly.
        batch_norms: Whether the network has batch norms, which are re-calibrated for every sub-network.
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
    main: ResultField
    parameters: int
    macs: int
    num_networks: int
    sweeps: Sequence[str]
    hits: bool = False
    batch_norms: bool = True


class ExperimentInfo(ApiModel):
    """Description of an experiment: what its methods share, and the methods.

    Attributes:
        name: Name of the experiment.
        dataset: Name of the data set.
        licence: Licence of the data set.
        classes: Names of the classes, in the order of the logits.
        image_shape: `[C, H, W]` that the networks take.
        mean: Mean per channel of pixels scaled to [0, 1]; networks take `(pixels / 255 - mean) / std`.
        std: Standard deviation per channel, of the same pixels.
        preprocessing: The steps from a picture to the networks' input, as `stimcore.data.preprocessing.Preprocessing.to_dict`.
        topology: Topology of the experiment's network, as `stimcore.subnets.topology.Topology.to_dict`.
        evaluation_images: Number of images behind every accuracy.
        calibration_images: Number of images for re-calibration.
        methods: Whole networks first (common, stimulative, then by name), then twins.
    """

    name: str
    dataset: str
    licence: str
    classes: Sequence[str]
    image_shape: tuple[int, int, int]
    mean: Sequence[float]
    std: Sequence[float]
    preprocessing: Mapping[str, Any]
    topology: Mapping[str, Any]
    evaluation_images: int
    calibration_images: int
    methods: Sequence[MethodInfo]


class Problem(ApiModel):
    """A folder that could not be opened as a bundle.

    Attributes:
        path: `EXPERIMENT/METHOD`.
        message: The reason, in one sentence.
    """

    path: str
    message: str


class Catalogue(ApiModel):
    """All experiments that the server has open, and the folders that it could not open.

    Attributes:
        experiments: Experiments with at least one bundle.
        problems: Folders that could not be opened.
    """

    experiments: Sequence[ExperimentInfo]
    problems: Sequence[Problem]


class SpecCheck(ApiModel):
    """Answer to the question whether a text names a sub-network.

    Attributes:
        valid: Whether it names one.
        reason: Why it does not, in one sentence; empty when valid.
        spec: Long form of the spec; empty when invalid.
        short: Short form, `d2-3-4`, where the spec has one.
        kind: `main`, `ordered`, `delete`, `permute` or `delete+permute`; empty when invalid.
    """

    valid: bool
    reason: str = ""
    spec: str = ""
    short: str = ""
    kind: str = ""


def _check_texts(value: object) -> object:
    """Refuse a list at its first item that is not a text: pydantic's errors of a megabyte of them take 350 MB."""
    if isinstance(value, list | tuple):
        for position, item in enumerate(value):
            if not isinstance(item, str):
                raise ValueError(f"item {position} is no text")
    return value


SpecTexts = Annotated[Sequence[str], BeforeValidator(_check_texts)]
"""Specs as a client wrote them, in any form of the spec grammar."""


class JobRequest(ApiModel):
    """Request to evaluate sub-networks of one bundle.

    Attributes:
        experiment: Name of the experiment.
        method: Name of the bundle.
        specs: Sub-networks, in any form of the spec grammar, in the bundle's topology.
        recalibrate: Whether batch norms are re-calibrated for each sub-network.
        max_images: Evaluate on the first `max_images` images; on all when None.
        fresh: Evaluate even if a stored or cached result exists.
        interactive: Whether the job is scheduled before jobs that are not interactive, such as sweeps.
    """

    experiment: str
    method: str
    specs: SpecTexts
    recalibrate: bool = True
    max_images: int | None = None
    fresh: bool = False
    interactive: bool = True


class JobError(ApiModel):
    """Reason why a job failed.

    Attributes:
        code: Stable code, as in `Refusal`.
        message: One sentence.
    """

    code: str
    message: str


class Job(ApiModel):
    """State of an evaluation job.

    Attributes:
        id: Identifier of the job.
        state: Whether the job waits, runs or has ended, and how it ended.
        request: The request, with its specs in long form.
        phase: `queued`, `calibrate`, `evaluate` or `done`.
        images: Number of images that were evaluated so far.
        images_total: Number of images that the job evaluates.
        main: Result of the main network on the same images; None before the first chunk.
        results: Results in the order of the request's specs; empty before the first chunk.
        source: `stored` (in the bundle), `cached` (measured by this server before) or `measured`.
        provider: onnxruntime's name of the execution provider that runs the networks, or that ran them when the results were
            stored; empty while the job is queued.
        note: What the reader has to know about how the numbers came about, in one sentence: that the GPU could not run the job,
            for instance. Empty when there is nothing.
        error: Why the job failed; None unless `state` is `failed`.
        fingerprint: Fingerprint of the bundle that the results belong to, as in `MethodInfo`; empty when an older server sends
            the job.
    """

    id: str
    state: JobState
    request: JobRequest
    phase: JobPhase
    images: int
    images_total: int
    main: ResultField | None
    results: Sequence[ResultField]
    source: JobSource
    provider: str
    note: str = ""
    error: JobError | None = None
    fingerprint: str = ""


class JobLine(ApiModel):
    """An entry in the list of jobs: a `Job` without its specs and results.

    Attributes:
        id: Identifier of the job.
        state: As in `Job`.
        experiment: Name of the experiment.
        method: Name of the bundle.
        num_specs: Number of sub-networks.
        images: Number of images that were evaluated so far.
        images_total: Number of images that the job evaluates.
    """

    id: str
    state: JobState
    experiment: str
    method: str
    num_specs: int
    images: int
    images_total: int


class Event(ApiModel):
    """One server-sent event of a job.

    Attributes:
        id: Grows along the stream. A client that reconnects sends the last one that it received as `Last-Event-ID`.
        type: `progress` (with phase, images, images_total), `result` (with images, images_total, main, results: all results so
            far, which replace those of earlier events), `error` (with code, message) or `done` (with state, source), the last.
        data: The values listed above, as in `Job`.
    """

    id: int
    type: Literal["progress", "result", "error", "done"]
    data: Mapping[str, Any]


class Refusal(ApiModel):
    """Body of every response with a status of 400 or more.

    Attributes:
        error: Why the request was refused, in one sentence.
        code: Stable code; `stimcore.serve.errors.STATUS` lists all.
    """

    error: str
    code: str


class Status(ApiModel):
    """State of the server, and the limits that a client needs to know before it sends an image.

    Attributes:
        ready: Whether the server accepts work.
        provider: onnxruntime's name of the execution provider that runs the networks; empty while no worker runs.
        provider_note: Why the provider is not a GPU, in one sentence; empty on a GPU.
        versions: Library -> version.
        image_bytes: Largest file, in bytes, that `classify` accepts as an image (limit `image_bytes`).
        image_pixels: Most pixels, width times height, of an image that `classify` accepts (limit `image_pixels`).
    """

    ready: bool
    provider: str
    provider_note: str
    versions: Mapping[str, str]
    image_bytes: int = Limits.image_bytes
    image_pixels: int = Limits.image_pixels


class NetworkInfo(ApiModel):
    """Description of one listed ONNX file: its `stimcore.bundle.FileEntry`, its name and its latencies.

    Attributes:
        file: Name of the file in the bundle's folder.
        sha256: Hash of the file.
        bytes: Size of the file.
        spec: Long form of the sub-network that the file holds.
        accuracy_pct: Accuracy on all evaluation images in onnxruntime, in [0, 100].
        correct: Number of images that onnxruntime classified correctly.
        correct_torch: Number of images that torch classified correctly; null where it ran on a part of them.
        parity: Largest difference between the logits of torch and onnxruntime, divided by the largest logit.
        agreement: Fraction of images for which both predict the same class, in [0, 1].
        checked_images: Number of evaluation images on which torch and onnxruntime were compared.
        check: `all` when these are all evaluation images, `sampled` when they are a part of them.
        parameters: Number of parameters.
        macs: Multiply-accumulate operations for one image.
        latency_ms: `batch1_p50`, `batch1_p95`, `batch32_p50` and `batch32_p95` in milliseconds; empty where latencies were not
            measured.
    """

    file: str
    sha256: str
    bytes: int
    spec: str
    accuracy_pct: float
    correct: int
    correct_torch: int | None
    parity: float
    agreement: float
    checked_images: int
    check: Literal["all", "sampled"]
    parameters: int
    macs: int
    latency_ms: Mapping[str, float]


class Networks(ApiModel):
    """The listed ONNX files of a bundle.

    Attributes:
        networks: One entry per file.
        latency_on: Provider, threads and machine of the latency measurement; empty where latencies were not measured.
    """

    networks: Sequence[NetworkInfo]
    latency_on: Mapping[str, Any]


class Sample(ApiModel):
    """One evaluation image.

    Attributes:
        index: Position among the evaluation images, from 0.
        label: Index of the true class.
        label_name: Name of the true class.
        png_base64: The image as a PNG file in base64.
    """

    index: int
    label: int
    label_name: str
    png_base64: str


class WallAnswers(ApiModel):
    """Answers of one sub-network on the images of the picture wall, in the order of these images.

    Attributes:
        spec: Long form of the sub-network.
        classes: For each image the index of the class with the largest probability.
        confidence: For each image that probability, in [0, 1].
        source: `stored` (in the bundle) or `measured`.
    """

    spec: str
    classes: Sequence[int]
    confidence: Sequence[float]
    source: JobSource


class ClassifyRequest(ApiModel):
    """Request to classify one image with several sub-networks. Exactly one of `index` and `image_base64` is given.

    Attributes:
        method: Name of the bundle.
        specs: Sub-networks, in any form of the spec grammar.
        index: Position of an evaluation image, from 0.
        image_base64: A PNG or JPEG file in base64, within the limits `image_bytes` and `image_pixels` (see `Status`).
    """

    method: str
    specs: SpecTexts
    index: int | None = None
    image_base64: str | None = None


class Classified(ApiModel):
    """Prediction of one sub-network for one image.

    Attributes:
        spec: Long form of the sub-network.
        probabilities: One probability per class, in the order of the experiment's classes.
    """

    spec: str
    probabilities: Sequence[float]


class Classification(ApiModel):
    """Predictions of several sub-networks for one image.

    Attributes:
        png_base64: The image as the networks received it, cropped and scaled, as a PNG file in base64.
        results: One prediction per spec, in the order of the request.
    """

    png_base64: str
    results: Sequence[Classified]


RunState = Literal["", "queued", "training", "exporting", "done", "stopped", "failed"]
"""What a run does: `exporting` includes the measurement of its sub-networks; `stopped` is unfinished, and nobody trains it.
It is empty where an older server does not say."""


class RunInfo(ApiModel):
    """A run folder on the server's machine, finished or in progress, or a training that waits.

    Attributes:
        name: `EXPERIMENT/RUN`.
        method: Training method.
        epochs: Number of epochs of the recipe.
        rows: Records of the finished epochs, from `training.jsonl`.
        active: Whether the run is in progress: unfinished, and written to recently.
        state: What the run does.
        managed: Whether a server made the run on request, so that it can be stopped and continued by request.
        network: Name of the network; empty where it is not known.
        message: Why the run failed, or what it waits for, in one sentence; empty without a reason.
        bundle: `EXPERIMENT/METHOD` of the bundle that a managed run is exported to; empty before that.
    """

    name: str
    method: str
    epochs: int
    rows: Sequence[Mapping[str, Any]]
    active: bool
    state: RunState = ""
    managed: bool = False
    network: str = ""
    message: str = ""
    bundle: str = ""


class RunRequest(ApiModel):
    """Request to train a network and to export it into the served folder.

    Attributes:
        network: Name of the network, as `TrainingOffer` lists it, or another CIFAR ResNet of 6n + 2 layers.
        dataset: Name of the data, as `TrainingOffer` lists it.
        method: Training method.
        epochs: Passes over the training images.
        train_per_class: Training images per class; all of them when None.
        weight: Lambda of stimulative training; the method's default when None.
        seed: Seed of everything random.
    """

    network: str
    dataset: str
    method: str
    epochs: int
    train_per_class: int | None = None
    weight: float | None = None
    seed: int = 0


class RunEvent(ApiModel):
    """One server-sent event of a run.

    Attributes:
        id: Number of finished epochs that the stream has sent. A client that reconnects sends the last one as `Last-Event-ID`.
        type: `state` (with state, message), `epoch` (a record of `RunInfo.rows`) or `done` (with state, message, bundle), the
            last.
        data: The values listed above.
    """

    id: int
    type: Literal["state", "epoch", "done"]
    data: Mapping[str, Any]


class TrainingData(ApiModel):
    """Images that can be trained on.

    Attributes:
        name: Name for `RunRequest.dataset`.
        per_class: Training images of the smallest class.
        num_classes: Number of classes.
        num_test: Test images.
    """

    name: str
    per_class: int
    num_classes: int
    num_test: int = 0


class TrainingOffer(ApiModel):
    """What the server trains on request.

    Attributes:
        allowed: Whether it trains at all.
        reason: Why it doesn't, in one sentence; empty where it does.
        networks: Networks that are suggested, the smallest first.
        methods: Training methods.
        datasets: Data that can be trained on.
        paces: Network -> method -> training images per second: of the last run here, else of one core of an Intel Xeon.
        max_epochs: Most epochs of a run (limit `training_epochs`).
        max_trainings: Most runs that wait or train (limit `trainings`).
    """

    allowed: bool
    reason: str = ""
    networks: Sequence[str] = ()
    methods: Sequence[str] = ()
    datasets: Sequence[TrainingData] = ()
    paces: Mapping[str, Mapping[str, float]] = {}
    max_epochs: int = Limits.training_epochs
    max_trainings: int = Limits.trainings
