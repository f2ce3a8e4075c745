"""What every engine offers: the interface of the local and of the remote engine, and its reports."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stimcore.analysis.result import Result
from stimcore.bundle import Bundle
from stimcore.engine.budget import Budget
from stimcore.subnets.spec import Spec

Floats = NDArray[np.float32]
Phase = Literal["calibrate", "evaluate"]


@dataclass(frozen=True)
class Progress:
    """A report from a running evaluation.

    Attributes:
        phase: `calibrate` while statistics are measured, then `evaluate`.
        images: Calibration or evaluation images done so far.
        images_total: Images of this phase.
        results: Spec -> result on the images so far, the main network included; empty while calibrating.
        hits: Spec -> bool `[images]`, set for images that were classified correctly; only in the last report, and only where
            the evaluation was asked to collect them.
        logits: Spec -> float32 `[n, K]` on the images whose logits were asked for; only in the last report.
        provider: onnxruntime's name of the provider that ran the networks, where it is another one than the engine's.
        note: What the reader has to know about how the numbers came about, in one sentence; empty when there is nothing.
    """

    phase: Phase
    images: int
    images_total: int
    results: Mapping[Spec, Result] = field(default_factory=dict)
    hits: Mapping[Spec, NDArray[np.bool_]] = field(default_factory=dict)
    logits: Mapping[Spec, Floats] = field(default_factory=dict)
    provider: str = ""
    note: str = ""

    @property
    def done(self) -> bool:
        """Whether every image was evaluated."""
        return self.phase == "evaluate" and self.images == self.images_total


class InferenceEngine(Protocol):
    """Runs the sub-networks of one bundle, in this process (`Engine`) or on another server (`RemoteEngine`).

    An engine that keeps nothing between calls returns no metrics, and its `prepare`, `warm_up` and `resize_caches` do nothing.
    """

    @property
    def bundle(self) -> Bundle:
        """The bundle whose sub-networks run."""

    def evaluate(
        self,
        specs: Sequence[Spec],
        *,
        recalibrate: bool = True,
        chunk_images: int = 1000,
        should_stop: Callable[[], bool] | None = None,
        max_images: int | None = None,
    ) -> Iterator[Progress]:
        """Evaluate specs and the main network on the bundle's evaluation images; yield a report after every chunk.

        Args:
            specs: Sub-networks of this bundle.
            recalibrate: Re-calibrate the batch norms of each sub-network; otherwise all run on the trained statistics.
            chunk_images: Images between two reports.
            should_stop: Called between runs; the evaluation ends early when it returns True.
            max_images: Evaluate only the first images; all when None.

        Raises:
            SpecError: The engine can't run one of the sub-networks.
        """

    def logits(self, spec: Spec, images: Floats, *, recalibrate: bool = True) -> Floats:
        """Return logits `[B, K]` of normalised images `[B, C, H, W]`.

        Raises:
            SpecError: The engine can't run the sub-network.
        """

    def prepare(self, specs: Sequence[Spec], should_stop: Callable[[], bool], /) -> None:
        """Re-calibrate sub-networks together, so that the first `logits` of each needs no pass over the images of its own.

        Prefixes that they share are measured once. It ends early when `should_stop` returns True; `logits` then does the rest.

        Args:
            specs: Sub-networks of this bundle.
            should_stop: Called between runs.

        Raises:
            SpecError: The engine can't run one of the sub-networks.
        """

    def standalone(self, spec: Spec) -> bytes:
        """Return a self-contained ONNX file of a sub-network, with input `images` and output `logits`.

        Raises:
            SpecError: The network has no such sub-network.
        """

    def warm_up(self, should_stop: Callable[[], bool], /) -> None:
        """Fill the caches with what the first edit of the main network reads; end early when `should_stop` returns True."""

    def metrics(self) -> Mapping[str, float]:
        """Return bytes, hits and misses of the caches."""

    def resize_caches(self, budget: Budget, /) -> None:
        """Bound the caches by another budget from now on, and drop what exceeds it."""
