"""Layer supervision: a linear head after every block also learns to classify.

Source: paper, Appendix F.1, where a block is called a layer.
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


class BlockHeads(LinearHeads):
    """Linear heads, with the coefficient of each head's loss in the order of the blocks."""

    def __init__(self, stages: list[tuple[int, ...]], shapes: dict[int, tuple[int, int, int]], num_classes: int) -> None:
        super().__init__({block: shapes[block] for stage in stages for block in stage}, num_classes)
        self.coefficients = layer_coefficients(list(map(len, stages)))


def layer_coefficients(sizes: list[int]) -> list[float]:
    """Return a coefficient per block: that of its stage divided by the number of blocks in the stage.

    Args:
        sizes: Number of blocks of every supervised stage.
    """
    return [weight / size for weight, size in zip(stage_coefficients(len(sizes)), sizes, strict=True) for _ in range(size)]


@dataclass(frozen=True, kw_only=True)
class LayerSupervision(Method):
    """Loss = CE(main, y) + sum over blocks of coefficient * CE(head of the block, y)."""

    def make_auxiliary(self, net: StagedNet) -> BlockHeads:
        """Return a linear head for the pooled output of every block."""
        shapes = block_shapes(net)
        return BlockHeads(supervised_stages(net, shapes), shapes, net.num_classes)

    def exits(self, net: StagedNet, auxiliary: nn.Module | None) -> Mapping[int, nn.Module]:
        """Return the heads as exits, by block number."""
        return linear_exits(net, auxiliary)

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Add the gradients of the whole loss, in one forward and one backward."""
        heads = cast(BlockHeads, auxiliary)
        with batch.autocast():
            vectors, logits = forward_with_features(net, batch.images, range(1, net.topology.num_blocks + 1), pool)
            main = cross_entropy(logits, batch.labels, batch.label_smoothing)
            head_losses = [cross_entropy(out, batch.labels, batch.label_smoothing) for out in heads(vectors).values()]
        layer_ce = (send(torch.tensor(heads.coefficients, dtype=main.dtype), main.device) * torch.stack(head_losses)).sum()
        loss = main + layer_ce
        batch.backward(loss)
        return {"loss": loss.detach(), "main_ce": main.detach(), "layer_ce": layer_ce.detach()}
