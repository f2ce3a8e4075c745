"""Commands of an experiment: what they write, what they need, and which of them are still to be run.

Every command names the file that it writes, so that a run that was stopped continues at the first command whose file is
missing; a training continues at its last finished epoch.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stimcore import files
from stimcore.errors import UsageError

IMAGES, WEIGHTS, RUNS = "{dataset}", "{weights}", "{runs}"
"""Placeholders in a command: the data set's name, the folder of pre-trained weights, the folder of the run folders."""
DEFAULT_RUNS = "runs"
"""Where the run folders are when nothing else is said."""
UNPACKED, LAST_IMAGE = "runs/data/cifar10-jpeg", "test/truck/0999.jpg"
"""Folder that the archive of images is unpacked into, and the last image of the archive."""
STOPPED = 130
"""Exit code of a command that Ctrl-C ended."""
MAKERS = ("stimcore.train", "stimcore.convert")
"""Modules that write a run folder."""


@dataclass(frozen=True)
class Command:
    """One command of an experiment.

    Attributes:
        words: Module and arguments that follow `python -m`.
        output: The file that it writes last, relative to the project's folder.
        run: The run folder that it writes or reads; empty where there is none.
    """

    words: tuple[str, ...]
    output: str
    run: str = ""

    @property
    def makes_run(self) -> bool:
        """Whether it writes a run folder."""
        return self.words[0] in MAKERS

    def __str__(self) -> str:
        """Return the command as it is typed."""
        return f"python -m {shlex.join(self.words)}"


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan:
    """The commands that make one or several folders under `exported/`.

    Attributes:
        name: Name of the plan.
        about: What it is for.
        commands: In the order in which they run.
        committed: Whether the folder is part of the project; otherwise it is built on the user's machine.
        experiments: Folders under `exported/` that it makes; the one with the plan's name when empty.
    """

    name: str
    about: str
    commands: tuple[Command, ...]
    committed: bool = True
    experiments: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders under `exported/` that it makes."""
        return self.experiments or (self.name,)

    @property
    def needs(self) -> tuple[str, ...]:
        """The placeholders without a default that must be filled before it runs."""
        return open_places(self.commands)


def open_places(commands: Sequence[Command]) -> tuple[str, ...]:
    """Return the placeholders without a default that stand in commands."""
    words = [word for command in commands for word in command.words]
    return tuple(place for place in (IMAGES, WEIGHTS) if any(place in word for word in words))


def fill_commands(
    plan: ExperimentPlan,
    *,
    dataset: str | None = None,
    weights: Path | None = None,
    shared: Path | None = None,
    runs: Path | None = None,
    makes_runs: bool = True,
) -> list[Command]:
    """Return the commands of a plan with their placeholders filled.

    Args:
        plan: The plan.
        dataset: A name that `stimcore.train --dataset` accepts, in place of `{dataset}`.
        weights: Folder of pre-trained weights, in place of `{weights}`.
        shared: Folder with `data/cifar10-jpeg.tar.gz` and `data/pretrained/`: stands for both, and a first command unpacks the
            images.
        runs: Folder whose `EXPERIMENT/` holds the run folders; `runs` when None.
        makes_runs: Whether commands that write run folders will run. When they don't, their other placeholders may stay open.

    Raises:
        UsageError: A placeholder of a command that will run stays open, or an option was given that the plan does not use.

    Example:
        >>> from stimcore.experiments.catalogue import find_plan
        >>> commands = fill_commands(find_plan("resnet20-cifar10"), dataset="folder:images")
        >>> commands[0].words[:6]
        ('stimcore.train', 'resnet20-cifar10', '--method', 'common', '--dataset', 'folder:images')
    """
    given = {"--dataset": dataset, "--weights": weights, "--shared": shared}
    option_of = {IMAGES: "--dataset", WEIGHTS: "--weights"}
    usable = {option_of[place] for place in plan.needs} | ({"--shared"} if plan.needs else set())
    if unused := [option for option, value in given.items() if value is not None and option not in usable]:
        raise UsageError(f"{', '.join(unused)} for {plan.name}", allowed=", ".join(sorted(usable)) or "neither")
    if shared is not None and dataset is not None:
        raise UsageError("--shared and --dataset", allowed="one of the two: --shared brings the images")
    commands: list[Command] = []
    if shared is not None and IMAGES in plan.needs:
        archive = shared / "data" / "cifar10-jpeg.tar.gz"
        commands.append(Command(("tarfile", "--filter", "data", "-e", str(archive), UNPACKED), f"{UNPACKED}/{LAST_IMAGE}"))
        dataset = f"folder:{UNPACKED}"
    if shared is not None and weights is None:
        weights = shared / "data" / "pretrained"
    values = {IMAGES: dataset, WEIGHTS: None if weights is None else str(weights)}
    needs = open_places([command for command in plan.commands if makes_runs or not command.makes_run])
    if missing := [option_of[place] for place in needs if values[place] is None]:
        ways = {"--dataset": "--dataset cifar10 (downloaded) or folder:PATH", "--weights": "--weights DIR"}
        allowed = " and ".join(ways[option_of[place]] for place in needs)
        raise UsageError(f"{plan.name} needs {' and '.join(missing)}", allowed=f"{allowed}; or --shared DIR")

    def fill(text: str) -> str:
        for place, value in {**values, RUNS: DEFAULT_RUNS if runs is None else runs.as_posix()}.items():
            text = text if value is None else text.replace(place, value)
        return text

    for command in plan.commands:
        commands.append(
            replace(command, words=tuple(map(fill, command.words)), output=fill(command.output), run=fill(command.run))
        )
    return commands


def open_commands(commands: Sequence[Command], folder: Path) -> list[Command]:
    """Return the commands whose file is not in the project's folder yet; an open place for run folders is the default one."""
    return [command for command in commands if not (folder / command.output.replace(RUNS, DEFAULT_RUNS)).exists()]


def is_finished(run: Path) -> bool:
    """Return whether a run folder holds a training that has reached the last epoch of its recipe.

    A run folder of converted weights, which has no recipe, is finished.
    """
    try:
        recipe = json.loads((run / "run.json").read_text(encoding="utf-8"))["recipe"]
        records = files.read_jsonl(run / "training.jsonl")
        epochs = recipe["epochs"] if recipe else 0
        # a process that ended between its last checkpoint and the record of that epoch has trained to the end
        return (bool(records) and records[-1]["epoch"] >= epochs) or not recipe or (run / f"checkpoint-{epochs:04}.pt").exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False  # no run folder, or one that is being written for the first time


def finished_commands(commands: Sequence[Command]) -> tuple[list[Command], list[str]]:
    """Return the commands that need no training: those whose run folder is finished, without the trainings themselves.

    Returns:
        These commands, and the run folders that are not finished, both in the order of the commands.
    """
    finished = {run: is_finished(Path(run)) for run in dict.fromkeys(command.run for command in commands) if run}
    kept = [command for command in commands if not command.makes_run and finished.get(command.run, True)]
    return kept, [run for run, done in finished.items() if not done]


def report_command(plan: ExperimentPlan, folders: Sequence[str] = ()) -> Command:
    """Return the command that follows the last one, every time: all tables and figures as one page for each experiment.

    Args:
        plan: The plan.
        folders: Those of its folders that exist; all when empty.

    Example:
        >>> from stimcore.experiments.catalogue import find_plan
        >>> print(report_command(find_plan("densenet-loafing")))
        python -m stimcore.report exported/densenet-loafing --out report
    """
    names = list(folders) or list(plan.folders)
    words = ("stimcore.report", *(f"exported/{name}" for name in names), "--out", "report")
    return Command(words, f"report/{names[-1]}.html")


def run_command(command: Command) -> int:
    """Run one command in the current folder and return its exit code."""
    return subprocess.run([sys.executable, "-m", *command.words], check=False).returncode


def run_open_commands(commands: Sequence[Command]) -> int:
    """Run the open commands in the current folder, one after the other.

    When a command of a run fails, the other commands of this run are left out and the other runs go on: a training that
    collapses at midnight does not cost the night. Every other failure, and Ctrl-C, ends the series.

    Returns:
        The exit code of the first command that fails, else 0; `STOPPED` as soon as Ctrl-C or a signal ended one.
    """
    failed: dict[str, int] = {}
    for number, command in enumerate(commands, 1):
        if command.run in failed or not open_commands([command], Path()):
            continue
        print(f"[{number}/{len(commands)}] {command}", flush=True)
        code = run_command(command)
        if code < 0 or code == STOPPED or (code and not command.run):
            print(f"stopped at step {number} of {len(commands)}; the same command continues there.", file=sys.stderr)
            return code if code > 0 else STOPPED  # a negative code is the signal that ended the command
        if code:
            failed[command.run] = code
            print(f"step {number} failed: the other steps of {command.run} are left out.", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries again.", file=sys.stderr)
    return next(iter(failed.values()), 0)
