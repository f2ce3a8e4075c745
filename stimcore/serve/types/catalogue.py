"""What is served: experiments, their bundles, and the ONNX files and sub-networks of a bundle."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stimcore.serve.types.base import ApiModel, ResultField


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
