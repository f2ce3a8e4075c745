"""torchvision's MobileNetV3-Large, with blocks and stages as in the paper's Table r1: 14 blocks in 5 stages."""

from typing import cast

from torch import nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.mobilenetv3 import InvertedResidual, MobileNetV3

from stimcore.errors import UsageError
from stimcore.nets.probe import fixed_blocks
from stimcore.nets.staged import StagedNet
from stimcore.nets.stem import first_convolution, small_images
from stimcore.subnets.topology import Topology

SIZES = (2, 3, 4, 2, 3)
"""Blocks per stage; `features[2]` to `features[15]` are blocks 1 to 14."""


def mobilenetv3(
    *,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    num_classes: int = 1000,
    width: float = 1.0,
    small: bool | None = None,
) -> StagedNet:
    """Build MobileNetV3-Large as stages of blocks, with random weights.

    Args:
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.
        width: Factor on all channel counts, in (0, 2].
        small: Whether the stem has stride 1 instead of 2, which keeps the resolution of small images; decided by `input_shape`
            when None.

    Raises:
        UsageError: `width` is out of range.
    """
    if not 0 < width <= 2:
        raise UsageError(f"a width of {width}", allowed="more than 0, at most 2")
    module = cast(MobileNetV3, mobilenet_v3_large(weights=None, num_classes=num_classes, width_mult=width))
    first = cast(nn.Sequential, module.features[0])
    first[0] = first_convolution(first[0], input_shape[0], small_images(input_shape, small))
    blocks = [cast(InvertedResidual, block) for block in module.features[2:16]]
    stem = nn.Sequential(*module.features[:2])
    fixed = fixed_blocks(stem, list(blocks), input_shape)
    head = nn.Sequential(*module.features[16:], module.avgpool, nn.Flatten(1), module.classifier)
    name = "mobilenetv3" if width == 1 else f"mobilenetv3-w{width:g}"
    return StagedNet(
        module,
        Topology.of(name, SIZES, fixed),
        stem=stem,
        blocks=blocks,
        head=head,
        input_shape=input_shape,
        num_classes=num_classes,
        branch_ends={number: block.block for number, block in enumerate(blocks, 1) if number not in fixed},
    )
