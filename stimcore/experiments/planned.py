"""Planned trainings: the commands that train a run, export it and sweep it, and rows of runs that differ in one thing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stimcore.bundle.bundle import AS_TRAINED
from stimcore.experiments.commands import RUNS, Command

SIX_METHODS = (
    "common",
    "stimulative",
    "layer_supervision",
    "stage_supervision",
    "self_distillation",
    "stochastic_depth",
)
SEEDS = (0, 1, 2)
"""Seeds of the experiments whose differences are judged over seeds."""
EXPORT_OPTIONS: tuple[str, ...] = ("--check", "all")
"""Options of every export of the catalogue."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One training, its bundle, and the families that are swept.

    Attributes:
        experiment: Folder of the experiment.
        recipe: Recipe of the training.
        method: Training method.
        name: Name of the run without its seed; the method's name when empty.
        seed: Seed of the run.
        train: Further options of the training.
        subnets: What `stimcore.export --subnets` lists.
        sweeps: Families to sweep.
    """

    experiment: str
    recipe: str
    method: str = "stimulative"
    name: str = ""
    seed: int = 0
    train: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ("ordered",)
    sweeps: tuple[str, ...] = ("ordered", "delete", "permute")

    def commands(self) -> tuple[Command, ...]:
        """Return the commands that train, export and sweep it."""
        name = self.name or self.method
        run = f"{RUNS}/{self.experiment}/{name}-{self.seed}"
        named = () if name == self.method else ("--name", name)
        seeded = ("--seed", str(self.seed)) if self.seed else ()
        options = ("--method", self.method, *self.train, *seeded, *named, "--run-dir", run, "--resume")
        bundle = name if self.seed == 0 else f"{name}-seed{self.seed}"
        # A training counts as done with the bundle that is made from it: run folders are not part of the project.
        training = Command(("stimcore.train", self.recipe, *options), f"exported/{self.experiment}/{bundle}/manifest.json", run)
        # Pages show the first seed alone, so that its times are the ones that are needed.
        timed = ("--latency",) if self.seed == 0 else ()
        return (
            training,
            *bundle_commands(self.experiment, bundle, run, export=timed, subnets=self.subnets, sweeps=self.sweeps),
        )


def bundle_commands(
    experiment: str,
    name: str,
    run: str,
    *,
    export: Sequence[str] = ("--latency",),
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
    options = ("--out", f"exported/{experiment}", "--name", name, *export, *EXPORT_OPTIONS, "--subnets", *subnets)
    return (
        Command(("stimcore.export", run, *options), f"{bundle}/manifest.json", run),
        *(
            Command(("stimcore.sweep", bundle, *_family(kind), "--store"), f"{bundle}/sweep-{kind}.json", run)
            for kind in sweeps
        ),
    )


def _family(kind: str) -> tuple[str, ...]:
    """Return the options that sweep a family; one that ends with `AS_TRAINED` is swept without re-calibration."""
    family = kind.removesuffix(AS_TRAINED)
    return ("--kind", family) if family == kind else ("--kind", family, "--as-trained")


def both_methods(run: PlannedRun) -> tuple[Command, ...]:
    """Return the commands of a run for common and for stimulative training."""
    return tuple(command for method in SIX_METHODS[:2] for command in replace(run, method=method).commands())


def any_block(run: PlannedRun) -> PlannedRun:
    """Return the run with stimulative training whose sub-networks leave out any blocks."""
    return replace(run, name="stimulative-deletions", train=("--option", "sample=deletions"))


def with_seeds(runs: Sequence[PlannedRun], repeated: Mapping[str, tuple[str, ...]]) -> Iterator[Command]:
    """Yield the commands of runs with seed 0, and then those of their repeats, one seed after the other.

    Args:
        runs: The runs with seed 0.
        repeated: Name of a run -> the families that its repeats are swept over. A repeat lists its main network only: sweeps
            and hits hold all that is compared over seeds.
    """
    for run in runs:
        yield from run.commands()
    for seed in SEEDS[1:]:
        for run in runs:
            sweeps = repeated.get(run.name or run.method)
            if sweeps is not None:
                yield from replace(run, seed=seed, subnets=("main",), sweeps=sweeps).commands()


def twin(experiment: str, recipe: str, spec: str, **changes: Any) -> PlannedRun:
    """Return a sub-network that is trained alone, by common training, and swept over its ordered sub-networks."""
    values = {"subnets": ("main",), "sweeps": ("ordered",), **changes}
    return PlannedRun(
        experiment=experiment, recipe=recipe, method="common", name=f"twin-{spec}", train=("--spec", spec), **values
    )
