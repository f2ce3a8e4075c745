"""Sweeps: a family of sub-networks of one bundle, evaluated share by share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stimcore import files
from stimcore.analysis.result import Sweep
from stimcore.bundle import Bundle
from stimcore.bundle import hits as hits_file
from stimcore.bundle import wall as wall_file
from stimcore.bundle.bundle import AS_TRAINED
from stimcore.bundle.store import update_bundle
from stimcore.engine.cpus import usable_cpus
from stimcore.errors import BundleError
from stimcore.subnets.spec import Spec
from stimcore.sweep import parallel
from stimcore.sweep.journal import Journal
from stimcore.sweep.share import Measured, evaluate_share

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
        recalibrate: Whether the batch norms of each sub-network are re-calibrated; otherwise all run on the statistics that
            training left.
    """

    device: str = "auto"
    num_jobs: int = 1
    scheduler: str | None = None
    journal: Path | None = None
    recalibrate: bool = True


def sweep(
    bundle: Bundle,
    specs: Sequence[Spec],
    kind: str,
    settings: Settings | None = None,
    *,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Sweep:
    """Evaluate specs, and remove the journal; see `measured_sweep`, which returns more."""
    complete, _ = measured_sweep(bundle, specs, kind, settings, report=report)
    if settings is not None and settings.journal is not None:
        settings.journal.unlink(missing_ok=True)
    return complete


def measured_sweep(
    bundle: Bundle,
    specs: Sequence[Spec],
    kind: str,
    settings: Settings | None = None,
    *,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Sweep, list[Measured]]:
    """Evaluate specs by walks over the tree of their prefixes.

    Args:
        bundle: Opened and verified.
        specs: Sub-networks of the bundle, at least one.
        kind: Name of the family.
        settings: How the sweep runs.
        report: Called with the number of sub-networks done and their total, after every share.

    Returns:
        The sweep, and everything that was measured, the main network included: hits and answers for the picture wall, too. The
        journal stays: `settings.journal` is the caller's to remove, as soon as the results are where they shall be.

    Raises:
        UsageError: The settings name a device or a scheduler that can't be used.
        Unavailable: No scheduler answers, or a share ended its process again and again.
    """
    settings = settings or Settings()
    kind = kind if settings.recalibrate else f"{kind}{AS_TRAINED}"
    wall = () if bundle.wall is None else bundle.wall.images
    journal = Journal(settings.journal, bundle.fingerprint, kind, settings.device, wall)
    known = journal.read()
    shares = split([spec for spec in specs if spec not in known], settings.num_jobs)
    # processes on one machine divide its cores; a single process, here or on a dask worker, uses all that it finds
    alone = settings.num_jobs == 1 and settings.scheduler is None
    threads = None if alone else max(1, usable_cpus() // settings.num_jobs)
    pieces = [(bundle.path, share, settings.device, threads, settings.recalibrate) for share in shares]
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
    return complete, list(known.values())


def store_sweep(bundle: Bundle, sweep: Sweep, measured: Iterable[Measured]) -> None:
    """Store a sweep in its bundle, and the hits and answers of its sub-networks beside those that are there.

    The file is `sweep-KIND.json`, for a sample `sample-KIND.json`.

    Args:
        bundle: The bundle; its files are read anew.
        sweep: The sweep.
        measured: What `measured_sweep` returned with it.

    Raises:
        BundleError: The bundle was exported again since the sweep began, or is broken.
    """
    entries = list(measured)
    wall_images = None if bundle.wall is None else bundle.wall.images

    def contents(present: Bundle) -> dict[str, bytes]:
        if present.fingerprint != sweep.bundle:
            raise BundleError(f"{bundle.path} was exported again during the sweep", todo="Sweep it again.")
        # under another name, so that nobody takes a sample for a family
        name = f"{'sweep' if sweep.sampled is None else 'sample'}-{sweep.kind}.json"
        new = {name: files.json_text(sweep.to_dict()).encode()}
        if present.all_hits is not None:
            rows = {entry.result.spec: entry.hits for entry in entries if entry.hits is not None}
            new[hits_file.FILE] = present.all_hits.with_rows(rows).to_bytes()
        # another method that was exported meanwhile may have changed the images; the answers are of the earlier ones
        if present.wall is not None and present.wall.images == wall_images:
            states = {entry.result.spec: entry.answers for entry in entries if entry.answers is not None}
            new[wall_file.FILE] = present.wall.with_states(states).to_bytes()
        return new

    update_bundle(bundle.path, contents)


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
