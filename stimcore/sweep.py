"""`python -m stimcore.sweep`: accuracies of a whole family of sub-networks of one bundle."""

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from tqdm import tqdm

from stimcore import cli, files
from stimcore.bundle import Bundle, open_bundle
from stimcore.enumerate import KINDS, count, family, sample
from stimcore.errors import UsageError
from stimcore.runtime.engine import Engine
from stimcore.topology import Spec


def sweep(
    bundle: Bundle, specs: Sequence[Spec], kind: str, *, device: str = "cpu", threads: int = 1, progress: bool = False
) -> dict[str, Any]:
    """Evaluates specs by one walk over the tree of their prefixes.

    Returns:
        The sweep in the form of ARCHITECTURE: experiment, method, kind, provider, images, main, results.
    """
    engine = Engine(bundle, device=device, threads=threads)
    chunk = 2000
    bar = tqdm(disable=not progress, unit="image", desc=f"{bundle.method} {kind}")
    scores: dict[Spec, Any] = {}
    for report in engine.evaluate(specs, chunk_images=chunk):
        scores = report.scores
        bar.total, bar.n = report.images_total, report.images
        bar.set_description(f"{bundle.method} {kind}: {'re-calibrating' if report.phase == 'calibrate' else 'evaluating'}")
    bar.close()
    main = scores[bundle.topology.full]
    return {
        "experiment": bundle.experiment.name,
        "method": bundle.method,
        "kind": kind,
        "provider": engine.provider,
        "images": main.images,
        "main": main.to_dict(),
        "results": [scores[spec].to_dict() for spec in specs],
    }


def _part(path: Path, specs: Sequence[str], kind: str, device: str) -> dict[str, Any]:
    """One worker's share, in its own process."""
    bundle = open_bundle(path, verify=False)
    return sweep(bundle, [bundle.topology.parse(text) for text in specs], kind, device=device)


def split(specs: Sequence[Spec], jobs: int) -> list[list[Spec]]:
    """Contiguous shares of specs in tree order, so that workers share as little as possible."""
    ordered = sorted(specs, key=lambda spec: spec.blocks)
    size = -(-len(ordered) // jobs)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def main(argv: Sequence[str]) -> int:
    """Sweeps; returns the exit code."""
    line = cli.Parser(prog="python -m stimcore.sweep", description="Evaluate a family of sub-networks of a bundle.")
    line.add_argument("bundle", metavar="BUNDLE", type=Path, help="exported/EXPERIMENT/METHOD")
    line.add_argument("--kind", required=True, choices=KINDS, help="ordered sub-networks, deletions or permutations")
    line.add_argument("--limit", type=int, metavar="N", help="a random sample of N (seeded) instead of the whole family")
    line.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    line.add_argument("--jobs", type=int, default=1, metavar="N", help="worker processes (default: %(default)s)")
    line.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    line.add_argument("--json", metavar="FILE", help="write the numbers ('-' for standard output)")
    line.add_argument("--store", action="store_true", help="keep them in the bundle as sweep-KIND.json")
    options = line.parse_args(argv)
    if options.jobs < 1 or (options.limit is not None and options.limit < 1):
        raise UsageError(f"--jobs {options.jobs}, --limit {options.limit}", allowed="1 and more")
    bundle = open_bundle(options.bundle)
    topology, kind = bundle.topology, options.kind
    if options.store and options.limit:
        raise UsageError("--store with --limit", allowed="whole families only")
    if options.limit:
        specs = sample(topology, kind, options.limit, random.Random(options.seed))
    elif count(topology, kind) > 100_000:
        raise UsageError(
            f"{count(topology, kind):,} sub-networks", allowed="at most 100,000", todo="Give --limit N for a sample."
        )
    else:
        specs = list(family(topology, kind))
    if not specs:
        raise UsageError(f"{topology.network} has no family '{kind}'")
    if options.jobs == 1:
        result = sweep(bundle, specs, kind, device=options.device, progress=sys.stderr.isatty())
    else:
        shares = Parallel(n_jobs=options.jobs)(
            delayed(_part)(options.bundle, [str(spec) for spec in share], kind, options.device)
            for share in split(specs, options.jobs)
        )
        found = {row["spec"]: row for share in shares for row in share["results"]}
        result = {**shares[0], "results": [found[str(spec)] for spec in specs]}
    if options.json != "-":
        _print(result)
    cli.write_report(options.json, result)
    if options.store:
        files.write_json(options.bundle / f"sweep-{kind}.json", result)
    return 0


def _print(result: dict[str, Any]) -> None:
    main = result["main"]
    print(f"{result['experiment']}/{result['method']}: main network {main['accuracy_pct']:.2f}% of {result['images']:,} images")
    for row in result["results"][:40]:
        low, high = row["drop_interval_pct"]
        print(f"  {row['spec']:40} {row['accuracy_pct']:6.2f}%  drop {row['drop_pct']:6.2f} points [{low:.2f}, {high:.2f}]")
    if len(result["results"]) > 40:
        print(f"  ... and {len(result['results']) - 40} more; --json FILE writes all")


if __name__ == "__main__":
    cli.run(main)
