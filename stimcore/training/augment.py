"""Augmentation of whole batches on whatever device they lie on."""

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 4
"""Pixels on every side for random crops (the CIFAR standard)."""


def flip_crop(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts every image by up to `PADDING` pixels (black outside) and mirrors half of them.

    Args:
        pixels: uint8 `[B, C, H, W]`.
        generator: On the CPU, so that every device and every rank draws the same.

    Returns:
        uint8 `[B, C, H, W]` in channels_last memory order.
    """
    count, _, height, width = pixels.shape
    top, left = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator).to(pixels.device)
    mirror = torch.randint(0, 2, (count,), generator=generator).to(pixels.device).bool()
    rows = top[:, None] + torch.arange(height, device=pixels.device)
    columns = left[:, None] + torch.arange(width, device=pixels.device)
    columns = torch.where(mirror[:, None], columns.flip(1), columns)
    padded = F.pad(pixels, (PADDING,) * 4)
    index = torch.arange(count, device=pixels.device)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Normalise:
    """uint8 `[B, C, H, W]` to float32 with mean 0 and deviation 1 per channel."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> None:
        self._scale = (1 / (255 * torch.tensor(std, dtype=torch.float32)))[:, None, None].to(device)
        self._shift = (torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32))[:, None, None].to(
            device
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """In channels_last memory order."""
        return (pixels.float() * self._scale - self._shift).contiguous(memory_format=torch.channels_last)
