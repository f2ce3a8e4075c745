"""First convolutions of torchvision's networks, for images of other sizes and numbers of channels."""

from typing import cast

from torch import nn

SMALL_SIDE = 64
"""Images whose shorter side has at most this many pixels get a stem that keeps their resolution."""


def small_images(input_shape: tuple[int, int, int], wanted: bool | None = None) -> bool:
    """Return whether the stem keeps the resolution of its images.

    Args:
        input_shape: `[C, H, W]` of the images.
        wanted: The answer, if the caller has decided; the shorter side of the images decides when None.

    Example:
        >>> small_images((3, 32, 32)), small_images((3, 224, 224)), small_images((3, 32, 32), wanted=False)
        (True, False, False)
    """
    return min(input_shape[1:]) <= SMALL_SIDE if wanted is None else wanted


def first_convolution(original: nn.Module, in_channels: int, small: bool) -> nn.Conv2d:
    """Return a first convolution that fits the images.

    It is the original itself, with its weights, wherever their shape fits.

    Args:
        original: The first convolution of the network for large images.
        in_channels: Channels of the images.
        small: Whether the convolution is 3x3 with stride 1, so that small images keep their resolution.
    """
    first = cast(nn.Conv2d, original)
    size, stride, padding = (3, 1, 1) if small else (first.kernel_size[0], first.stride[0], first.padding[0])
    if (in_channels, size) == (first.in_channels, first.kernel_size[0]):
        first.stride = (stride, stride)
        return first
    other = nn.Conv2d(in_channels, first.out_channels, size, stride, int(padding), bias=False)
    nn.init.kaiming_normal_(other.weight, mode="fan_out", nonlinearity="relu")
    return other
