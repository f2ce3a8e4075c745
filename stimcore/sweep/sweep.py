"""`python -m stimcore.sweep`: accuracies of a whole family of sub-networks of one bundle.

The family is cut into shares that lie together in the tree of prefixes. Every finished sub-network leaves a line in a
journal in the bundle's folder, so that a sweep that was killed goes on where it stopped.
"""

import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stimcore import cli, files
from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.share import evaluate_share
from stimcore.errors import UsageError
from stimcore.subnets.families import KINDS, count, family
from stimcore.subnets.sampling import sample
from stimcore.subnets.spec import Spec
from stimcore.sweep import parallel

LARGEST = 100_000
"""Sub-networks that one sweep takes at most."""
SHARE = 48
"""Sub-networks that are evaluated together: what is lost when a sweep is killed, at most, for every process."""
Row = dict[str, Any]


def sweep(
    bundle: Bundle,
    specs: Sequence[Spec],
    kind: str,
    *,
    device: str = "auto",
    num_jobs: int = 1,
    scheduler: str | None = None,
    journal: Path | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Evaluates specs by walks over the tree of their prefixes.

    Args:
        bundle: Opened and verified.
        specs: Sub-networks.
        kind: What the family is called.
        device: As for `Engine`.
        num_jobs: Processes on this machine.
        scheduler: Address of a dask scheduler; None for this machine.
        journal: File for finished results, removed when all are; None for no journal.
        tell: Gets sub-networks done and in all.

    Returns:
        The sweep as it is stored in `sweep-*.json`: experiment, method, kind, provider, images, main, results; `bundle` is the
        fingerprint of the bundle that it belongs to.
    """
    head = {"bundle": bundle.fingerprint, "kind": kind, "device": device}
    known = _read(journal, head)
    shares = split([spec for spec in specs if str(spec) not in known], num_jobs)
    threads = None if num_jobs == 1 and scheduler is None else max(1, (os.cpu_count() or 1) // num_jobs)
    pieces = [(bundle.path, [str(spec) for spec in share], device, threads) for share in shares]
    tell(len(specs) - sum(map(len, shares)), len(specs))
    for _, rows in parallel.run(evaluate_share, pieces, jobs=num_jobs, scheduler=scheduler):
        known |= {row["spec"]: row for row in rows}
        _append(journal, head, rows)
        tell(sum(str(spec) in known for spec in specs), len(specs))
    main = known[str(bundle.topology.full)]
    result = {
        "experiment": bundle.experiment.name,
        "method": bundle.method,
        "kind": kind,
        "provider": main["provider"],
        "bundle": bundle.fingerprint,
        "images": main["images"],
        "main": _plain(main),
        "results": [_plain(known[str(spec)]) for spec in specs],
    }
    if journal is not None:
        journal.unlink(missing_ok=True)
    return result


def _plain(row: Row) -> Row:
    return {key: value for key, value in row.items() if key != "provider"}


def split(specs: Sequence[Spec], num_jobs: int = 1) -> list[list[Spec]]:
    """Shares of at most `SHARE` specs that lie together in the tree, so that they share most and each other least.

    Args:
        specs: Different ones.
        num_jobs: There are at least so many shares, where there are so many specs.
    """
    ordered = sorted(specs, key=lambda spec: spec.blocks)
    count_shares = max(-(-len(ordered) // SHARE), min(num_jobs, len(ordered)))
    size = -(-len(ordered) // max(1, count_shares))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)] if ordered else []


def _read(journal: Path | None, head: Row) -> dict[str, Row]:
    """Results of an earlier sweep of the same bundle that did not finish."""
    if journal is None or not journal.exists():
        return {}
    rows = []
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue  # the line that was being written when the sweep was killed
    if not rows or rows[0] != head:
        journal.unlink()
        return {}
    return {row["spec"]: row for row in rows[1:]}


def _append(journal: Path | None, head: Row, rows: Sequence[Row]) -> None:
    if journal is None:
        return
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if not journal.exists():
        text = json.dumps(head) + "\n" + text
    elif not journal.read_text(encoding="utf-8").endswith("\n"):
        text = "\n" + text  # after a line that was cut off
    with journal.open("a", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


def parser() -> cli.Parser:
    """The command line; its help text is frozen by a test."""
    line = cli.Parser(prog="python -m stimcore.sweep", description="Evaluate a family of sub-networks of a bundle.")
    line.add_argument("bundle", metavar="BUNDLE", type=Path, help="exported/EXPERIMENT/METHOD")
    line.add_argument("--kind", required=True, choices=KINDS, help="ordered sub-networks, deletions or permutations")
    line.add_argument("--limit", type=int, metavar="N", help="a random sample of N (seeded) instead of the whole family")
    line.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    line.add_argument("--jobs", type=int, default=1, metavar="N", help="worker processes (default: %(default)s)")
    line.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="a dask scheduler whose workers see the same files")
    line.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    line.add_argument("--json", metavar="FILE", help="write the numbers ('-' for standard output)")
    line.add_argument("--store", action="store_true", help="keep them in the bundle as sweep-KIND.json")
    line.add_argument("--quiet", action="store_true", help="no progress bar")
    return line


def main(argv: Sequence[str]) -> int:
    """Sweeps; returns the exit code."""
    options = parser().parse_args(argv)
    if options.jobs < 1 or (options.limit is not None and options.limit < 1):
        raise UsageError(f"--jobs {options.jobs}, --limit {options.limit}", allowed="1 and more")
    if options.store and options.limit:
        raise UsageError("--store with --limit", allowed="whole families only")
    bundle = open_bundle(options.bundle)
    topology, kind = bundle.topology, options.kind
    if options.limit:
        specs = sample(topology, kind, options.limit, random.Random(options.seed))
    elif count(topology, kind) > LARGEST:
        raise UsageError(
            f"{count(topology, kind):,} sub-networks", allowed=f"at most {LARGEST:,}", todo="Give --limit N for a sample."
        )
    else:
        specs = list(family(topology, kind))
    if not specs:
        raise UsageError(f"{topology.network} has no family '{kind}'")
    writable = os.access(options.bundle, os.W_OK)
    with tqdm(unit="sub-network", disable=options.quiet or not sys.stderr.isatty(), desc=f"{bundle.method} {kind}") as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = sweep(
            bundle,
            specs,
            kind,
            device=options.device,
            num_jobs=options.jobs,
            scheduler=options.scheduler,
            journal=options.bundle / f".sweep-{kind}.jsonl" if writable else None,
            tell=tell,
        )
    if options.json != "-":
        _print(result)
    cli.write_report(options.json, result)
    if options.store:
        files.write_json(options.bundle / f"sweep-{kind}.json", result)
    return 0


def _print(result: Row) -> None:
    main = result["main"]
    print(f"{result['experiment']}/{result['method']}: main network {main['accuracy_pct']:.2f}% of {result['images']:,} images")
    for row in result["results"][:40]:
        low, high = row["drop_interval_pct"]
        print(f"  {row['spec']:40} {row['accuracy_pct']:6.2f}%  drop {row['drop_pct']:6.2f} points [{low:.2f}, {high:.2f}]")
    if len(result["results"]) > 40:
        print(f"  ... and {len(result['results']) - 40} more; --json FILE writes all")


if __name__ == "__main__":
    cli.run(main)
