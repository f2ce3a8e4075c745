"""Stems of torchvision's networks at other image sizes and channel counts."""

from typing import cast

from torch import nn

SMALL = 64
"""Images of this many pixels and less get the stem for small images."""


def small_images(input_shape: tuple[int, int, int], wanted: bool | None = None) -> bool:
    """Whether the stem keeps the resolution: as `wanted`, decided by the smaller side of `[C, H, W]` when None."""
    return min(input_shape[1:]) <= SMALL if wanted is None else wanted


def first_convolution(original: nn.Module, in_channels: int, small: bool) -> nn.Conv2d:
    """A network's first convolution for its images: the original itself, with its weights, where its shape fits.

    Args:
        original: The first convolution of the network for large images.
        in_channels: Of the images.
        small: 3x3 with stride 1 instead, so that small images keep their resolution.
    """
    first = cast(nn.Conv2d, original)
    size, stride, padding = (3, 1, 1) if small else (first.kernel_size[0], first.stride[0], first.padding[0])
    if (in_channels, size) == (first.in_channels, first.kernel_size[0]):
        first.stride = (stride, stride)
        return first
    other = nn.Conv2d(in_channels, first.out_channels, size, stride, int(padding), bias=False)
    nn.init.kaiming_normal_(other.weight, mode="fan_out", nonlinearity="relu")
    return other
