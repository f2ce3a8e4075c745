"""What front and worker process say to each other, and how it is framed on a pipe.

Pickle is safe here: both ends are our own processes, and nothing that a client sent is ever unpickled.
"""

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stimcore.errors import StimcoreError

HEAD = struct.Struct(">Q")
"""Before every message: its length in bytes."""


@dataclass(frozen=True)
class BundleRef:
    """Which bundle is meant: its folder, and the hash that its manifest must have."""

    path: str
    fingerprint: str


@dataclass(frozen=True)
class Call:
    """Something that is answered once, soon: goes before evaluations."""

    id: int
    source: BundleRef


@dataclass(frozen=True)
class Infer(Call):
    """Logits of normalised images, float32 `[B, C, H, W]` as bytes. The answer: float32 `[B, K]` as bytes, and nanoseconds."""

    spec: str
    recalibrate: bool
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Classify(Call):
    """Probabilities of one image: an evaluation image by `index`, or `image`, a PNG or JPEG.

    The answer is the image as the networks saw it, as PNG, and per spec a list of probabilities.
    """

    specs: Sequence[str]
    index: int | None
    image: bytes | None
    max_pixels: int


@dataclass(frozen=True)
class Standalone(Call):
    """A self-contained ONNX file, checked against the engine before it is handed out; the answer is its bytes."""

    spec: str


@dataclass(frozen=True)
class Forget(Call):
    """Closes the engine of a bundle; the answer is None."""


@dataclass(frozen=True)
class Warmup:
    """Somebody looks at a bundle: it is opened ahead of the first edit. Whatever else there is to do goes first."""

    source: BundleRef


@dataclass(frozen=True)
class WarmupDone:
    """The answer to `Warmup`.

    Attributes:
        caches: As in `Report`.
    """

    caches: Mapping[str, float]


@dataclass(frozen=True)
class Begin:
    """Opens an evaluation. Not answered; the first `Advance` is."""

    id: int
    source: BundleRef
    specs: Sequence[str]
    recalibrate: bool
    max_images: int | None
    chunk_images: int


@dataclass(frozen=True)
class Advance:
    """Asks an evaluation for its next `Report`."""

    id: int


@dataclass(frozen=True)
class Drop:
    """Ends an evaluation, also in the middle of a chunk. Not answered; a running `Advance` still is."""

    id: int


@dataclass(frozen=True)
class Hello:
    """The worker's first words.

    Attributes:
        provider: onnxruntime's name of what runs networks.
        note: Why that is not a GPU; empty on a GPU.
        versions: ModelRepository -> version.
    """

    provider: str
    note: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """The answer to a `Call`."""

    id: int
    value: Any


@dataclass(frozen=True)
class Refused:
    """A `Call` or an evaluation that can't be done, and why."""

    id: int
    error: StimcoreError


@dataclass(frozen=True)
class Report:
    """The answer to `Advance`.

    Attributes:
        phase: `calibrate`, `evaluate`, or `stopped` when the evaluation was dropped.
        images: Evaluated so far, or steps of calibration.
        images_total: In all.
        results: Spec -> JSON text of its result; empty while calibrating.
        finished: Whether this was the last.
        caches: Sizes and use of what the worker's engines keep, as `Engine.metrics` names them, all together.
    """

    id: int
    phase: str
    images: int
    images_total: int
    results: Mapping[str, bytes]
    finished: bool
    caches: Mapping[str, float] = field(default_factory=dict)


def pack(message: object) -> bytes:
    """A message with its length before it."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(body)) + body


def unpack(body: bytes) -> Any:
    """A message without its length."""
    return pickle.loads(body)
