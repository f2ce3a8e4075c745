"""Exits: outputs of inner blocks of the main network, and the heads that are put on them during training.

Layer supervision, stage supervision and self distillation use them.
"""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from stimcore.nets.features import as_maps
from stimcore.nets.staged import StagedNet

STAGE_CURVE = (0.13, 0.2, 0.27, 0.4)
"""Coefficients of four stages. Source: paper, Appendix F.1."""

Shape = tuple[int, int, int]
"""`[C, H, W]` of one image's features."""


def block_shapes(net: StagedNet) -> dict[int, Shape]:
    """Return the shape of every block's output as a map, by block number.

    The shapes are those of one black image of the network's size. Modes and running statistics of the network stay as they are.
    """
    parameter = next(net.parameters())
    image = torch.zeros((1, *net.input_shape), device=parameter.device, dtype=parameter.dtype)
    with net.evaluating(), torch.no_grad():
        features, _ = forward_with_features(net, image, range(1, net.topology.num_blocks + 1))
    return {block: (value.shape[1], value.shape[2], value.shape[3]) for block, value in features.items()}


def supervised_stages(net: StagedNet, shapes: dict[int, Shape]) -> list[tuple[int, ...]]:
    """Return the blocks of every stage that is supervised; consecutive stages of one resolution count as one.

    MobileNetV3's five stages become the paper's four (blocks 1-2, 3-5, 6-11, 12-14); those of other families stay as they are.
    So do all stages of a network that has one resolution throughout, such as a vision transformer.

    Args:
        net: The network.
        shapes: What `block_shapes` returned.
    """
    if len({shape[1:] for shape in shapes.values()}) == 1:
        return list(net.topology.stages)
    groups: list[tuple[int, ...]] = []
    for stage in net.topology.stages:
        if groups and shapes[groups[-1][-1]][1:] == shapes[stage[-1]][1:]:
            groups[-1] += stage
        else:
            groups.append(stage)
    return groups


def stage_coefficients(count: int) -> list[float]:
    """Return the coefficients of `count` stages; their sum is 1.

    The paper gives those of four stages. For other numbers the curve through them is interpolated linearly, so that the first
    stage has the first coefficient and the last stage the last one, and divided by its sum. One stage has the coefficient 1.

    Example:
        >>> [round(coefficient, 3) for coefficient in stage_coefficients(3)]
        [0.17, 0.307, 0.523]
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


def forward_with_features(
    net: StagedNet, images: Tensor, blocks: Collection[int], read: Callable[[Tensor], Tensor] = lambda out: out
) -> tuple[dict[int, Tensor], Tensor]:
    """Run one forward of the main network and return features of inner blocks too, as maps `[B, C, H, W]`.

    Sequences of tokens become maps of one column: see `stimcore.nets.features.as_maps`.

    Args:
        net: The network.
        images: `[B, C, H, W]`.
        blocks: Numbers of the blocks whose outputs are returned.
        read: Maps an output `[B, C, H, W]` to the features that are returned. It runs directly after its block, so that the
            backward pass reaches it there: autograd works backwards in the order of the forward, and features that are
            computed at the end would have a gradient of the output's full size from the beginning of the backward on.

    Returns:
        Block -> its features, and the logits `[B, num_classes]`.
    """
    features: dict[int, Tensor] = {}
    out = images
    for part in net.route(net.topology.full):
        out = part.module(out)
        if part.name.kind == "block" and part.name.number in blocks:
            features[part.name.number] = read(as_maps(out, channels_last=net.channels_last))
    return features, out


def pool(features: Tensor) -> Tensor:
    """Map `[B, C, H, W]` to `[B, C]` by the mean over height and width."""
    return features.mean((2, 3))


class LinearHeads(nn.Module):
    """One linear layer per block, from its pooled output to the classes.

    Args:
        shapes: Block -> `[C, H, W]` of its output, for the blocks that get a head.
        num_classes: Width of the logits.
    """

    def __init__(self, shapes: dict[int, Shape], num_classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({str(block): nn.Linear(shape[0], num_classes) for block, shape in shapes.items()})

    def forward(self, vectors: dict[int, Tensor]) -> dict[int, Tensor]:
        """Map pooled outputs `[B, C]` to logits `[B, num_classes]`, both by block number."""
        return {block: self.heads[str(block)](value) for block, value in vectors.items()}


class ExitHead(nn.Module):
    """The classifier of an early exit: it reads what leaves a block, in the layout of the block.

    Args:
        layers: Maps features as maps `[B, C, H, W]` to logits `[B, num_classes]`.
        channels_last: Whether the block's features with four axes are `[B, H, W, C]`.
    """

    def __init__(self, layers: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.layers, self.channels_last = layers, channels_last

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits `[B, num_classes]` of a block's output."""
        logits: Tensor = self.layers(as_maps(features, channels_last=self.channels_last))
        return logits


class Pool(nn.Module):
    """`pool` as a module."""

    def forward(self, features: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, C]`."""
        return pool(features)


def linear_exits(net: StagedNet, auxiliary: nn.Module | None) -> dict[int, nn.Module]:
    """Return the exits of `LinearHeads`, by block number: see `Method.exits`."""
    assert isinstance(auxiliary, LinearHeads), "the methods that call this make such heads"
    return {
        int(block): ExitHead(nn.Sequential(Pool(), head), channels_last=net.channels_last)
        for block, head in auxiliary.heads.items()
    }
