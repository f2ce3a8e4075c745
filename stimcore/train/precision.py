"""Number formats of training: fp32, bf16 with autocast, fp16 with autocast and loss scaling (CUDA only)."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from stimcore.errors import UsageError


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
