"""Where the inside of a main network can be looked at: the outputs of its blocks, and the stages that get a head.

Used by the methods that put heads on blocks or stages. Knows nothing of losses.
"""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from stimcore.nets.staged import StagedNet

STAGE_CURVE = (0.13, 0.2, 0.27, 0.4)
"""Coefficients of four stages (paper, Appendix F.1)."""

Shape = tuple[int, int, int]


def block_shapes(net: StagedNet) -> dict[int, Shape]:
    """Block -> `[C, H, W]` of its output, found by running one black image; the network's state is left as it was."""
    training = [module for module in net.modules() if module.training]
    parameter = next(net.parameters())
    image = torch.zeros((1, *net.input_shape), device=parameter.device, dtype=parameter.dtype)
    net.eval()
    try:
        with torch.no_grad():
            features, _ = forward_with(net, image, range(1, net.topology.num_blocks + 1))
    finally:
        for module in training:
            module.training = True
    return {block: (value.shape[1], value.shape[2], value.shape[3]) for block, value in features.items()}


def supervised_stages(net: StagedNet, shapes: dict[int, Shape]) -> list[tuple[int, ...]]:
    """The blocks of every stage that gets a head: stages of one resolution count as one.

    MobileNetV3's five stages become the paper's four (blocks 1-2, 3-5, 6-11, 12-14); those of other families stay as they are.
    """
    groups: list[tuple[int, ...]] = []
    for stage in net.topology.stages:
        if groups and shapes[groups[-1][-1]][1:] == shapes[stage[-1]][1:]:
            groups[-1] += stage
        else:
            groups.append(stage)
    return groups


def stage_coefficients(count: int) -> list[float]:
    """The paper's coefficients of four stages, interpolated to `count` stages (first to first, last to last), sum 1.

    One stage has the coefficient 1.
    """
    if count == 1:
        return [1.0]
    last = len(STAGE_CURVE) - 1
    values = []
    for place in range(count):
        position = place * last / (count - 1)
        left = min(int(position), last - 1)
        values.append(STAGE_CURVE[left] + (position - left) * (STAGE_CURVE[left + 1] - STAGE_CURVE[left]))
    return [value / sum(values) for value in values]


def forward_with(
    net: StagedNet, images: Tensor, blocks: Collection[int], read: Callable[[Tensor], Tensor] = lambda out: out
) -> tuple[dict[int, Tensor], Tensor]:
    """One forward of the main network.

    Args:
        net: The network.
        images: `[B, C, H, W]`.
        blocks: Whose outputs are wanted.
        read: What is taken of such an output, at once: what is computed later holds its whole gradient from the start of the
            backward on.

    Returns:
        Block -> what was read of its output `[B, C, H, W]`, and the logits `[B, num_classes]`.
    """
    features: dict[int, Tensor] = {}
    out = images
    for part in net.route(net.topology.full):
        out = part.module(out)
        if part.name.kind == "block" and part.name.number in blocks:
            features[part.name.number] = read(out)
    return features, out


def pooled(features: Tensor) -> Tensor:
    """Mean over height and width: `[B, C, H, W]` to `[B, C]`."""
    return features.mean((2, 3))


class LinearHeads(nn.Module):
    """Per block one linear layer from its pooled output to the classes.

    Args:
        shapes: Block -> `[C, H, W]` of its output; the blocks that get a head.
        num_classes: Width of the logits.
    """

    def __init__(self, shapes: dict[int, Shape], num_classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({str(block): nn.Linear(shape[0], num_classes) for block, shape in shapes.items()})

    def forward(self, vectors: dict[int, Tensor]) -> dict[int, Tensor]:
        """Block -> pooled output `[B, C]` to block -> logits `[B, num_classes]`."""
        return {block: self.heads[str(block)](value) for block, value in vectors.items()}
