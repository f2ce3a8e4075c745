"""`python -m stimcore.sweep`: accuracies of a family of sub-networks of one bundle."""

import os
import random
import sys
from collections.abc import Sequence
from dataclasses import replace

from stimcore import cli
from stimcore.sweep.arguments import parser

if __name__ == "__main__":
    cli.answer_early(parser)

from tqdm import tqdm

from stimcore.analysis.result import Sweep
from stimcore.bundle import open_bundle
from stimcore.bundle.bundle import AS_TRAINED
from stimcore.errors import UsageError
from stimcore.subnets.families import count, family
from stimcore.subnets.sampling import sample
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology
from stimcore.sweep.sweep import Settings, measured_sweep, store_sweep

__all__ = ["main", "parser"]

LARGEST_SWEEP = 100_000
"""Sub-networks that one sweep evaluates at most."""
PRINTED = 40
"""Results that are printed; all go to `--json`."""
WIDE = 40
"""Characters of a sub-network's name from which on the short form of ordered ones is printed."""


def main(argv: Sequence[str]) -> int:
    """Sweep a family and return the exit code."""
    options = parser().parse_args(argv)
    if options.jobs < 1 or (options.limit is not None and options.limit < 1):
        raise UsageError(f"--jobs {options.jobs}, --limit {options.limit}", allowed="1 and more")
    bundle = open_bundle(options.bundle)
    if options.as_trained and not bundle.has_batch_norms:
        raise UsageError(
            f"--as-trained with {bundle.topology.network}, which has no batch norms",
            todo="Both ways are the same: sweep it without.",
        )
    specs = _specs(bundle.topology, options.kind, options.limit, options.seed)
    # one each, so that neither sweep removes what the other has done so far
    kind = f"{options.kind}{AS_TRAINED}" if options.as_trained else options.kind
    settings = Settings(
        device=options.device,
        num_jobs=options.jobs,
        scheduler=options.scheduler,
        # a bundle on a read-only disk can be swept too, in one go
        journal=options.bundle / f".sweep-{kind}.jsonl" if os.access(options.bundle, os.W_OK) else None,
        recalibrate=not options.as_trained,
    )
    hidden = options.quiet or not sys.stderr.isatty()
    with tqdm(unit="sub-network", disable=hidden, desc=f"{bundle.method} {options.kind}") as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result, measured = measured_sweep(bundle, specs, options.kind, settings, report=report)
    if len(specs) < count(bundle.topology, options.kind):
        result = replace(result, sampled=options.seed)
    # what took hours is kept before anything is printed, and its journal until then
    if options.store:
        store_sweep(bundle, result, measured)
    cli.write_report(options.json, result.to_dict())
    if options.json != "-":
        if not bundle.has_batch_norms:
            print(f"{bundle.topology.network} has no batch norms: nothing is re-calibrated")
        _print(result, bundle.topology)
    if settings.journal is not None:
        settings.journal.unlink(missing_ok=True)
    return 0


def _specs(topology: Topology, kind: str, limit: int | None, seed: int) -> list[Spec]:
    """Return a family, or a random sample of `limit` of its members."""
    if limit:
        specs = sample(topology, kind, limit, random.Random(seed))
    elif count(topology, kind) > LARGEST_SWEEP:
        raise UsageError(
            f"{count(topology, kind):,} sub-networks", allowed=f"at most {LARGEST_SWEEP:,}", todo="Give --limit N for a sample."
        )
    else:
        specs = list(family(topology, kind))
    if not specs:
        raise UsageError(f"{topology.network} has no family '{kind}'")
    return specs


def _print(sweep: Sweep, topology: Topology) -> None:
    main = f"main network {sweep.main.accuracy_pct:.2f}% of {sweep.images:,} images"
    print(f"{sweep.experiment}/{sweep.method}: {main}")
    for result in sweep.results[:PRINTED]:
        low, high = result.drop_interval_pct
        spec = str(result.spec)
        if len(spec) > WIDE:  # 98 blocks of a DenseNet-201 would fill three lines
            spec = topology.short(result.spec)
        print(f"  {spec:{WIDE}} {result.accuracy_pct:6.2f}%  drop {result.drop_pct:6.2f} points [{low:.2f}, {high:.2f}]")
    if len(sweep.results) > PRINTED:
        print(f"  ... and {len(sweep.results) - PRINTED} more; --json FILE writes all")


if __name__ == "__main__":
    cli.run(main)
