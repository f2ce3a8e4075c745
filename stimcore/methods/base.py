"""What a training method is: something that turns one batch into gradients and named losses.

A method never steps the optimiser, draws no global randomness and keeps no sub-network between steps.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from stimcore.nets.staged import StagedNet

Losses = dict[str, Tensor]
"""Loss name -> detached scalar; `loss` is what was minimised, the others are its parts before weighting."""


@dataclass(frozen=True)
class StepContext:
    """One minibatch of this process, and what a method may use in the step on it.

    Attributes:
        images: `[B, C, H, W]`, normalised.
        labels: `[B]`, int64.
        rng: Seeded by run and global step, so that every rank draws the same sub-network.
        autocast: Gives the context in which forwards run.
        backward: Accumulates the gradients of a scalar (scaled where the precision wants it).
        label_smoothing: In [0, 1); 0 is off.
        smaller: The same crops, resized once from the original images to the sides that the method asked for.
    """

    images: Tensor
    labels: Tensor
    rng: random.Random
    autocast: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)
    backward: Callable[[Tensor], None] = field(default=lambda loss: loss.backward())
    label_smoothing: float = 0.0
    smaller: tuple[Tensor, ...] = ()


class Method(ABC):
    """A training method; each is a frozen dataclass whose fields are its options.

    Attributes:
        compilable: Whether a step still means the same when blocks went through `torch.compile`.
        earlier: Option -> value that runs had before the option existed, where that is not today's default.
    """

    compilable: ClassVar[bool] = True
    earlier: ClassVar[Mapping[str, Any]] = {}

    def auxiliary(self, net: StagedNet) -> nn.Module | None:
        """Heads and adapters that exist in training only, freshly initialised; None where there are none.

        They are trained along with the network and never exported. Called once per run, before the first step.

        Raises:
            UsageError: The method has nothing to do on this network.
        """
        return None

    def network(self, net: StagedNet) -> StagedNet:
        """The network that is trained and exported: `net`, or one that shares its weights and computes something more."""
        return net

    def sides(self, crop: int, rng: random.Random) -> tuple[int, ...]:
        """Sides in pixels of the smaller images that this step wants in `StepContext.smaller`; none by default.

        Args:
            crop: Side of `StepContext.images`.
            rng: Seeded by run and global step.
        """
        return ()

    @abstractmethod
    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Adds one batch's gradients to `.grad` and returns the losses."""
