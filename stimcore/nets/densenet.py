"""DenseNet-121, -169, -201 and -264 and smaller ones, made of torchvision's modules: a block is a dense layer.

Sub-networks inherit the weights of the main network by slicing channels: see `stimcore.subnets.channels`.

Source: Huang et al. 2017, Table 1.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet

from stimcore.errors import UsageError
from stimcore.nets.narrowed import Axes
from stimcore.nets.own import check_same
from stimcore.nets.staged import StagedNet
from stimcore.nets.stem import first_convolution, small_images
from stimcore.subnets.channels import Channels
from stimcore.subnets.part_name import PartKind
from stimcore.subnets.topology import Topology

SIZES = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32), 264: (6, 12, 64, 48)}
"""Depth -> layers per dense block; each is a sub-network of the next."""
GROWTH = 32
"""Channels that every layer of these four adds."""
NAME = re.compile(r"densenet(?P<sizes>(-[1-9][0-9]{0,2}){1,8})-k(?P<growth>[1-9][0-9]{0,2})\Z")
"""`densenet-4-6-8-6-k12`: layers per dense block, then the growth rate."""


def _norm_axes(name: str) -> dict[str, tuple[str, ...]]:
    """Return the axes of a batch norm's tensors: one value per incoming channel."""
    return {f"{name}.{key}": ("in",) for key in ("weight", "bias", "running_mean", "running_var")}


AXES: dict[PartKind, Axes] = {
    "block": {**_norm_axes("layer.norm1"), "layer.conv1.weight": ("", "in")},
    "transition": {**_norm_axes("norm"), "conv.weight": ("out", "in")},
    "head": {**_norm_axes("norm"), "classifier.weight": ("", "in")},
}
"""Kind of part -> which axes of its tensors follow the incoming and outgoing channels.

Only the first batch norm and the first convolution of a layer read the concatenated channels. What follows them in the layer
has the same width in every sub-network.
"""


class Concatenating(nn.Module):
    """A dense layer whose output is its input with the new channels appended."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, C + growth, H, W]`."""
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
    """Build a DenseNet as stages of blocks, with random weights; its stem has 2 x `growth` channels, as in Table 1.

    Args:
        sizes: Layers per dense block.
        growth: Channels that every layer adds.
        name: Name of the network; of the form `densenet-6-12-24-16-k32` when None.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.
        small: Whether the stem is a 3x3 convolution with stride 1 and no pooling, which keeps the resolution of small images;
            decided by `input_shape` when None.

    Raises:
        UsageError: The image is too small to be halved between all dense blocks.

    Example:
        >>> net = densenet((2, 3, 2), growth=4, input_shape=(3, 32, 32), num_classes=10)
        >>> [str(part.name) for part in net.route(net.topology.parse("d1-3-2"))][:5]
        ['stem', 'block1', 'transition1@8+1', 'block3@6', 'block4@6']
    """
    small = small_images(input_shape, small)
    halvings = len(sizes) - 1 + (0 if small else 2)  # the large stem halves twice: by its stride and by its pooling
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
    name = name or f"densenet-{'-'.join(map(str, sizes))}-k{growth}"
    return of_module(module, name=name, input_shape=input_shape, num_classes=num_classes)


def of_module(module: nn.Module, *, name: str, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Return torchvision's or timm's DenseNet as stages of blocks.

    Args:
        module: The network; its parameters keep their names.
        name: Name of the network.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.

    Raises:
        UsageError: The network is put together in another way.
    """
    features: Any = module.features
    sizes = [len(child) for name, child in features.named_children() if name.startswith("denseblock")]
    first = features.denseblock1.denselayer1
    channels = Channels(stem=first.norm1.num_features, growth=first.conv2.out_channels)
    numbers = range(1, len(sizes) + 1)
    dense = [cast(nn.ModuleDict, getattr(features, f"denseblock{number}")) for number in numbers]
    head = OrderedDict(
        norm=features.norm5, relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1), classifier=module.classifier
    )
    # timm's norms contain their activation, and its stem may have more convolutions
    names = list(features._modules)
    stem = OrderedDict((part, getattr(features, part)) for part in names[: names.index("denseblock1")])
    blocks = [Concatenating(layer) for block in dense for layer in block.values()]
    net = StagedNet(
        module,
        Topology.of(name, sizes, ordered_only=True, channels=channels),
        stem=nn.Sequential(stem),
        blocks=blocks,
        branch_ends={number: cast(nn.Module, block.layer.conv2) for number, block in enumerate(blocks, 1)},
        transitions=[cast(nn.Module, getattr(features, f"transition{number}")) for number in numbers[:-1]],
        head=nn.Sequential(head),
        axes=AXES,
        input_shape=input_shape,
        num_classes=num_classes,
    )
    check_same(module, [part.module for part in net.route(net.topology.full)], input_shape)
    return net


def densenet_of(depth: int, *, input_shape: tuple[int, int, int] = (3, 224, 224), num_classes: int = 1000) -> StagedNet:
    """Build one of the four DenseNets of the paper's Appendix F.2, with random weights.

    Args:
        depth: A key of `SIZES`.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.

    Raises:
        UsageError: There is no such depth.
    """
    if depth not in SIZES:
        raise UsageError(f"there is no DenseNet-{depth}", allowed=", ".join(map(str, SIZES)))
    return densenet(SIZES[depth], name=f"densenet{depth}", input_shape=input_shape, num_classes=num_classes)


def densenet_from_name(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet | None:
    """Build the DenseNet that a name such as `densenet-4-6-8-6-k12` describes; return None for any other name."""
    if (match := NAME.match(name)) is None:
        return None
    sizes = [int(size) for size in match["sizes"].split("-")[1:]]
    return densenet(sizes, int(match["growth"]), input_shape=input_shape, num_classes=num_classes)
