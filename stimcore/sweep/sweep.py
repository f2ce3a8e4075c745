"""Sweeps: a family of sub-networks of one bundle, evaluated share by share."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stimcore.analysis.result import Sweep
from stimcore.bundle import Bundle
from stimcore.subnets.spec import Spec
from stimcore.sweep import parallel
from stimcore.sweep.journal import Journal
from stimcore.sweep.share import evaluate_share

SHARE_SPECS = 48
"""Sub-networks in one share: at most what is lost of each process when a sweep is killed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a sweep runs.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        num_jobs: Processes on this machine.
        scheduler: Address of a dask scheduler whose workers see the same files; None for this machine.
        journal: File for finished results, removed when the sweep is complete; None keeps no journal.
    """

    device: str = "auto"
    num_jobs: int = 1
    scheduler: str | None = None
    journal: Path | None = None


def sweep(
    bundle: Bundle,
    specs: Sequence[Spec],
    kind: str,
    settings: Settings | None = None,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Sweep:
    """Evaluate specs by walks over the tree of their prefixes.

    Args:
        bundle: Opened and verified.
        specs: Sub-networks of the bundle, at least one.
        kind: Name of the family.
        settings: How the sweep runs.
        report: Called with the number of sub-networks done and their total, after every share.

    Raises:
        UsageError: The settings name a device or a scheduler that can't be used.
        Unavailable: No scheduler answers, or a share ended its process again and again.
    """
    settings = settings or Settings()
    journal = Journal(settings.journal, bundle.fingerprint, kind, settings.device)
    known = journal.read()
    shares = split([spec for spec in specs if spec not in known], settings.num_jobs)
    # processes on one machine divide its cores; a single process, here or on a dask worker, uses all that it finds
    alone = settings.num_jobs == 1 and settings.scheduler is None
    threads = None if alone else max(1, (os.cpu_count() or 1) // settings.num_jobs)
    pieces = [(bundle.path, share, settings.device, threads) for share in shares]
    report(len(specs) - sum(map(len, shares)), len(specs))
    for _, measured in parallel.run(evaluate_share, pieces, jobs=settings.num_jobs, scheduler=settings.scheduler):
        known |= {entry.result.spec: entry for entry in measured}
        journal.append(measured)
        report(sum(spec in known for spec in specs), len(specs))
    main = known[bundle.topology.full]
    complete = Sweep(
        experiment=bundle.experiment.name,
        method=bundle.method,
        kind=kind,
        provider=main.provider,
        images=main.result.images,
        main=main.result,
        results=tuple(known[spec].result for spec in specs),
        bundle=bundle.fingerprint,
    )
    journal.remove()
    return complete


def split(specs: Sequence[Spec], num_jobs: int = 1) -> list[list[Spec]]:
    """Divide specs into shares of at most `SHARE_SPECS` that share long prefixes.

    Specs sorted by their blocks are neighbours in the prefix tree: what a share has in common is computed once, and little is
    computed in two shares.

    Args:
        specs: Sub-networks, each once.
        num_jobs: Make at least this many shares if there are enough specs.

    Example:
        >>> [list(map(str, share)) for share in split([Spec(((1, 2),)), Spec(((2,),)), Spec(((1,),))], num_jobs=2)]
        [['1', '1-2'], ['2']]
    """
    ordered = sorted(specs, key=lambda spec: spec.blocks)
    num_shares = max(-(-len(ordered) // SHARE_SPECS), min(num_jobs, len(ordered)))
    size = -(-len(ordered) // max(1, num_shares))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)] if ordered else []
