"""Batch norms of a module: list them, make them synchronised, keep a forward from writing their running statistics."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """Return all batch norms of a module in the order in which they are registered."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


def give_running_statistics(module: nn.Module) -> None:
    """Give running statistics to the batch norms of a module that keep none (`track_running_stats=False`).

    Without them an answer depends on which other images are in the batch. Training computes the same as before; evaluation uses
    the statistics, which re-calibration measures.
    """
    for norm in batch_norms(module):
        if norm.running_mean is None or norm.running_var is None:
            like = next((parameter.detach() for parameter in norm.parameters()), torch.empty(norm.num_features))
            norm.register_buffer("running_mean", torch.zeros_like(like))
            norm.register_buffer("running_var", torch.ones_like(like))
            norm.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long, device=like.device))
            norm.track_running_stats = True


def to_synchronised(module: nn.Module) -> nn.Module | None:
    """Return a batch norm that shares its statistics between processes, in place of `module` and with its parameters.

    Returns:
        None if `module` is not a batch norm: an argument for `StagedNet.replace`.
    """
    if not isinstance(module, _BatchNorm):
        return None
    norm: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # torch has no annotation there
    return norm


@contextmanager
def running_statistics_frozen(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Keep batch norms in training mode from writing their running statistics; they normalise with batch statistics as usual.

    Differs: in the authors' script the forward of a sub-network writes them too; see docs/semantics.md, "Stimulative training".
    """
    tracking = [norm for norm in norms if norm.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True
