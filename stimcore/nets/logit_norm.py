"""Layer normalisation of logits, as a function and as the end of a head."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from stimcore.nets.staged import StagedNet

EPSILON = 1e-7
"""Added to the variance (docs/semantics.md, "Options")."""


class LogitNorm(nn.Module):
    """Gives every image's logits mean 0 and deviation `amplitude`; has no parameters, so a checkpoint's keys stay the same."""

    def __init__(self, amplitude: float) -> None:
        super().__init__()
        self.amplitude = amplitude

    def forward(self, logits: Tensor) -> Tensor:
        """Logits `[B, K]` to `[B, K]`, at least in float32.

        Written out, as the ONNX exporter wants a layer norm's width to be known beforehand.
        """
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        centred = logits - logits.mean(1, keepdim=True)
        return centred * (self.amplitude / torch.sqrt(centred.square().mean(1, keepdim=True) + EPSILON))


def with_normalised_logits(net: StagedNet, amplitude: float) -> StagedNet:
    """The same network, sharing all weights, whose head ends with a `LogitNorm`."""
    steps = net.head.named_children() if isinstance(net.head, nn.Sequential) else [("head", net.head)]
    return net.with_head(nn.Sequential(OrderedDict([*steps, ("normalise", LogitNorm(amplitude))])))
