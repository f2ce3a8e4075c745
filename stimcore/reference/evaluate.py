"""Evaluation in torch, one sub-network at a time: slow, simple, and the reference for everything fast."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stimcore.data.images import Images
from stimcore.data.normalise import Normalisation
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import recalibrated
from stimcore.subnets.spec import Spec

REFERENCE_BATCH = 500
"""Evaluation images per batch; it changes the memory that is needed, and logits only by rounding."""


@dataclass(frozen=True)
class Predictions:
    """Logits of one network for a set of images.

    Attributes:
        logits: float32 `[N, K]`.
        labels: int64 `[N]`.

    Example:
        >>> Predictions(np.array([[0.1, 2.0], [3.0, 0.5]], np.float32), np.array([1, 1])).accuracy_pct
        50.0
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each image was classified correctly, bool `[N]`."""
        hits: NDArray[np.bool_] = self.logits.argmax(1) == self.labels
        return hits

    @property
    def correct(self) -> int:
        """Number of images that were classified correctly."""
        return int(self.hits.sum())

    @property
    def accuracy_pct(self) -> float:
        """Accuracy in [0, 100]."""
        return 100 * self.correct / len(self.labels)


@torch.no_grad()
def evaluate(
    net: StagedNet,
    spec: Spec,
    images: Images,
    normalisation: Normalisation,
    *,
    calibration: Images | None,
    batch_size: int = REFERENCE_BATCH,
) -> Predictions:
    """Return the predictions of one sub-network, re-calibrated first.

    Args:
        net: The trained network; its weights and statistics are not changed.
        spec: The sub-network.
        images: Images to classify.
        normalisation: Mean and standard deviation that the network was trained with.
        calibration: Images for the batch norms; None evaluates with the running statistics that the network has.
        batch_size: Images per forward.

    Example:
        >>> from stimcore.nets.catalogue import build
        >>> net = build("resnet8", input_shape=(1, 8, 8), num_classes=3)
        >>> pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
        >>> images = Images(pixels=pixels, labels=np.array([0, 1, 2, 0, 1, 2]))
        >>> predictions = evaluate(net, net.topology.full, images, Normalisation((0.5,), (0.25,)), calibration=images)
        >>> predictions.logits.shape, predictions.hits.shape
        ((6, 3), (6,))
    """
    device = next(net.parameters()).device
    if calibration is None:
        calibrated = net.eval()
    else:
        calibrated = recalibrated(net, spec, as_tensor(calibration.pixels[:], normalisation, device))
    logits = [
        calibrated(as_tensor(images.pixels[start : start + batch_size], normalisation, device), spec).cpu()
        for start in range(0, len(images), batch_size)
    ]
    return Predictions(torch.cat(logits).float().numpy(), images.labels)


def as_tensor(pixels: NDArray[np.uint8], normalisation: Normalisation, device: torch.device) -> Tensor:
    """Return uint8 images `[B, C, H, W]` as a normalised float32 tensor on a device."""
    return torch.from_numpy(normalisation(pixels)).to(device)
