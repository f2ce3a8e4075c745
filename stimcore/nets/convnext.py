"""ConvNeXts for small images, made of torchvision's modules: `convnext-mini` and others of its kind.

Source: Liu et al. 2022, "A ConvNet for the 2020s". Differs: for images of up to 64 pixels the stem has patches of 2x2 pixels
instead of 4x4.
"""

import re
from collections.abc import Sequence
from typing import cast

from torch import nn
from torchvision.models import ConvNeXt
from torchvision.models.convnext import CNBlockConfig

from stimcore.errors import UsageError
from stimcore.nets.adapters import adapt
from stimcore.nets.staged import StagedNet
from stimcore.nets.stem import small_images

NAME = re.compile(r"convnext(?P<sizes>(-[1-9][0-9]?){1,6})-d(?P<width>[1-9][0-9]{0,3})\Z")
"""`convnext-3-3-3-d20`: blocks per stage without the downsampling, then the width of the first stage; it doubles."""
SMALL_PATCH, LARGE_PATCH = 2, 4
"""Sides of the stem's patches in images of up to 64 pixels and in larger ones."""
MINI = ((3, 3, 3), 20)
"""Blocks per stage and first width of `convnext-mini`."""


def convnext(
    sizes: Sequence[int],
    width: int,
    *,
    name: str | None = None,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    num_classes: int = 10,
) -> StagedNet:
    """Build a ConvNeXt as stages of blocks, with random weights.

    A downsampling between two stages is the first block of the later stage, so that it has a block more than `sizes` says.

    Args:
        sizes: Blocks per stage, without the downsampling.
        width: Channels of the first stage; every further stage has twice as many.
        name: Name of the network; of the form `convnext-3-3-3-d20` when None.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.

    Raises:
        UsageError: The images are too small to be halved between all stages.

    Example:
        >>> net = convnext((1, 2), 8, input_shape=(1, 28, 28))
        >>> net.topology.sizes, net.topology.removable
        ((1, 3), (1, 3, 4))
    """
    patch = SMALL_PATCH if small_images(input_shape) else LARGE_PATCH
    smallest = patch * 2 ** (len(sizes) - 1)
    if min(input_shape[1:]) < smallest:
        raise UsageError(
            f"images of {input_shape[1]}x{input_shape[2]} pixels for {len(sizes)} stages", allowed=f"at least {smallest} pixels"
        )
    widths = [width * 2**stage for stage in range(len(sizes))]
    settings = [
        CNBlockConfig(here, following, size) for here, following, size in zip(widths, [*widths[1:], None], sizes, strict=True)
    ]
    module = ConvNeXt(settings, num_classes=num_classes)
    stem = cast(nn.Sequential, module.features[0])
    stem[0] = nn.Conv2d(input_shape[0], width, patch, patch)
    nn.init.trunc_normal_(cast(nn.Parameter, stem[0].weight), std=0.02)
    nn.init.zeros_(cast(nn.Parameter, stem[0].bias))
    name = name or f"convnext-{'-'.join(map(str, sizes))}-d{width}"
    return adapt(module, name=name, input_shape=input_shape, num_classes=num_classes)


def convnext_mini(*, input_shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10) -> StagedNet:
    """Build the ConvNeXt with 9 blocks of widths 20, 40 and 80, with random weights; arguments are those of `convnext`."""
    return convnext(*MINI, name="convnext-mini", input_shape=input_shape, num_classes=num_classes)


def convnext_from_name(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet | None:
    """Build the ConvNeXt that a name such as `convnext-3-3-3-d20` describes; return None for any other name."""
    if (match := NAME.match(name)) is None:
        return None
    sizes = [int(size) for size in match["sizes"].split("-")[1:]]
    return convnext(sizes, int(match["width"]), input_shape=input_shape, num_classes=num_classes)
