"""One part of `bench gpu`: what it checks or measures, and what came out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from stimcore.methods.table import METHODS


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much the parts compute.

    Attributes:
        methods: Training methods whose loss curves are compared.
        specs: Sub-networks of each committed experiment whose counts are compared.
        images: Evaluation images of these comparisons.
        experiments: Folders of committed experiments.
        networks: Networks whose steps are timed -> side of their images in pixels.
        batch_size: Images per step of these.
        rounds: Steps of every variant that count.
        sweep_images: Evaluation images of the timed sweep.
        requests: Requests of every kind to the server.
        epoch_images: Training images of the timed epoch.
        compiled: Sub-networks that `torch.compile` compiles.
    """

    methods: Sequence[str]
    specs: int
    images: int
    experiments: Sequence[str]
    networks: Mapping[str, int]
    batch_size: int
    rounds: int
    sweep_images: int
    requests: int
    epoch_images: int
    compiled: int


FULL = Sizes(
    methods=tuple(METHODS),
    specs=30,
    images=10_000,
    experiments=(),
    networks={"resnet20": 32, "mobilenetv3": 32, "resnet50": 224},
    batch_size=128,
    rounds=20,
    sweep_images=10_000,
    requests=50,
    epoch_images=50_000,
    compiled=3,
)
QUICK = Sizes(
    methods=("stimulative",),
    specs=3,
    images=100,
    experiments=(),
    networks={"resnet20": 8},
    batch_size=4,
    rounds=1,
    sweep_images=16,
    requests=2,
    epoch_images=64,
    compiled=0,
)
"""Sizes with which the parts run on a processor within seconds, to see that they work."""


@dataclass(frozen=True)
class Outcome:
    """What a part found.

    Attributes:
        passed: Whether what it checks is right; None for a part that only measures.
        figures: Name -> number.
        detail: What a reader needs besides, in one sentence.
    """

    passed: bool | None
    figures: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as plain JSON types."""
        return {"passed": self.passed, "figures": dict(self.figures), "detail": self.detail}


@dataclass(frozen=True)
class Part:
    """A part of the run.

    Attributes:
        name: Short and stable name.
        title: What it checks or measures, as a row of the table.
        work: Does it.
    """

    name: str
    title: str
    work: Callable[[torch.device, Sizes], Outcome]
