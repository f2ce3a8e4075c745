"""Messages between the front process and a worker process, and their framing on a pipe.

A message has its length in front. It is a pickle, before which its large arrays stand as they are (out-of-band buffers of
pickle's protocol 5): the images of a request are neither copied into the pickle nor out of it. Pickle is safe here: both ends
are processes of this server, and no byte that a client sent is ever unpickled.

A worker answers three kinds of messages:

- a `Call` gets one `Answer` or `CallFailure`, as soon as possible; `Abandon` reports that nobody waits for it any more;
- a job is a dialogue: `Begin` opens it, and every `Advance` gets one `Report` or `JobFailure`, until the front sends `Drop`.
  The front keeps the initiative, so that between two reports it can give the worker to a job that somebody waits for;
- a `Warmup` is done when there is nothing else to do, and answered by `WarmupDone`.

A `Ping` is answered by `Pong` at once, whatever else the worker does.
"""

import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stimcore.engine.inference import Floats, Progress
from stimcore.errors import StimcoreError
from stimcore.serve.repository.models import BundleRef
from stimcore.subnets.spec import Spec

HEAD = struct.Struct(">Q")
"""The length of a message in bytes, sent before it."""
LARGE_BYTES = 64 << 10
"""Arrays from this size on stand beside the pickle; copying smaller ones is cheaper than a further write."""
Part = bytes | memoryview
_COUNT = struct.Struct("=Q")
"""A number in a message: how many arrays stand beside its pickle, and the bytes of each of them."""


@dataclass(frozen=True)
class Call:
    """A request that is answered once, by `Answer` or `CallFailure`; calls go before jobs.

    Attributes:
        id: Number of the call.
        bundle: The bundle it concerns.
        traceparent: Trace that the request belongs to (W3C Trace Context); empty where it belongs to none.
    """

    id: int
    bundle: BundleRef
    traceparent: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Infer(Call):
    """Run a sub-network on images.

    The answer is a pair: the logits, float32 `[B, K]`, and the nanoseconds that they took.

    Attributes:
        spec: The sub-network.
        recalibrate: Whether its batch norms are re-calibrated.
        images: Normalised images, float32 `[B, C, H, W]`, contiguous.
    """

    spec: Spec
    recalibrate: bool
    images: Floats


@dataclass(frozen=True)
class Classify(Call):
    """Run several sub-networks on one image.

    The answer is a pair: the image as the networks saw it, as PNG, and a list of `(spec, probabilities)`.

    Attributes:
        specs: The sub-networks.
        index: Number of an evaluation image; None when `image` is given.
        image: A PNG or JPEG file; None when `index` is given.
        max_pixels: Larger images are refused before they are decoded.
    """

    specs: Sequence[Spec]
    index: int | None
    image: bytes | None
    max_pixels: int


@dataclass(frozen=True)
class AnswerImages(Call):
    """Run a sub-network on some of the evaluation images; the answer is `stimcore.bundle.Answers`.

    Attributes:
        spec: The sub-network.
        recalibrate: Whether its batch norms are re-calibrated.
        images: Numbers of evaluation images.
    """

    spec: Spec
    recalibrate: bool
    images: Sequence[int]


@dataclass(frozen=True)
class Standalone(Call):
    """Compose a self-contained ONNX file of a sub-network and check it; the answer is its bytes.

    Attributes:
        spec: The sub-network.
    """

    spec: Spec


@dataclass(frozen=True)
class Forget(Call):
    """Close the engine of the bundle and free its memory; the answer is None."""


@dataclass(frozen=True)
class Abandon:
    """Nobody waits for a call any more: it is left out, or ended where that is possible. It is answered all the same."""

    id: int


@dataclass(frozen=True)
class Ping:
    """Ask whether the worker is alive."""


@dataclass(frozen=True)
class Pong:
    """The answer to `Ping`."""


@dataclass(frozen=True)
class Warmup:
    """Open a bundle and fill its caches while the worker has nothing else to do; answered by `WarmupDone`.

    Attributes:
        bundle: The bundle of the stored results that a client reads.
    """

    bundle: BundleRef


@dataclass(frozen=True)
class WarmupDone:
    """The answer to `Warmup`.

    Attributes:
        caches: See `Report`.
    """

    caches: Mapping[str, float]


@dataclass(frozen=True)
class Begin:
    """Open a job. This message has no answer; the first `Advance` has.

    Attributes:
        id: Number of the job.
        bundle: The bundle.
        specs: Sub-networks to evaluate.
        recalibrate: Whether their batch norms are re-calibrated.
        max_images: Evaluate only the first images; all when None.
        chunk_images: Images between two reports.
    """

    id: int
    bundle: BundleRef
    specs: Sequence[Spec]
    recalibrate: bool
    max_images: int | None
    chunk_images: int


@dataclass(frozen=True)
class Advance:
    """Ask a job for its next `Report`."""

    id: int


@dataclass(frozen=True)
class Drop:
    """End a job, also in the middle of a chunk. This message has no answer; an `Advance` that runs still has."""

    id: int


@dataclass(frozen=True)
class Hello:
    """The first message of a worker: it takes work from now on.

    Attributes:
        provider: onnxruntime's name of the execution provider.
        note: Why that is not a GPU, in one sentence; empty on a GPU.
        versions: Library -> version.
        degraded: Whether there is a GPU that can't be used.
    """

    provider: str
    note: str
    versions: Mapping[str, str]
    degraded: bool = False


@dataclass(frozen=True)
class Answer:
    """The answer to a `Call`."""

    id: int
    value: Any


@dataclass(frozen=True)
class CallFailure:
    """The answer to a `Call` that can't be done, with the reason."""

    id: int
    error: StimcoreError


@dataclass(frozen=True)
class JobFailure:
    """The answer to an `Advance` of a job that can't go on, with the reason; the worker has closed the job."""

    id: int
    error: StimcoreError


@dataclass(frozen=True)
class StartFailure:
    """The only message of a worker that can't start, with the reason. Another process could not start either."""

    error: StimcoreError


@dataclass(frozen=True)
class Report:
    """The answer to `Advance`.

    Attributes:
        id: Number of the job.
        progress: The engine's report; None when the job was dropped before it could give one.
        caches: Bytes, hits and misses of the caches of all engines of this worker together, named as in `Engine.metrics`.
    """

    id: int
    progress: Progress | None
    caches: Mapping[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the worker has closed the job."""
        return self.progress is None or self.progress.done


def pack(message: object) -> list[Part]:
    """Return a message with its length in front, in parts that are sent one after the other.

    There is one part unless the message has large arrays, which are views of their memory.
    """
    arrays: list[memoryview] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < LARGE_BYTES:
            return True  # which keeps it within the pickle
        arrays.append(view)
        return False

    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=is_small)
    sizes = [len(arrays), *(view.nbytes for view in arrays)]
    counts = b"".join(_COUNT.pack(size) for size in sizes)
    head = HEAD.pack(len(counts) + sum(sizes[1:]) + len(body)) + counts
    return [head, *arrays, body] if arrays else [head + body]


def unpack(body: bytes) -> Any:
    """Return the message that `pack` wrote, given its bytes without the length; large arrays are read-only views of them."""
    view = memoryview(body)
    (num_arrays,) = _COUNT.unpack_from(view)
    start = _COUNT.size * (1 + num_arrays)
    arrays = []
    for number in range(num_arrays):
        (size,) = _COUNT.unpack_from(view, _COUNT.size * (1 + number))
        arrays.append(view[start : start + size])
        start += size
    return pickle.loads(view[start:], buffers=arrays)
