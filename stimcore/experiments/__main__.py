"""`python -m stimcore.experiments`: list the experiments, show or run their commands."""

import sys
from collections.abc import Sequence
from pathlib import Path

from stimcore import cli
from stimcore.errors import UsageError
from stimcore.experiments.catalogue import ALIASES, PLANS, find_plan
from stimcore.experiments.commands import (
    STOPPED,
    Command,
    ExperimentPlan,
    fill_commands,
    finished_commands,
    open_commands,
    report_command,
    run_command,
    run_open_commands,
)

EXPORTED = Path("exported")


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
    line.add_argument(
        "--runs", type=Path, metavar="DIR", help="where the run folders are, as DIR/EXPERIMENT/NAME-SEED (default: runs)"
    )
    line.add_argument(
        "--finished-only", action="store_true", help="train nothing: export, sweep and report the trainings that are finished"
    )
    return line


def main(argv: Sequence[str]) -> int:
    """List, show or run."""
    options = parser().parse_args(argv)
    if options.what == "list":
        given = (options.name, options.dataset, options.weights, options.shared, options.runs, options.finished_only)
        if any(given):
            raise UsageError("'list' with a name or an option", allowed="list alone")
        _print_list()
        return 0
    if options.name is None:
        raise UsageError(f"{options.what} without a name", allowed=", ".join([*PLANS, *ALIASES]))
    plan = find_plan(options.name)
    commands = fill_commands(
        plan,
        dataset=options.dataset,
        weights=options.weights,
        shared=options.shared,
        runs=options.runs,
        makes_runs=not options.finished_only,
    )
    if options.finished_only:
        commands = _without_trainings(commands)
    if options.what == "run":
        unpacked = [command for command in commands if command.words[0] == "tarfile" and not Path(command.output).exists()]
        if missing := [command.words[4] for command in unpacked if not Path(command.words[4]).is_file()]:
            raise UsageError(f"there is no {missing[0]}", allowed="--shared DIR with data/ in it, or --dataset")
        return _run(plan, commands)
    for command in [*commands, report_command(plan)]:
        print(command)
    return 0


def _without_trainings(commands: Sequence[Command]) -> list[Command]:
    """Return the commands of finished trainings, and name the others on standard error."""
    kept, unfinished = finished_commands(commands)
    if not any(command.run for command in kept):
        raise UsageError(
            "--finished-only where no training is finished",
            todo="Give the folder of the run folders with --runs, or leave --finished-only out to train.",
        )
    if unfinished:
        names = ", ".join(Path(run).name for run in unfinished)
        print(f"left out, {len(unfinished)} runs that are not finished: {names}", file=sys.stderr)
    return kept


def _run(plan: ExperimentPlan, commands: Sequence[Command]) -> int:
    """Run the open commands, and then the report of what is there, also when one of the commands failed."""
    code = run_open_commands(commands)
    if code == STOPPED:
        return code
    there = [name for name in plan.folders if (EXPORTED / name / "experiment.json").is_file()]
    reported = run_command(report_command(plan, there)) if there else 0
    return code or (STOPPED if reported < 0 else reported)


def _print_list() -> None:
    for plan in PLANS.values():
        done = len(plan.commands) - len(open_commands(plan.commands, Path()))
        kept = "in the project" if plan.committed else "built by you"
        print(f"{plan.name:24} {kept:14} {done:>3} of {len(plan.commands):>3} steps done  {plan.about}")


if __name__ == "__main__":
    cli.run(main)
