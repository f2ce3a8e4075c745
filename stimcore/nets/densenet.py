"""DenseNet-121/169/201/264 and smaller relatives, from torchvision's modules: a block is a dense layer.

Source: Huang et al. 2017, Table 1. Sub-networks inherit weights by channel slicing: see `stimcore.subnets.channels`.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet

from stimcore.errors import UsageError
from stimcore.nets.narrowed import Axes
from stimcore.nets.staged import StagedNet
from stimcore.nets.stem import first_convolution, small_images
from stimcore.subnets.channels import Channels
from stimcore.subnets.part_name import PartKind
from stimcore.subnets.topology import Topology

SIZES = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32), 264: (6, 12, 64, 48)}
"""Depth -> layers per dense block; each is a sub-network of the next."""
GROWTH = 32
FAMILY = re.compile(r"densenet(?P<sizes>(-[1-9][0-9]{0,2}){1,8})-k(?P<growth>[1-9][0-9]{0,2})\Z")
"""`densenet-4-6-8-6-k12`: layers per dense block, then the growth rate."""


def _norm(name: str) -> dict[str, tuple[str, ...]]:
    return {f"{name}.{key}": ("in",) for key in ("weight", "bias", "running_mean", "running_var")}


AXES: dict[PartKind, Axes] = {
    "block": {**_norm("layer.norm1"), "layer.conv1.weight": ("", "in")},
    "transition": {**_norm("norm"), "conv.weight": ("out", "in")},
    "head": {**_norm("norm"), "classifier.weight": ("", "in")},
}
"""PartKind of part -> which axes of its tensors follow the channels that come in and go out."""


class Concatenating(nn.Module):
    """A dense layer that hands on what it read together with what it adds."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, C + growth, H, W]`."""
        return torch.cat((x, self.layer(x)), 1)


def densenet(
    sizes: Sequence[int],
    growth: int = GROWTH,
    *,
    name: str | None = None,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    num_classes: int = 1000,
    small: bool | None = None,
) -> StagedNet:
    """A DenseNet as stages of blocks; its stem has two growth rates of channels, as the paper's have.

    Args:
        sizes: Layers per dense block.
        growth: Channels that every layer adds.
        name: In the catalogue; `densenet-6-12-24-16-k32` when None.
        input_shape: `[C, H, W]`.
        num_classes: Width of the logits.
        small: Stem for images of 64 pixels and less: 3x3, stride 1, no pooling; decided by `input_shape` when None.

    Raises:
        UsageError: The image is too small to be halved between all dense blocks.
    """
    small = small_images(input_shape, small)
    halvings = len(sizes) - 1 + (0 if small else 2)
    if min(input_shape[1:]) < 2**halvings:
        raise UsageError(
            f"images of {input_shape[1]}x{input_shape[2]} pixels for {len(sizes)} dense blocks",
            allowed=f"at least {2**halvings} pixels",
        )
    channels = Channels(stem=2 * growth, growth=growth)
    module = DenseNet(growth, tuple(sizes), channels.stem, num_classes=num_classes)  # type: ignore[arg-type]  # any number of stages
    features = module.features
    features.conv0 = first_convolution(features.conv0, input_shape[0], small)
    if small:
        features.pool0 = nn.Identity()
    numbers = range(1, len(sizes) + 1)
    dense = [cast(nn.ModuleDict, getattr(features, f"denseblock{number}")) for number in numbers]
    head = OrderedDict(
        norm=features.norm5, relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1), classifier=module.classifier
    )
    name = name or f"densenet-{'-'.join(map(str, sizes))}-k{growth}"
    blocks = [Concatenating(layer) for block in dense for layer in block.values()]
    return StagedNet(
        module,
        Topology.of(name, sizes, ordered_only=True, channels=channels),
        stem=nn.Sequential(OrderedDict((part, getattr(features, part)) for part in ("conv0", "norm0", "relu0", "pool0"))),
        blocks=blocks,
        branch_ends={number: cast(nn.Module, block.layer.conv2) for number, block in enumerate(blocks, 1)},
        transitions=[cast(nn.Module, getattr(features, f"transition{number}")) for number in numbers[:-1]],
        head=nn.Sequential(head),
        axes=AXES,
        input_shape=input_shape,
        num_classes=num_classes,
    )


def densenet_of(depth: int, *, input_shape: tuple[int, int, int] = (3, 224, 224), num_classes: int = 1000) -> StagedNet:
    """One of the four DenseNets of the paper's Appendix F.2, by its depth.

    Raises:
        UsageError: There is no such depth.
    """
    if depth not in SIZES:
        raise UsageError(f"there is no DenseNet-{depth}", allowed=", ".join(map(str, SIZES)))
    return densenet(SIZES[depth], name=f"densenet{depth}", input_shape=input_shape, num_classes=num_classes)


def family_member(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet | None:
    """The DenseNet that a name such as `densenet-4-6-8-6-k12` spells out; None when it is no such name."""
    if (match := FAMILY.match(name)) is None:
        return None
    sizes = [int(size) for size in match["sizes"].split("-")[1:]]
    return densenet(sizes, int(match["growth"]), input_shape=input_shape, num_classes=num_classes)
