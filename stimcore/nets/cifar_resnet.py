"""CIFAR ResNet-d: three stages of (d-2)/6 basic blocks with parameter-free shortcuts.

Source: He et al. 2016, section 4.2, shortcut option A. Parameter names are those of the public repository that the paper uses
in Appendix C.4, so that the checkpoints of that repository load key for key.
"""

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from stimcore.errors import UsageError
from stimcore.nets.probe import fixed_blocks
from stimcore.nets.staged import StagedNet
from stimcore.subnets.topology import Topology

DEPTHS = (20, 32, 44, 56, 110, 1202)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that subsamples and pads with zero channels where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.padding = stride, (channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, in_channels, H, W]` to `[B, channels, H / stride, W / stride]`."""
        shortcut = x
        if self.stride != 1 or self.padding:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


class CifarResNet(nn.Module):
    """The plain network; `cifar_resnet` makes stages of blocks of it."""

    def __init__(self, depth: int, *, in_channels: int, num_classes: int, width: int = 1) -> None:
        super().__init__()
        size, widths = (depth - 2) // 6, (16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        before = widths[0]
        for number, channels in enumerate(widths, 1):
            first = BasicBlock(before, channels, 2 if number > 1 else 1)
            others = [BasicBlock(channels, channels, 1) for _ in range(size - 1)]
            setattr(self, f"layer{number}", nn.Sequential(first, *others))
            before = channels
        self.linear = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[B, num_classes]` of images `[B, in_channels, H, W]`."""
        out = F.relu(self.bn1(self.conv1(x)))
        for number in (1, 2, 3):
            out = getattr(self, f"layer{number}")(out)
        return cast(Tensor, self.linear(out.mean((2, 3))))


class MeanPool(nn.Module):
    """Mean over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, C]`."""
        return x.mean((2, 3))


def exists(depth: int) -> bool:
    """Return whether there is a CIFAR ResNet of this depth: 8, 14, 20 and so on."""
    return depth >= 8 and (depth - 2) % 6 == 0


def cifar_resnet(
    depth: int, *, input_shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10, width: int = 1
) -> StagedNet:
    """Build CIFAR ResNet-`depth` as stages of blocks, with random weights.

    Args:
        depth: 6n + 2, at least 8.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.
        width: Factor on all channel counts, from 1.

    Raises:
        UsageError: `depth` is not 6n + 2, or `width` is less than 1.

    Example:
        >>> cifar_resnet(14, width=2).topology.network
        'resnet14-w2'
    """
    if not exists(depth):
        raise UsageError(f"there is no CIFAR ResNet-{depth}", allowed="depths 6n + 2: " + ", ".join(map(str, DEPTHS)))
    if width < 1:
        raise UsageError(f"a width of {width}", allowed="whole numbers from 1")
    module = CifarResNet(depth, in_channels=input_shape[0], num_classes=num_classes, width=width)
    stem = nn.Sequential(OrderedDict(conv1=module.conv1, bn1=module.bn1, relu=nn.ReLU()))
    blocks = [block for number in (1, 2, 3) for block in getattr(module, f"layer{number}")]
    size = len(blocks) // 3
    # From the second block on all blocks of a stage are alike, so it is enough to probe the first two of each stage.
    # ResNet-1202 has 600 blocks.
    probed = min(2, size)
    sample = [blocks[stage * size + place] for stage in range(3) for place in range(probed)]
    reasons = fixed_blocks(stem, sample, input_shape)
    fixed = {stage * size + 1: reasons[stage * probed + 1] for stage in range(3) if stage * probed + 1 in reasons}
    return StagedNet(
        module,
        Topology.of(f"resnet{depth}" if width == 1 else f"resnet{depth}-w{width}", [size] * 3, fixed),
        stem=stem,
        blocks=blocks,
        head=nn.Sequential(OrderedDict(pool=MeanPool(), linear=module.linear)),
        input_shape=input_shape,
        num_classes=num_classes,
        branch_ends={number: block.bn2 for number, block in enumerate(blocks, 1) if number not in fixed},
    )
