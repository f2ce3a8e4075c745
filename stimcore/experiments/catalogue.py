"""The experiments as literal lists of commands, printed or run by one: `python -m stimcore.experiments run NAME`.

Every step names the file that it leaves, so that a run that was stopped goes on at the first step whose file is missing; a
training step inside it goes on at its last finished epoch.
"""

import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stimcore import cli
from stimcore.errors import UsageError

IMAGES, WEIGHTS = "{dataset}", "{weights}"
"""Places in a step for the data set's name and for the folder of pre-trained weights."""
UNPACKED, LAST_IMAGE = "runs/data/cifar10-jpeg", "test/truck/0999.jpg"
"""Where the archive of images is unpacked, and its last image."""


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        words: What follows `python -m`.
        leaves: The file that is there once it was done, seen from the project's folder.
    """

    words: tuple[str, ...]
    leaves: str


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A folder under `exported/` and how it is made.

    Attributes:
        name: Of the folder.
        about: What it is for.
        steps: In order.
        committed: Whether it is part of the project; otherwise it is built on the user's machine.
    """

    name: str
    about: str
    steps: tuple[Step, ...]
    committed: bool = True

    @property
    def needs(self) -> tuple[str, ...]:
        """The places that must be filled before it runs."""
        return tuple(place for place in (IMAGES, WEIGHTS) if any(place in word for step in self.steps for word in step.words))


def _network(
    experiment: str,
    recipe: str,
    method: str,
    *,
    name: str | None = None,
    train: Sequence[str] = (),
    subnets: Sequence[str] = ("ordered",),
    sweeps: Sequence[str] = ("ordered", "delete", "permute"),
) -> tuple[Step, ...]:
    """Train, export, sweep one network, into the folder `name` (its method's when None)."""
    name = name or method
    run, bundle = f"runs/{experiment}/{name}-0", f"exported/{experiment}/{name}"
    return (
        Step(
            ("stimcore.train", recipe, "--method", method, *train, "--run-dir", run, "--resume"),
            f"{bundle}/manifest.json",
        ),
        *_exported(experiment, name, run, subnets=subnets, sweeps=sweeps),
    )


def _exported(
    experiment: str,
    name: str,
    run: str,
    *,
    extra: Sequence[str] = (),
    subnets: Sequence[str] = ("ordered",),
    sweeps: Sequence[str] = ("ordered",),
) -> tuple[Step, ...]:
    """Export a run folder, and sweep the bundle."""
    bundle = f"exported/{experiment}/{name}"
    out = ("--out", f"exported/{experiment}", "--name", name, *extra, "--subnets", *subnets, "--latency")
    return (
        Step(("stimcore.export", run, *out), f"{bundle}/manifest.json"),
        *(Step(("stimcore.sweep", bundle, "--kind", kind, "--store"), f"{bundle}/sweep-{kind}.json") for kind in sweeps),
    )


def _twin(experiment: str, recipe: str, spec: str, *, subnets: Sequence[str] = ("ordered",)) -> tuple[Step, ...]:
    """A sub-network trained alone by common training, with its own ordered sub-networks."""
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

RESNET20_FASHION = Experiment(
    name="resnet20-fashion",
    about="all six methods of Table r3, Figs r1, r2, r4 to r8, and the twins ResNet-8 and ResNet-14",
    steps=(
        *(step for method in SIX_METHODS for step in _network("resnet20-fashion", "resnet20-fashion", method)),
        *_twin("resnet20-fashion", "resnet20-fashion", "d1-1-1"),
        *_twin("resnet20-fashion", "resnet20-fashion", "d2-2-2"),
    ),
)

RESNET20_FASHION_LAMBDA = Experiment(
    name="resnet20-fashion-lambda",
    about="short runs over lambda, Fig. r3",
    steps=(
        *_network("resnet20-fashion-lambda", "resnet20-fashion-lambda", "common", subnets=("main",), sweeps=("ordered",)),
        *(
            step
            for weight in ("0.5", "1", "5", "10")
            for step in _network(
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

MOBILENETV3_FASHION = Experiment(
    name="mobilenetv3-fashion",
    about="the paper's network at half width: 144 ordered sub-networks, 511 deletions, Table r2's 23 permutations",
    steps=tuple(
        step for method in ("common", "stimulative") for step in _network("mobilenetv3-fashion", "mobilenetv3-fashion", method)
    ),
)

DENSENET_LOAFING = Experiment(
    name="densenet-loafing",
    about="a nested family of three DenseNets, each trained alone: Tables r5 and r6",
    steps=(
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

RESNET_FAMILY_CIFAR10 = Experiment(
    name="resnet-family-cifar10",
    about="pre-trained ResNet-20 inside pre-trained ResNet-32, the setting of Fig. 1 (paper, C.4)",
    committed=False,
    steps=(
        *(
            Step(
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
        *_exported("resnet-family-cifar10", "imported", "runs/resnet-family-cifar10/resnet32", subnets=("main", "d3-3-3")),
        *_exported(
            "resnet-family-cifar10",
            "twin-d3-3-3",
            "runs/resnet-family-cifar10/resnet20",
            extra=("--as", "d3-3-3"),
            subnets=("main",),
        ),
    ),
)

RESNET20_CIFAR10 = Experiment(
    name="resnet20-cifar10",
    about="ResNet-20 with common and stimulative training on CIFAR-10's images",
    committed=False,
    steps=tuple(
        step
        for method in ("common", "stimulative")
        for step in _network("resnet20-cifar10", "resnet20-cifar10", method, train=("--dataset", IMAGES))
    ),
)

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        RESNET20_FASHION,
        RESNET20_FASHION_LAMBDA,
        MOBILENETV3_FASHION,
        DENSENET_LOAFING,
        RESNET_FAMILY_CIFAR10,
        RESNET20_CIFAR10,
    )
}
"""Name -> experiment."""


def experiment(name: str) -> Experiment:
    """An experiment by name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in EXPERIMENTS:
        raise UsageError(f"there is no experiment '{name}'", allowed=", ".join(EXPERIMENTS))
    return EXPERIMENTS[name]


def prepared(plan: Experiment, *, dataset: str | None, weights: Path | None, shared: Path | None) -> list[Step]:
    """The steps with every place filled.

    Args:
        plan: The experiment.
        dataset: A name that `stimcore.train --dataset` takes, in place of `{dataset}`.
        weights: Folder of pre-trained weights, in place of `{weights}`.
        shared: Folder with `data/cifar10-jpeg.tar.gz` and `data/pretrained/`; stands for both, unpacking the images first.

    Raises:
        UsageError: A place is left open, or something was given that the experiment has no use for.
    """
    given = {"--dataset": dataset, "--weights": weights, "--shared": shared}
    useful = {IMAGES: "--dataset", WEIGHTS: "--weights"}
    taken = {useful[place] for place in plan.needs} | ({"--shared"} if plan.needs else set())
    if idle := [option for option, value in given.items() if value is not None and option not in taken]:
        raise UsageError(f"{', '.join(idle)} for {plan.name}", allowed=", ".join(sorted(taken)) or "neither")
    if shared is not None and dataset is not None:
        raise UsageError("--shared and --dataset", allowed="one of the two: --shared brings the images")
    steps: list[Step] = []
    if shared is not None and IMAGES in plan.needs:
        archive = shared / "data" / "cifar10-jpeg.tar.gz"
        steps.append(Step(("tarfile", "--filter", "data", "-e", str(archive), UNPACKED), f"{UNPACKED}/{LAST_IMAGE}"))
        dataset = f"folder:{UNPACKED}"
    if shared is not None and weights is None:
        weights = shared / "data" / "pretrained"
    values = {IMAGES: dataset, WEIGHTS: weights}
    if lacking := [useful[place] for place in plan.needs if values[place] is None]:
        ways = {"--dataset": "--dataset cifar10 (downloaded) or folder:PATH", "--weights": "--weights DIR"}
        allowed = " and ".join(ways[useful[place]] for place in plan.needs)
        raise UsageError(f"{plan.name} needs {' and '.join(lacking)}", allowed=f"{allowed}; or --shared DIR")
    for step in plan.steps:
        words = tuple(word.replace(IMAGES, str(dataset)).replace(WEIGHTS, str(weights)) for word in step.words)
        steps.append(Step(words, step.leaves))
    return steps


def open_steps(steps: Sequence[Step], folder: Path) -> list[Step]:
    """Steps whose file is not in the project's folder yet."""
    return [step for step in steps if not (folder / step.leaves).exists()]


def reporting(plan: Experiment) -> Step:
    """What follows the last step, every time: all tables and figures of the experiment as one page, its claims in words."""
    return Step(("stimcore.report", f"exported/{plan.name}", "--out", "report"), f"report/{plan.name}.html")


def call(step: Step) -> int:
    """Runs one command in the current folder; its exit code."""
    return subprocess.run([sys.executable, "-m", *step.words], check=False).returncode


def run(steps: Sequence[Step]) -> int:
    """Runs the open steps in the current folder, one after the other; the exit code of the first that fails, else 0."""
    for number, step in enumerate(steps, 1):
        if not open_steps([step], Path()):
            continue
        print(f"[{number}/{len(steps)}] python -m {shlex.join(step.words)}", flush=True)
        code = call(step)
        if code:
            print(f"stopped at step {number} of {len(steps)}; the same command goes on there.", file=sys.stderr)
            return code if code > 0 else 1
    return 0


def parser() -> cli.Parser:
    """The command line; its help text is frozen by a test."""
    line = cli.Parser(
        prog="python -m stimcore.experiments", description="The experiments: list them, show or run their commands."
    )
    line.add_argument("what", choices=["list", "show", "run"])
    line.add_argument("name", nargs="?", metavar="NAME", help="one of: " + ", ".join(EXPERIMENTS))
    line.add_argument("--dataset", metavar="NAME", help="CIFAR-10's images, for those that need them: cifar10 or folder:PATH")
    line.add_argument("--weights", type=Path, metavar="DIR", help="folder of the pre-trained weights, where they are needed")
    line.add_argument("--shared", type=Path, metavar="DIR", help="folder with data/cifar10-jpeg.tar.gz and data/pretrained/")
    return line


def main(argv: Sequence[str]) -> int:
    """Lists, shows or runs."""
    options: Namespace = parser().parse_args(argv)
    if options.what == "list":
        if options.name or options.dataset or options.weights or options.shared:
            raise UsageError("list with something behind it", allowed="list alone")
        for plan in EXPERIMENTS.values():
            done = len(plan.steps) - len(open_steps(plan.steps, Path()))
            kept = "in the project" if plan.committed else "built by you"
            print(f"{plan.name:24} {kept:14} {done:>3} of {len(plan.steps):>2} steps done  {plan.about}")
        return 0
    if options.name is None:
        raise UsageError(f"{options.what} without a name", allowed=", ".join(EXPERIMENTS))
    plan = experiment(options.name)
    steps = prepared(plan, dataset=options.dataset, weights=options.weights, shared=options.shared)
    if options.what == "run":
        return run(steps) or call(reporting(plan))
    for step in [*steps, reporting(plan)]:
        print(f"python -m {shlex.join(step.words)}")
    return 0


if __name__ == "__main__":
    cli.run(main)
