"""Stage supervision: a linear head after every stage also learns to classify.

Source: paper, Appendix F.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.exits import (
    LinearHeads,
    block_shapes,
    forward_with_features,
    linear_exits,
    pool,
    stage_coefficients,
    supervised_stages,
)
from stimcore.methods.losses import cross_entropy
from stimcore.nets.staged import StagedNet
from stimcore.nets.transfer import send


@dataclass(frozen=True, kw_only=True)
class StageSupervision(Method):
    """Loss = CE(main, y) + sum over stages of coefficient * CE(head of the stage, y)."""

    def make_auxiliary(self, net: StagedNet) -> LinearHeads:
        """Return a linear head for the pooled output of the last block of every supervised stage."""
        shapes = block_shapes(net)
        return LinearHeads({stage[-1]: shapes[stage[-1]] for stage in supervised_stages(net, shapes)}, net.num_classes)

    def exits(self, net: StagedNet, auxiliary: nn.Module | None) -> Mapping[int, nn.Module]:
        """Return the heads as exits, by block number."""
        return linear_exits(net, auxiliary)

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Add the gradients of the whole loss, in one forward and one backward."""
        heads = cast(LinearHeads, auxiliary)
        ends = [int(block) for block in heads.heads]
        with batch.autocast():
            vectors, logits = forward_with_features(net, batch.images, ends, pool)
            main = cross_entropy(logits, batch.labels, batch.label_smoothing)
            head_losses = [cross_entropy(out, batch.labels, batch.label_smoothing) for out in heads(vectors).values()]
        coefficients = send(torch.tensor(stage_coefficients(len(ends)), dtype=main.dtype), main.device)
        stage_ce = (coefficients * torch.stack(head_losses)).sum()
        loss = main + stage_ce
        batch.backward(loss)
        return {"loss": loss.detach(), "main_ce": main.detach(), "stage_ce": stage_ce.detach()}
