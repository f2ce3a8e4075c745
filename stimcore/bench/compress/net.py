"""A CIFAR ResNet with any numbers of channels, as pruning leaves them: what `bench compress` compares sub-networks with.

Libraries that prune channels follow convolutions, not a shortcut that pads with zeros. Shortcuts that change the shape are
1x1 convolutions here, which begin as the subsampling and the padding that they stand for: a trained ResNet computes the same
after `with_convolved_shortcuts`. From then on they are weights like any others.

A training names its network, so that the name holds the channels: `stimcore.bench.compress.net:resnet_16_32_64_inner_8_8_8...`.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stimcore.nets.cifar_resnet import MeanPool
from stimcore.nets.own import staged
from stimcore.nets.staged import StagedNet

_NAME = re.compile(r"resnet((?:_[1-9][0-9]{0,4})+)_inner((?:_[1-9][0-9]{0,4})+)\Z")
_FIRST_BLOCK = re.compile(r"layer(?P<stage>[2-9])\.0\.conv1\.weight\Z")


@dataclass(frozen=True)
class Channels:
    """Numbers of channels of a CIFAR ResNet.

    Attributes:
        stages: Between the blocks of every stage; those of the first stage are the stem's too.
        inner: Inside of every block, of all stages in a row; every stage has as many blocks.

    Example:
        >>> channels = Channels((16, 32), (8, 8, 20, 24))
        >>> channels.name, Channels.parse(channels.name) == channels, channels.depth
        ('resnet_16_32_inner_8_8_20_24', True, 2)
        >>> Channels.parse("resnet_16_32_inner_8_8_20") is None  # stages of one block and of two
        True
    """

    stages: tuple[int, ...]
    inner: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Blocks of every stage."""
        return len(self.inner) // len(self.stages)

    @property
    def name(self) -> str:
        """Name of the network in this module."""
        return "_".join(["resnet", *map(str, self.stages), "inner", *map(str, self.inner)])

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Return the channels in a name; None for any other name."""
        match = _NAME.match(name)
        if match is None:
            return None
        stages, inner = (tuple(map(int, text.split("_")[1:])) for text in match.groups())
        return cls(stages, inner) if len(inner) % len(stages) == 0 else None

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Self:
        """Return the channels of a network with these weights, under the keys of `PrunableResNet`."""
        stages = [tensor.shape[0] for key, tensor in state.items() if re.match(r"layer\d+\.0\.conv2\.weight\Z", key)]
        inner = [tensor.shape[0] for key, tensor in state.items() if re.match(r"layer\d+\.\d+\.conv1\.weight\Z", key)]
        return cls(tuple(stages), tuple(inner))


class PrunableBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution in the first block of a later stage."""

    def __init__(self, before: int, inner: int, channels: int, *, first: bool) -> None:
        super().__init__()
        stride = 2 if first else 1
        self.conv1 = nn.Conv2d(before, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(before, channels, 1, stride, bias=False) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, before, H, W]` to `[B, channels, H / stride, W / stride]`."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class PrunableResNet(nn.Module):
    """The plain network; its parameters have the names of `stimcore.nets.cifar_resnet.CifarResNet`, besides the shortcuts."""

    def __init__(self, channels: Channels, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels.stages[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels.stages[0])
        self.layers: list[nn.Sequential] = []
        before, inner = channels.stages[0], iter(channels.inner)
        for number, width in enumerate(channels.stages):
            blocks = []
            for place in range(channels.depth):
                blocks.append(PrunableBlock(before, next(inner), width, first=number > 0 and place == 0))
                before = width
            self.layers.append(nn.Sequential(*blocks))
            self.add_module(f"layer{number + 1}", self.layers[-1])
        self.linear = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[B, num_classes]` of images `[B, in_channels, H, W]`."""
        out = F.relu(self.bn1(self.conv1(x)))
        for layer in self.layers:
            out = layer(out)
        return cast(Tensor, self.linear(out.mean((2, 3))))


def with_convolved_shortcuts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a CIFAR ResNet together with 1x1 convolutions that subsample and pad as its shortcuts do.

    Args:
        state: State dict of `stimcore.nets.cifar_resnet.CifarResNet`.
    """
    shortcuts = {}
    for key, first in state.items():
        if match := _FIRST_BLOCK.match(key):
            channels, before = first.shape[:2]
            weight = torch.zeros(channels, before, 1, 1)
            padding = (channels - before) // 2
            weight[padding : padding + before, :, 0, 0] = torch.eye(before)
            shortcuts[f"layer{match['stage']}.0.shortcut.weight"] = weight
    return {**state, **shortcuts}


def prunable_resnet(channels: Channels, *, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Return a network with random weights as stages of blocks.

    Args:
        channels: Its numbers of channels.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.

    Example:
        >>> net = prunable_resnet(Channels((4, 8), (3, 4, 5, 6)), input_shape=(1, 8, 8), num_classes=10)
        >>> net.topology.sizes, net.topology.removable, net(torch.zeros(1, 1, 8, 8)).shape
        ((2, 2), (1, 2, 4), torch.Size([1, 10]))
    """
    module = PrunableResNet(channels, in_channels=input_shape[0], num_classes=num_classes)
    return staged(
        module,
        stem=nn.Sequential(OrderedDict(conv1=module.conv1, bn1=module.bn1, relu=nn.ReLU())),
        stages=[list(layer) for layer in module.layers],
        head=nn.Sequential(OrderedDict(pool=MeanPool(), linear=module.linear)),
        input_shape=input_shape,
        name=channels.name,
    )


def __getattr__(name: str) -> Callable[..., StagedNet]:
    """Return the function that builds the network with the channels in its name: networks are imported by name."""
    channels = Channels.parse(name)
    if channels is None:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return partial(prunable_resnet, channels)
