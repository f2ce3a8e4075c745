"""Vision transformers for small images, made of torchvision's encoder blocks: `vit-tiny` and others of its kind.

Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words". Differs: patches of 4x4 pixels for images of up to 64 pixels.
The blocks of a transformer all keep the shape, so that stages are a choice: sub-networks take the first blocks of each.
"""

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

from torch import nn
from torchvision.models import VisionTransformer

from stimcore.errors import UsageError
from stimcore.nets.adapters import vision_transformer
from stimcore.nets.own import staged
from stimcore.nets.staged import StagedNet
from stimcore.nets.stem import small_images

NAME = re.compile(r"vit(?P<sizes>(-[1-9][0-9]?){1,8})-d(?P<width>[1-9][0-9]{0,3})\Z")
"""`vit-3-3-3-d48`: blocks per stage, then the width of a token."""
HEAD_WIDTH = 16
"""Width of an attention head."""
MLP_RATIO = 4
SMALL_PATCH, LARGE_PATCH = 4, 16
"""Sides of a patch in images of up to 64 pixels and in larger ones."""
TINY = ((3, 3, 3), 48)
"""Blocks per stage and width of `vit-tiny`: as many blocks and ordered sub-networks as ResNet-20."""


def vit(
    sizes: Sequence[int],
    width: int,
    *,
    name: str | None = None,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    num_classes: int = 10,
) -> StagedNet:
    """Build a vision transformer as stages of blocks, with random weights.

    Args:
        sizes: Blocks per stage.
        width: Width of a token, a multiple of `HEAD_WIDTH`; below that there is one head.
        name: Name of the network; of the form `vit-3-3-3-d48` when None.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.

    Raises:
        UsageError: The images are not squares of whole patches, or heads don't divide the width.

    Example:
        >>> net = vit((1, 2), 16, input_shape=(1, 28, 28))
        >>> net.topology.network, net.topology.removable
        ('vit-1-2-d16', (1, 2, 3))
    """
    channels, height, side = input_shape
    patch = SMALL_PATCH if small_images(input_shape) else LARGE_PATCH
    if height != side or side % patch:
        raise UsageError(
            f"images of {height}x{side} pixels for a vision transformer", allowed=f"squares whose side is a multiple of {patch}"
        )
    if width > HEAD_WIDTH and width % HEAD_WIDTH:
        raise UsageError(f"a width of {width}", allowed=f"multiples of {HEAD_WIDTH}, and any width below")
    module = VisionTransformer(
        image_size=side,
        patch_size=patch,
        num_layers=sum(sizes),
        num_heads=max(1, width // HEAD_WIDTH),
        hidden_dim=width,
        mlp_dim=MLP_RATIO * width,
        num_classes=num_classes,
    )
    if channels != 3:
        module.conv_proj = nn.Conv2d(channels, width, patch, patch)
    parts = vision_transformer(module)
    ends = accumulate(sizes, initial=0)
    return staged(
        module,
        stem=parts.stem,
        stages=[parts.blocks[start:end] for start, end in pairwise(ends)],
        head=parts.head,
        input_shape=input_shape,
        name=name or f"vit-{'-'.join(map(str, sizes))}-d{width}",
    )


def vit_tiny(*, input_shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10) -> StagedNet:
    """Build the vision transformer with 9 blocks of width 48, with random weights; arguments and errors are those of `vit`."""
    return vit(*TINY, name="vit-tiny", input_shape=input_shape, num_classes=num_classes)


def vit_from_name(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet | None:
    """Build the vision transformer that a name such as `vit-3-3-3-d48` describes; return None for any other name."""
    if (match := NAME.match(name)) is None:
        return None
    sizes = [int(size) for size in match["sizes"].split("-")[1:]]
    return vit(sizes, int(match["width"]), input_shape=input_shape, num_classes=num_classes)
