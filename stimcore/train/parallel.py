"""Several processes that train one network: same sub-network everywhere, gradients averaged once per step."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        rank: Of this process, from 0; rank 0 writes.
        size: Number of processes; 1 without torchrun.
        local_rank: Index of this process on its machine, and so of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def share(self, index: Tensor) -> Tensor:
        """This rank's part of a batch that all ranks know."""
        return index[self.rank :: self.size]

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over all ranks, in one reduction.

        Parameters without a gradient on this step have none on any rank, as all ranks ran the same sub-network.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()

    def mean(self, value: float) -> float:
        """The mean of a number over all ranks."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(box)
        return float(box) / self.size

    def barrier(self) -> None:
        """Waits for all ranks."""
        if self.size > 1:
            dist.barrier()


def join(device: torch.device) -> World:
    """The world that torchrun's variables describe (nccl on CUDA, gloo on the CPU); a world of one without them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # or nccl would put all ranks on the first
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=10))
    return World(rank=dist.get_rank(), size=size, local_rank=int(os.environ.get("LOCAL_RANK", "0")))


def leave() -> None:
    """Ends the processes' group, if there is one: its threads must not outlive the interpreter, which would abort."""
    if dist.is_initialized():
        dist.destroy_process_group()
