"""`python -m stimcore.experiments`: list the experiments, show or run their commands."""

from collections.abc import Sequence
from pathlib import Path

from stimcore import cli
from stimcore.errors import UsageError
from stimcore.experiments.catalogue import (
    PLANS,
    fill_commands,
    find_plan,
    open_commands,
    report_command,
    run_command,
    run_open_commands,
)


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(
        prog="python -m stimcore.experiments", description="The experiments: list them, show or run their commands."
    )
    line.add_argument("what", choices=["list", "show", "run"])
    line.add_argument("name", nargs="?", metavar="NAME", help="one of: " + ", ".join(PLANS))
    line.add_argument(
        "--dataset", metavar="NAME", help="images of CIFAR-10, for experiments that need them: cifar10 or folder:PATH"
    )
    line.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of pre-trained weights, for experiments that need them"
    )
    line.add_argument("--shared", type=Path, metavar="DIR", help="folder with data/cifar10-jpeg.tar.gz and data/pretrained/")
    return line


def main(argv: Sequence[str]) -> int:
    """List, show or run."""
    options = parser().parse_args(argv)
    if options.what == "list":
        if options.name or options.dataset or options.weights or options.shared:
            raise UsageError("'list' with a name or an option", allowed="list alone")
        _print_list()
        return 0
    if options.name is None:
        raise UsageError(f"{options.what} without a name", allowed=", ".join(PLANS))
    plan = find_plan(options.name)
    commands = fill_commands(plan, dataset=options.dataset, weights=options.weights, shared=options.shared)
    if options.what == "run":
        return run_open_commands(commands) or run_command(report_command(plan))
    for command in [*commands, report_command(plan)]:
        print(command)
    return 0


def _print_list() -> None:
    for plan in PLANS.values():
        done = len(plan.commands) - len(open_commands(plan.commands, Path()))
        kept = "in the project" if plan.committed else "built by you"
        print(f"{plan.name:24} {kept:14} {done:>3} of {len(plan.commands):>2} steps done  {plan.about}")


if __name__ == "__main__":
    cli.run(main)
