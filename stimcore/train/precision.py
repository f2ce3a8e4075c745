"""Number formats of training: fp32, bf16 autocast, fp16 autocast with loss scaling (CUDA only)."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from stimcore.errors import UsageError


class Precision:
    """Autocast context, backward and optimiser step of one number format.

    Raises:
        UsageError: fp16 without CUDA.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "fp16" and device.type != "cuda":
            raise UsageError("fp16 needs a CUDA device", allowed="fp32 or bf16 on the CPU")
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which forwards run."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.name == "bf16" else torch.float16)

    def backward(self, loss: Tensor) -> None:
        """Accumulates gradients, scaled where the format wants it."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch has no annotation there

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes the scale out of accumulated gradients."""
        self.scaler.unscale_(optimizer) if self.scaler.is_enabled() else None

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One optimiser step; fp16 skips it when gradients overflowed."""
        self.scaler.step(optimizer)
        self.scaler.update()


def pick_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`.

    Raises:
        UsageError: Another name, or CUDA where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"there is no device '{name}'", allowed="auto, cpu, cuda, cuda:0, ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device '{name}' is not on this machine", allowed="cpu" + _cuda_names())
    return device


def _cuda_names() -> str:
    return "".join(f", cuda:{i}" for i in range(torch.cuda.device_count()))


def finite(values: Iterable[Tensor]) -> bool:
    """Whether every number is finite."""
    return all(bool(torch.isfinite(value).all()) for value in values)
