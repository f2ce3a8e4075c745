"""Layer normalisation of logits, as a module and as the end of a head."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from stimcore.nets.staged import StagedNet

EPSILON = 1e-7
"""Added to the variance, so that equal logits stay finite (docs/semantics.md, "Options")."""


class LogitNorm(nn.Module):
    """Shift and scale the logits of every image to the mean 0 and the standard deviation `amplitude`.

    The module has no parameters, so that the keys of a checkpoint stay the same.

    Args:
        amplitude: Standard deviation of the result, more than 0.

    Example:
        >>> LogitNorm(3.0)(torch.tensor([[1.0, 3.0]]))
        tensor([[-3.,  3.]])
    """

    def __init__(self, amplitude: float) -> None:
        super().__init__()
        self.amplitude = amplitude

    def forward(self, logits: Tensor) -> Tensor:
        """Map logits `[B, K]` to `[B, K]`, computed and returned in at least float32.

        The formula is written out because the ONNX exporter needs the width of a layer norm to be known beforehand.
        """
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        centred = logits - logits.mean(1, keepdim=True)
        return centred * (self.amplitude / torch.sqrt(centred.square().mean(1, keepdim=True) + EPSILON))


def with_normalised_logits(net: StagedNet, amplitude: float) -> StagedNet:
    """Return the same network, sharing all weights, with a head that ends with a `LogitNorm`."""
    layers = net.head.named_children() if isinstance(net.head, nn.Sequential) else [("head", net.head)]
    return net.with_head(nn.Sequential(OrderedDict([*layers, ("normalise", LogitNorm(amplitude))])))
