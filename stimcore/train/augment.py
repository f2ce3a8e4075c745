"""Augmentation: shifts and reflections of whole batches (CIFAR), random crops and colours of single images (ImageNet)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from stimcore.data.normalise import Normalisation
from stimcore.nets.transfer import send
from stimcore.train.seeds import cpu_seeded

PADDING = 4
"""Pixels of padding on every side for random crops (the CIFAR standard)."""


def flip_crop(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shift every image by up to `PADDING` pixels, with black outside, and mirror half of them.

    It works on the whole batch at once. torchvision's `RandomCrop` and `RandomHorizontalFlip` would give all images of a batch
    the same shift.

    Args:
        pixels: uint8 `[B, C, H, W]`.
        generator: A CPU generator, so that every device and every rank draws the same numbers.

    Returns:
        uint8 `[B, C, H, W]` in channels_last memory order.
    """
    count, _, height, width = pixels.shape
    shifts = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator)
    mirrored = torch.randint(0, 2, (count,), generator=generator)
    top, left, mirror = send(torch.cat([shifts, mirrored[None]]), pixels.device)
    rows = top[:, None] + torch.arange(height, device=pixels.device)
    columns = left[:, None] + torch.arange(width, device=pixels.device)
    columns = torch.where(mirror[:, None].bool(), columns.flip(1), columns)
    # every image reads its own rows and columns of the padded batch: one gather instead of a loop over images
    padded = pad(pixels, (PADDING,) * 4)
    index = torch.arange(count, device=pixels.device)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Crop:
    """A rectangle of one image, mirrored or not; it can be resized to several sides without a new draw.

    Attributes:
        top: First row, from 0.
        left: First column, from 0.
        height: Rows.
        width: Columns.
        mirror: Whether left and right are swapped.
    """

    top: int
    left: int
    height: int
    width: int
    mirror: bool

    def apply(self, pixels: Tensor, side: int) -> Tensor:
        """Return the crop of an image, uint8 `[C, H, W]` to `[C, side, side]`, resized once (bilinear, antialiased)."""
        out: Tensor = vision.resized_crop(pixels, self.top, self.left, self.height, self.width, [side, side], antialias=True)
        return vision.horizontal_flip(out) if self.mirror else out


_IMAGENET = v2.RandomResizedCrop(1)


def imagenet_crop(pixels: Tensor, *place: object) -> Crop:
    """Return the standard random crop of ImageNet: 8 to 100 % of the area, sides 3:4 to 4:3, mirrored with probability 1/2.

    Args:
        pixels: uint8 `[C, H, W]` in the original size.
        place: What the draw depends on: seed, step and place in the batch.
    """
    with cpu_seeded(*place):
        box = _IMAGENET.make_params([pixels])
        mirror = bool(torch.rand(()) < 0.5)
    return Crop(box["top"], box["left"], box["height"], box["width"], mirror)


JITTER = 0.4
"""Brightness, contrast and saturation change by a factor from 1 - `JITTER` to 1 + `JITTER`."""
LIGHTING_STD = 0.1
"""Standard deviation of the three weights with which the principal colours are added."""
_PRINCIPAL_VALUES = torch.tensor([0.2175, 0.0188, 0.0045])
_PRINCIPAL_COLOURS = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
"""Principal components of ImageNet's colours, in [0, 1]: a column per component.

Source: Krizhevsky et al. 2012, section 4.1; the numbers are those in common use, as in fb.resnet.torch.
"""
_JITTER = v2.ColorJitter(JITTER, JITTER, JITTER)


@dataclass(frozen=True)
class ColourChange:
    """A change of one image's colours: jitter, then lighting.

    Attributes:
        order: Order of brightness (0), contrast (1) and saturation (2); the hue (3) stays.
        factors: Factors of brightness, contrast and saturation.
        shift: Shift per channel, in [0, 1].
    """

    order: tuple[int, ...]
    factors: tuple[float, float, float]
    shift: tuple[float, float, float]

    def apply(self, pixels: Tensor) -> Tensor:
        """Return an image, uint8 `[3, H, W]`, in other colours."""
        change = (vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation)
        out = pixels
        for number in self.order:
            if number < len(change):
                out = change[number](out, self.factors[number])
        shifted = out.float() + 255 * torch.tensor(self.shift, device=pixels.device)[:, None, None]
        return shifted.round().clamp(0, 255).to(torch.uint8)


def colour_change(*place: object) -> ColourChange:
    """Return a random change of colours.

    Args:
        place: What the draw depends on: seed, step and place in the batch.

    Source: the authors' public script for ImageNet, which has both after the random crop.
    """
    with cpu_seeded(*place):
        drawn = _JITTER.make_params([])
        shift = _PRINCIPAL_COLOURS @ (torch.randn(3) * LIGHTING_STD * _PRINCIPAL_VALUES)
    factors = (drawn["brightness_factor"], drawn["contrast_factor"], drawn["saturation_factor"])
    red, green, blue = shift.tolist()
    return ColourChange(tuple(map(int, drawn["fn_idx"])), factors, (red, green, blue))


def random_views(pixels: Tensor, sides: Sequence[int], *, colours: bool, place: tuple[object, ...]) -> list[Tensor]:
    """Return one random crop of an image in several sizes, uint8 `[C, side, side]` each; all have the same colours.

    Args:
        pixels: uint8 `[C, H, W]` in the original size.
        sides: Sides of the views.
        colours: Whether the colours are changed too.
        place: What the draws depend on: seed, step and place in the batch.
    """
    crop = imagenet_crop(pixels, *place)
    views = [crop.apply(pixels, side) for side in sides]
    if not colours:
        return views
    change = colour_change("colour", *place)
    return [change.apply(view) for view in views]


def resized(pixels: Tensor, side: int) -> Tensor:
    """Return uint8 images `[B, C, H, W]` resized to `[B, C, side, side]` (bilinear, antialiased)."""
    out: Tensor = vision.resize(pixels, [side, side], antialias=True)
    return out


class Normalise:
    """Normalisation on the device, with constants that are sent there once.

    Args:
        normalisation: Mean and standard deviation per channel.
        device: Where the images are.
    """

    def __init__(self, normalisation: Normalisation, device: torch.device) -> None:
        self._scale, self._shift = (torch.from_numpy(value).to(device) for value in normalisation.scale_and_shift())

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return uint8 images `[B, C, H, W]` as normalised float32 in channels_last memory order."""
        return (pixels.float() * self._scale - self._shift).contiguous(memory_format=torch.channels_last)
