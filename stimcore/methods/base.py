"""What a training method is: it turns one batch into gradients and named losses.

A method never steps the optimiser, draws nothing from global generators and keeps no sub-network between steps.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from stimcore.nets.staged import StagedNet

Losses = dict[str, Tensor]
"""Name -> detached scalar. `loss` is what was minimised; the others are its terms, before they are weighted."""


@dataclass(frozen=True)
class StepContext:
    """One minibatch of this process, and what a method may use in the step on it.

    Attributes:
        images: `[B, C, H, W]`, normalised.
        labels: `[B]`, int64.
        rng: Seeded by run and global step, so that every process draws the same sub-network.
        autocast: Returns the context manager in which forwards run; it chooses their precision.
        backward: Adds the gradients of a scalar to `.grad`, multiplied by the scale of the precision where it has one.
        label_smoothing: In [0, 1); 0 is off.
        epoch: Epochs of the run before this step, with the part of the epoch that has passed.
        smaller: The same crops as `images`, resized from the original images to the sides that `Method.draw_sides` returned.
    """

    images: Tensor
    labels: Tensor
    rng: random.Random
    autocast: Callable[[], AbstractContextManager[object]] = field(default=nullcontext)
    backward: Callable[[Tensor], None] = field(default=lambda loss: loss.backward())
    label_smoothing: float = 0.0
    epoch: float = 0.0
    smaller: tuple[Tensor, ...] = ()

    def split(self, num_parts: int) -> list["StepContext"]:
        """Return the batch in equal parts, in order; the number of images is a multiple of `num_parts`.

        The parts share the generator.
        """
        if num_parts == 1:
            return [self]
        size = len(self.images) // num_parts
        return [
            replace(
                self,
                images=self.images[start : start + size],
                labels=self.labels[start : start + size],
                smaller=tuple(images[start : start + size] for images in self.smaller),
            )
            for start in range(0, len(self.images), size)
        ]


class Method(ABC):
    """A training method: a frozen dataclass with the function `step`; its fields are the options of the method.

    Attributes:
        compilable: Whether a step computes the same when the blocks are compiled by `torch.compile`.
        old_defaults: Option -> the value that describes runs from before the option existed, if it is not today's default.
        added_later: Options that runs store only where they differ from their default: bundles from before they existed are
            compared with later ones by what both have stored.
    """

    compilable: ClassVar[bool] = True
    old_defaults: ClassVar[Mapping[str, Any]] = {}
    added_later: ClassVar[frozenset[str]] = frozenset()

    @property
    def needs_weights(self) -> bool:
        """Whether a training with these options has to start from given weights: see `--init`."""
        return False

    def make_auxiliary(self, net: StagedNet) -> nn.Module | None:
        """Return the heads and adapters of a training, with random weights; None if the method has none.

        They are trained with the network and are no part of it; `exits` returns those that can be exported beside it. The
        trainer calls this once, before the first step, so a method also refuses a network here that it can't train.

        Raises:
            UsageError: The method can't train this network.
        """
        return None

    def exits(self, net: StagedNet, auxiliary: nn.Module | None) -> Mapping[int, nn.Module]:
        """Return the early exits that training left: block -> the head that classifies what leaves this block.

        A head maps the output of its block, in the layout in which the block returns it, to logits `[B, num_classes]`. By
        default there are none.

        Args:
            net: The network that `wrap` returned.
            auxiliary: The module that `make_auxiliary` returned, with trained weights.
        """
        return {}

    def wrap(self, net: StagedNet) -> StagedNet:
        """Return the network to train and export: `net`, or one that shares its weights and computes more."""
        return net

    def draw_sides(self, crop: int, rng: random.Random) -> tuple[int, ...]:
        """Draw the sides, in pixels, of the smaller images that a step needs in `StepContext.smaller`; none by default.

        Args:
            crop: Side of `StepContext.images`.
            rng: Seeded by run and global step.
        """
        return ()

    @abstractmethod
    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Add the gradients of one batch to `.grad` of every parameter and return the losses.

        Args:
            net: The network that `wrap` returned, in training mode.
            auxiliary: The module that `make_auxiliary` returned.
            batch: Images, labels and what else the step may use.
        """
