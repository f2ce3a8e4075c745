"""Several processes that train one network: the same sub-network everywhere, gradients averaged once per step.

`torch.nn.parallel.DistributedDataParallel` is not used. It expects one backward pass per step that gives every weight its
gradient, and reduces each gradient during that pass. A step of stimulative training has several partial backward passes that
add to the gradients of shared weights, and other blocks are skipped in every step. Its options for unused weights and for
passes without reduction leave the gradients of skipped blocks unreduced. One reduction after all passes is correct for every
method.
"""

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
        rank: Number of this process, from 0; rank 0 writes files and prints.
        size: Number of processes; 1 without torchrun.
        local_rank: Number of this process on its machine, which is the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def share(self, index: Tensor) -> Tensor:
        """Return this rank's part of a batch: every `size`-th element, so that the parts of all ranks are a partition."""
        return index[self.rank :: self.size]

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over all ranks.

        Called once per step, after the last backward pass. Parameters without a gradient in this step have none on any rank,
        because all ranks ran the same sub-network; so the flat buffers of all ranks have the same layout.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        # one reduction of one buffer: many small ones would cost a round trip each
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()

    def mean(self, value: float) -> float:
        """Return the mean of a number over all ranks."""
        if self.size == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(total)
        return float(total) / self.size

    def barrier(self) -> None:
        """Wait until all ranks have arrived here."""
        if self.size > 1:
            dist.barrier()

    def local_device(self, device: torch.device) -> torch.device:
        """Return the device of this process: each process on a machine has its own GPU."""
        return torch.device("cuda", self.local_rank) if device.type == "cuda" and self.size > 1 else device


def join(device: torch.device) -> World:
    """Join the processes that torchrun started, with nccl on CUDA and gloo on the CPU; without torchrun there is one process.

    Returns:
        The processes, and the rank of this one among them.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # nccl would otherwise put all ranks on the first GPU
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=10))
    return World(rank=dist.get_rank(), size=size, local_rank=int(os.environ.get("LOCAL_RANK", "0")))


def leave() -> None:
    """Leave the group of processes, if there is one: its threads must not outlive the interpreter, which would abort."""
    if dist.is_initialized():
        dist.destroy_process_group()
