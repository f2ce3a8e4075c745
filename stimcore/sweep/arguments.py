"""The command line of `python -m stimcore.sweep`: which family of which bundle."""

from pathlib import Path

from stimcore import cli
from stimcore.subnets.families import KINDS


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(prog="python -m stimcore.sweep", description="Evaluate a family of sub-networks of a bundle.")
    line.add_argument("bundle", metavar="BUNDLE", type=Path, help="exported/EXPERIMENT/METHOD")
    line.add_argument("--kind", required=True, choices=KINDS, help="ordered sub-networks, deletions or permutations")
    line.add_argument("--limit", type=int, metavar="N", help="evaluate a random sample of N instead of the whole family")
    line.add_argument("--seed", type=cli.seed, default=0, help="seed of the sample (default: %(default)s)")
    line.add_argument("--jobs", type=int, default=1, metavar="N", help="worker processes (default: %(default)s)")
    line.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="use a dask scheduler whose workers see the same files")
    cli.add_device(line)
    cli.add_provider(line)
    cli.add_json(line, "write the results as JSON")
    line.add_argument(
        "--store",
        action="store_true",
        help="store the results in the bundle as sweep-KIND.json, with --limit as sample-KIND.json",
    )
    line.add_argument(
        "--as-trained", action="store_true", help="keep the batch-norm statistics that training left instead of re-calibrating"
    )
    cli.add_quiet(line)
    return line
