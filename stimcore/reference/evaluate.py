"""Evaluation in torch, one sub-network at a time: slow, plain, and the reference for everything fast."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stimcore.data.images import Images
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import recalibrated
from stimcore.subnets.spec import Spec

BATCH = 500
"""Images per batch."""


def normalise(pixels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """uint8 `[B, C, H, W]` to float32 with mean 0 and deviation 1 per channel, the same way everywhere."""
    shift, scale = (np.array(values, np.float32)[:, None, None] for values in (mean, std))
    scaled: NDArray[np.float32] = (pixels.astype(np.float32) / np.float32(255) - shift) / scale
    return scaled


@dataclass(frozen=True)
class Evaluation:
    """What a network says of images.

    Attributes:
        logits: float32 `[N, K]`.
        labels: int64 `[N]`.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Per image whether it was right."""
        right: NDArray[np.bool_] = self.logits.argmax(1) == self.labels
        return right

    @property
    def correct(self) -> int:
        """Images that were right."""
        return int(self.hits.sum())

    @property
    def accuracy_pct(self) -> float:
        """In percent."""
        return 100 * self.correct / len(self.labels)


@torch.no_grad()
def evaluate(
    net: StagedNet,
    spec: Spec,
    images: Images,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    calibration: Images | None,
    batch_size: int = BATCH,
) -> Evaluation:
    """Runs one sub-network over images, re-calibrated first (with its own running statistics when `calibration` is None)."""
    device = next(net.parameters()).device
    own = net.eval() if calibration is None else recalibrated(net, spec, as_tensor(calibration.pixels, mean, std, device))
    logits = [
        own(as_tensor(images.pixels[i : i + batch_size], mean, std, device), spec).cpu()
        for i in range(0, len(images), batch_size)
    ]
    return Evaluation(torch.cat(logits).float().numpy(), images.labels)


def as_tensor(pixels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> Tensor:
    """Return uint8 `[B, C, H, W]` as normalised float32 on a device."""
    return torch.from_numpy(normalise(pixels, mean, std)).to(device)
