"""Normalisation of images: the one place for means, standard deviations and the arithmetic.

Needs numpy only, so that the serving half, which must not import torch, can use it too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stimcore.errors import UsageError

LEAST_STD, LARGEST_STD = 1e-4, 10.0
"""Standard deviations that the command line takes. 1/255 = 0.0039 leaves pixels from 0 to 255 as they are, and the least that
is ever measured is 1e-4. Pixels in [0, 1] deviate by 0.5 at most, but 1 and more may be meant as a scale. Deviations of pixels
from 0 to 255 are tens."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of every channel, of pixels scaled to [0, 1].

    Attributes:
        mean: One number per channel.
        std: One number per channel, each above 0.

    Example:
        >>> pixels = np.array([[[[0, 255]]]], np.uint8)
        >>> Normalisation((0.5,), (0.25,))(pixels).tolist()
        [[[[-2.0, 2.0]]]]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return uint8 images `[B, C, H, W]` as float32 with mean 0 and standard deviation 1 per channel.

        Every evaluation, in torch and in onnxruntime, uses exactly this order of operations: stored logits and parity errors
        depend on its rounding.
        """
        shift, scale = (_per_channel(values) for values in (self.mean, self.std))
        scaled: NDArray[np.float32] = (pixels.astype(np.float32) / np.float32(255) - shift) / scale
        return scaled

    def scale_and_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return float32 `[C, 1, 1]` arrays with which `pixels * scale - shift` is the same up to rounding.

        Training normalises with these on the device, one multiplication and one subtraction per step. Its losses, the golden
        curves among them, depend on the rounding of this form.
        """
        mean, std = _per_channel(self.mean), _per_channel(self.std)
        scale: NDArray[np.float32] = np.float32(1) / (np.float32(255) * std)
        shift: NDArray[np.float32] = mean / std
        return scale, shift


def channel_statistics(pixels: NDArray[np.uint8]) -> Normalisation:
    """Return mean and standard deviation per channel of images `[N, C, H, W]`, to four decimal places.

    A channel that has the same value everywhere gets a standard deviation of 1e-4, so that it can be divided by.
    """
    values = [pixels[:, channel].astype(np.float64) / 255 for channel in range(pixels.shape[1])]
    mean = tuple(round(float(v.mean()), 4) for v in values)
    return Normalisation(mean, tuple(max(round(float(v.std()), 4), LEAST_STD) for v in values))


def per_channel(option: str, text: str | None, default: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return the numbers of `--mean` or `--std`, one per channel.

    Args:
        option: `--mean` or `--std`.
        text: Numbers between commas; None for the default.
        default: Numbers for images of three channels.
        channels: Number of channels.

    Raises:
        UsageError: There is not one number per channel, a mean is not in [0, 1], or a standard deviation not in
            `[LEAST_STD, LARGEST_STD]`.

    Example:
        >>> per_channel("--mean", "0.5,0.4,0.3", IMAGENET.mean, 3)
        (0.5, 0.4, 0.3)
    """
    try:
        values = tuple(default) if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    least, largest = (LEAST_STD, LARGEST_STD) if option == "--std" else (0.0, 1.0)
    # comparisons with NaN are false, so that NaN is refused here too
    if len(values) != channels or not all(least <= v <= largest for v in values):
        of_bytes = len(values) == channels and all(0 <= v <= 255 for v in values) and max(values) > largest
        raise UsageError(
            f"{option} {text or 'not given'} for images of {channels} channels",
            allowed=f"{channels} numbers between commas, each from {least:g} to {largest:g}",
            todo="These look like numbers for pixels from 0 to 255: divide both --mean and --std by 255." if of_bytes else "",
        )
    return values


def _per_channel(values: Sequence[float]) -> NDArray[np.float32]:
    """Return the values in the shape `[C, 1, 1]`."""
    return np.array(values, np.float32)[:, None, None]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Normalisation of torchvision's weights, and of the CIFAR ResNets of the repository that the paper uses (Appendix C.4)."""
CIFAR10 = Normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
CIFAR100 = Normalisation((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
FASHION_MNIST = Normalisation((0.2860,), (0.3530,))
