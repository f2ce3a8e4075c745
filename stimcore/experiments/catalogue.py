"""The experiments as literal lists of commands, and how they are run.

Every step names the file that it writes, so that a run that was stopped continues at the first step whose file is missing; a
training step continues at its last finished epoch.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stimcore.errors import UsageError

IMAGES, WEIGHTS = "{dataset}", "{weights}"
"""Placeholders in a step for the data set's name and for the folder of pre-trained weights."""
UNPACKED, LAST_IMAGE = "runs/data/cifar10-jpeg", "test/truck/0999.jpg"
"""Folder that the archive of images is unpacked into, and the last image of the archive."""


@dataclass(frozen=True)
class Command:
    """One command of an experiment.

    Attributes:
        words: Module and arguments that follow `python -m`.
        output: The file that it writes last, relative to the project's folder.
    """

    words: tuple[str, ...]
    output: str

    def __str__(self) -> str:
        """Return the command as it is typed."""
        return f"python -m {shlex.join(self.words)}"


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan:
    """The commands that make a folder under `exported/`.

    Attributes:
        name: Name of the folder.
        about: What it is for.
        commands: In the order in which they run.
        committed: Whether the folder is part of the project; otherwise it is built on the user's machine.
    """

    name: str
    about: str
    commands: tuple[Command, ...]
    committed: bool = True

    @property
    def needs(self) -> tuple[str, ...]:
        """The placeholders that must be filled before it runs."""
        words = [word for command in self.commands for word in command.words]
        return tuple(place for place in (IMAGES, WEIGHTS) if any(place in word for word in words))


def _network(
    experiment: str,
    recipe: str,
    method: str,
    *,
    name: str | None = None,
    train: Sequence[str] = (),
    subnets: Sequence[str] = ("ordered",),
    sweeps: Sequence[str] = ("ordered", "delete", "permute"),
) -> tuple[Command, ...]:
    """Return the commands that train, export and sweep one network.

    Args:
        experiment: Folder of the experiment.
        recipe: Recipe of the training.
        method: Training method.
        name: Folder of the bundle; the method's name when None.
        train: Further options of the training.
        subnets: What `stimcore.export --subnets` lists.
        sweeps: Families to sweep.
    """
    name = name or method
    run = f"runs/{experiment}/{name}-0"
    words = ("stimcore.train", recipe, "--method", method, *train, "--run-dir", run, "--resume")
    # A training counts as done with the bundle that is made from it: run folders are not part of the project.
    training = Command(words, f"exported/{experiment}/{name}/manifest.json")
    return (training, *_bundle(experiment, name, run, subnets=subnets, sweeps=sweeps))


def _bundle(
    experiment: str,
    name: str,
    run: str,
    *,
    export: Sequence[str] = (),
    subnets: Sequence[str] = ("ordered",),
    sweeps: Sequence[str] = ("ordered",),
) -> tuple[Command, ...]:
    """Return the commands that export a run folder and sweep the bundle.

    Args:
        experiment: Folder of the experiment.
        name: Folder of the bundle.
        run: Run folder.
        export: Further options of the export.
        subnets: What `stimcore.export --subnets` lists.
        sweeps: Families to sweep.
    """
    bundle = f"exported/{experiment}/{name}"
    options = ("--out", f"exported/{experiment}", "--name", name, *export, "--subnets", *subnets, "--latency", "--check", "all")
    return (
        Command(("stimcore.export", run, *options), f"{bundle}/manifest.json"),
        *(Command(("stimcore.sweep", bundle, "--kind", kind, "--store"), f"{bundle}/sweep-{kind}.json") for kind in sweeps),
    )


def _twin(experiment: str, recipe: str, spec: str, *, subnets: Sequence[str] = ("ordered",)) -> tuple[Command, ...]:
    """Return the commands for a sub-network that is trained alone, by common training, and for its ordered sub-networks."""
    return _network(
        experiment, recipe, "common", name=f"twin-{spec}", train=("--spec", spec), subnets=subnets, sweeps=("ordered",)
    )


SIX_METHODS = (
    "common",
    "stimulative",
    "layer_supervision",
    "stage_supervision",
    "self_distillation",
    "stochastic_depth",
)

RESNET20_FASHION = ExperimentPlan(
    name="resnet20-fashion",
    about="all six methods of Table r3, Figs r1, r2, r4 to r8, and the twins ResNet-8 and ResNet-14",
    commands=(
        *(command for method in SIX_METHODS for command in _network("resnet20-fashion", "resnet20-fashion", method)),
        *_twin("resnet20-fashion", "resnet20-fashion", "d1-1-1"),
        *_twin("resnet20-fashion", "resnet20-fashion", "d2-2-2"),
    ),
)

RESNET20_FASHION_LAMBDA = ExperimentPlan(
    name="resnet20-fashion-lambda",
    about="short runs over lambda, Fig. r3",
    commands=(
        *_network("resnet20-fashion-lambda", "resnet20-fashion-lambda", "common", subnets=("main",), sweeps=("ordered",)),
        *(
            command
            for weight in ("0.5", "1", "5", "10")
            for command in _network(
                "resnet20-fashion-lambda",
                "resnet20-fashion-lambda",
                "stimulative",
                name=f"stimulative-lambda{weight}",
                train=("--lambda", weight),
                subnets=("main",),
                sweeps=("ordered",),
            )
        ),
    ),
)

MOBILENETV3_FASHION = ExperimentPlan(
    name="mobilenetv3-fashion",
    about="the paper's network at half width: 144 ordered sub-networks, 511 deletions, Table r2's 23 permutations",
    commands=tuple(
        command
        for method in ("common", "stimulative")
        for command in _network("mobilenetv3-fashion", "mobilenetv3-fashion", method)
    ),
)

DENSENET_LOAFING = ExperimentPlan(
    name="densenet-loafing",
    about="a nested family of three DenseNets, each trained alone: Tables r5 and r6",
    commands=(
        *_network(
            "densenet-loafing",
            "densenet-fashion",
            "common",
            subnets=("main", "d2-3-6-4", "d2-3-8-8"),
            sweeps=("ordered",),
        ),
        *_twin("densenet-loafing", "densenet-fashion", "d2-3-6-4", subnets=("main",)),
        *_twin("densenet-loafing", "densenet-fashion", "d2-3-8-8", subnets=("main", "d2-3-6-4")),
    ),
)

VIT_TINY_FASHION = ExperimentPlan(
    name="vit-tiny-fashion",
    about="a vision transformer with both methods: do transformers loaf?",
    committed=False,
    commands=tuple(
        command for method in ("common", "stimulative") for command in _network("vit-tiny-fashion", "vit-tiny-fashion", method)
    ),
)

CONVNEXT_MINI_FASHION = ExperimentPlan(
    name="convnext-mini-fashion",
    about="a ConvNeXt, which has no batch norms, with both methods",
    committed=False,
    commands=tuple(
        command
        for method in ("common", "stimulative")
        for command in _network("convnext-mini-fashion", "convnext-mini-fashion", method)
    ),
)

RESNET_FAMILY_CIFAR10 = ExperimentPlan(
    name="resnet-family-cifar10",
    about="pre-trained ResNet-20 inside pre-trained ResNet-32, the setting of Fig. 1 (paper, C.4)",
    committed=False,
    commands=(
        *(
            Command(
                (
                    "stimcore.convert",
                    f"{WEIGHTS}/{file}",
                    "--network",
                    network,
                    "--run-dir",
                    f"runs/resnet-family-cifar10/{network}",
                    "--dataset",
                    IMAGES,
                ),
                f"runs/resnet-family-cifar10/{network}/run.json",
            )
            for network, file in (("resnet32", "resnet32-d509ac18.th"), ("resnet20", "resnet20-12fca82f.th"))
        ),
        *_bundle("resnet-family-cifar10", "imported", "runs/resnet-family-cifar10/resnet32", subnets=("main", "d3-3-3")),
        *_bundle(
            "resnet-family-cifar10",
            "twin-d3-3-3",
            "runs/resnet-family-cifar10/resnet20",
            export=("--as", "d3-3-3"),
            subnets=("main",),
        ),
    ),
)

RESNET20_CIFAR10 = ExperimentPlan(
    name="resnet20-cifar10",
    about="ResNet-20 with common and stimulative training on CIFAR-10's images",
    committed=False,
    commands=tuple(
        command
        for method in ("common", "stimulative")
        for command in _network("resnet20-cifar10", "resnet20-cifar10", method, train=("--dataset", IMAGES))
    ),
)

PLANS: dict[str, ExperimentPlan] = {
    plan.name: plan
    for plan in (
        RESNET20_FASHION,
        RESNET20_FASHION_LAMBDA,
        MOBILENETV3_FASHION,
        DENSENET_LOAFING,
        VIT_TINY_FASHION,
        CONVNEXT_MINI_FASHION,
        RESNET_FAMILY_CIFAR10,
        RESNET20_CIFAR10,
    )
}
"""Name -> plan."""


def find_plan(name: str) -> ExperimentPlan:
    """Return the plan with this name.

    Raises:
        UsageError: There is none.

    Example:
        >>> find_plan("densenet-loafing").about
        'a nested family of three DenseNets, each trained alone: Tables r5 and r6'
    """
    if name not in PLANS:
        raise UsageError(f"there is no experiment '{name}'", allowed=", ".join(PLANS))
    return PLANS[name]


def fill_commands(plan: ExperimentPlan, *, dataset: str | None, weights: Path | None, shared: Path | None) -> list[Command]:
    """Return the commands of a plan with every placeholder filled.

    Args:
        plan: The plan.
        dataset: A name that `stimcore.train --dataset` accepts, in place of `{dataset}`.
        weights: Folder of pre-trained weights, in place of `{weights}`.
        shared: Folder with `data/cifar10-jpeg.tar.gz` and `data/pretrained/`: stands for both, and a first command unpacks the
            images.

    Raises:
        UsageError: A placeholder stays open, or an option was given that the plan does not use.

    Example:
        >>> commands = fill_commands(find_plan("resnet20-cifar10"), dataset="folder:images", weights=None, shared=None)
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
    values = {IMAGES: dataset, WEIGHTS: weights}
    if missing := [option_of[place] for place in plan.needs if values[place] is None]:
        ways = {"--dataset": "--dataset cifar10 (downloaded) or folder:PATH", "--weights": "--weights DIR"}
        allowed = " and ".join(ways[option_of[place]] for place in plan.needs)
        raise UsageError(f"{plan.name} needs {' and '.join(missing)}", allowed=f"{allowed}; or --shared DIR")
    for command in plan.commands:
        words = tuple(word.replace(IMAGES, str(dataset)).replace(WEIGHTS, str(weights)) for word in command.words)
        commands.append(Command(words, command.output))
    return commands


def open_commands(commands: Sequence[Command], folder: Path) -> list[Command]:
    """Return the commands whose file is not in the project's folder yet."""
    return [command for command in commands if not (folder / command.output).exists()]


def report_command(plan: ExperimentPlan) -> Command:
    """Return the command that follows the last one, every time: all tables and figures as one page.

    Example:
        >>> print(report_command(find_plan("densenet-loafing")))
        python -m stimcore.report exported/densenet-loafing --out report
    """
    return Command(("stimcore.report", f"exported/{plan.name}", "--out", "report"), f"report/{plan.name}.html")


def run_command(command: Command) -> int:
    """Run one command in the current folder and return its exit code."""
    return subprocess.run([sys.executable, "-m", *command.words], check=False).returncode


def run_open_commands(commands: Sequence[Command]) -> int:
    """Run the open commands in the current folder, one after the other.

    Returns:
        The exit code of the first one that fails, else 0.
    """
    for number, command in enumerate(commands, 1):
        if not open_commands([command], Path()):
            continue
        print(f"[{number}/{len(commands)}] {command}", flush=True)
        code = run_command(command)
        if code:
            print(f"stopped at step {number} of {len(commands)}; the same command continues there.", file=sys.stderr)
            return code if code > 0 else 1  # a negative code is the signal that ended the command
    return 0
