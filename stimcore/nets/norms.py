"""Batch norms of a module: finding them, running them on batch statistics, leaving their running statistics alone."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """All batch norms in order of registration."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


def synchronised(module: nn.Module) -> nn.Module | None:
    """For a batch norm one with the same parameters that shares its statistics between processes; None for anything else."""
    if not isinstance(module, _BatchNorm):
        return None
    other: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # torch's stub
    return other


@contextmanager
def statistics_kept(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Inside, batch norms in training mode use batch statistics and write nothing to their running ones.

    Differs: the authors' script lets the sub-network's pass write them too; see docs/semantics.md, "Stimulative training".
    """
    tracking = [norm for norm in norms if norm.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True
