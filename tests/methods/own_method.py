"""Training methods as a user writes them, for names such as `tests.methods.own_method:Mixed`."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.losses import cross_entropy
from stimcore.nets.logit_norm import with_normalised_logits
from stimcore.nets.staged import StagedNet


@dataclass(frozen=True, kw_only=True)
class Mixed(Method):
    """Cross entropy of the main network and of the smallest sub-network.

    Attributes:
        share: Weight of the sub-network.
    """

    share: float = 0.5

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Add the gradients of both."""
        smallest = net.topology.ordered([1] * len(net.topology.sizes))
        with batch.autocast():
            main = cross_entropy(net(batch.images), batch.labels, batch.label_smoothing)
            subnet = cross_entropy(net(batch.images, smallest), batch.labels, batch.label_smoothing)
            loss = main + self.share * subnet
        batch.backward(loss)
        return {"loss": loss.detach(), "main_ce": main.detach(), "subnet_ce": subnet.detach()}


@dataclass(frozen=True, kw_only=True)
class Normalised(Mixed):
    """Changes the network, which opening the run has to do too."""

    def wrap(self, net: StagedNet) -> StagedNet:
        """Return the network with normalised logits."""
        return with_normalised_logits(net, 3.0)


@dataclass(frozen=True, kw_only=True)
class Silent(Mixed):
    """Returns no loss."""

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Return what was minimised under another name."""
        return {"total": super().step(net, auxiliary, batch)["loss"]}


@dataclass(frozen=True, kw_only=True)
class Demanding(Mixed):
    """Has an option without a default."""

    depth: int


@dataclass(frozen=True, kw_only=True)
class Choosing(Mixed):
    """Has an option of three words, and one of two numbers."""

    kind: Literal["first", "last", "both"] = "first"
    number: Literal[1, 2] = 1


@dataclass(frozen=True, kw_only=True)
class Unstorable(Mixed):
    """Has an option that JSON can't hold."""

    blocks: frozenset[int] = frozenset({1})


@dataclass(frozen=True)
class Unfinished(Method):
    """Has no step."""


class Plain:
    """Is no method."""


NUMBER = 3
