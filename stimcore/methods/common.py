"""Common training: cross entropy of the main network; no sub-network runs."""

from dataclasses import dataclass

from torch import nn

from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.losses import cross_entropy
from stimcore.nets.staged import StagedNet


@dataclass(frozen=True, kw_only=True)
class Common(Method):
    """The baseline of every comparison: loss = CE(main, y)."""

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Add the gradients of the mean cross entropy."""
        with batch.autocast():
            logits = net(batch.images)
            loss = cross_entropy(logits, batch.labels, batch.label_smoothing)
        batch.backward(loss)
        return {"loss": loss.detach(), "main_ce": loss.detach()}
