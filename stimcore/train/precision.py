"""Number formats of training: fp32, bf16 with autocast, fp16 with autocast and loss scaling (CUDA only)."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from stimcore.errors import UsageError

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""PyTorch's names of the instructions that multiply bf16: two of x86, one of ARM."""


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 in hardware: CUDA devices do, processors only with instructions for it.

    Elsewhere PyTorch emulates bf16, which takes ten times as long as fp32. With them a step of ResNet-50 (16 images of 224 px,
    one core of an AMD EPYC) takes 2.5 s instead of 5.2, one of MobileNetV3 0.9 s instead of 0.8 (medians of two).

    Args:
        device: Where training runs.

    Example:
        >>> computes_in_bf16(torch.device("cuda"))
        True
    """
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BF16_INSTRUCTIONS)


class Precision:
    """Autocast context, backward pass and optimiser step of one number format.

    The order in a step is: `autocast` around the forwards, any number of `backward` calls, `unscale`, reduction over processes,
    `step`. Gradients are unscaled before they are averaged, so that every process sees true magnitudes.

    Args:
        name: `fp32`, `bf16` or `fp16`.
        device: Where training runs.

    Raises:
        UsageError: fp16 without CUDA.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "fp16" and device.type != "cuda":
            raise UsageError("fp16 needs a CUDA device", allowed="fp32 or bf16 on the CPU")
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context for forwards."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.name == "bf16" else torch.float16)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a scalar loss, scaled for fp16."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch has no annotation there

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide accumulated gradients by the loss scale; does nothing without fp16."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Make one optimiser step; with fp16 it is skipped if gradients overflowed."""
        self.scaler.step(optimizer)
        self.scaler.update()
