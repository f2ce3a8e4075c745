"""What an experiment's folder holds, as plain values: bundles, their stored sweeps, their training records.

The only file of the report that reads. What is missing is None or absent here, and becomes a stated gap further on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stimcore.analysis.intervals import wilson
from stimcore.analysis.loafing import Row, Sweep
from stimcore.bundle import Bundle, open_bundle, open_experiment
from stimcore.errors import StimcoreError, UsageError
from stimcore.report.figures.looks import look, order
from stimcore.subnets.topology import Topology


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One bundle: a network that was trained (or imported) once.

    Attributes:
        name: Its folder.
        method: Training method.
        label: `reduced recipe`, `paper` or `imported weights`.
        depths: Blocks per stage of its own network.
        twin: Whether it is a sub-network of the experiment's network that was trained alone.
        topology: Of its own network.
        seed: Of the run.
        options: Of the method.
        recipe: Plain values; empty for imported weights.
        machine: Where it was trained.
        main: Its whole network on all evaluation images; drops are absent when nothing was swept.
        macs: Spec -> multiply-accumulates for one image, for the listed networks.
        records: Of its epochs.
        sweeps: Family -> stored sweep.
    """

    name: str
    method: str
    label: str
    depths: tuple[int, ...]
    twin: bool
    topology: Topology
    seed: int
    options: Mapping[str, Any]
    recipe: Mapping[str, Any]
    machine: Mapping[str, Any]
    main: Row
    macs: Mapping[str, int]
    records: Sequence[Mapping[str, Any]]
    sweeps: Mapping[str, Sweep]

    @property
    def title(self) -> str:
        """How tables and legends call it: the method, and what sets this run apart."""
        plain = look(self.method).name
        if self.twin:
            return f"twin {self.short}"
        return plain if self.name == self.method else f"{plain} ({self.name})"

    @property
    def short(self) -> str:
        """Depths as `d2-2-2`."""
        return "d" + "-".join(map(str, self.depths))

    @property
    def weight(self) -> float | None:
        """Lambda of stimulative training, None for other methods."""
        return float(self.options["weight"]) if self.method == "stimulative" and "weight" in self.options else None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One experiment.

    Attributes:
        name: Its folder.
        dataset: Name of the data set.
        num_classes: Of it.
        images: Evaluation images behind every accuracy.
        topology: The main network's.
        whole: Bundles of the whole network, in the order of Table r3.
        twins: Bundles of smaller networks, trained alone, by size.
        problems: Sentences on bundles that could not be read.
    """

    name: str
    dataset: str
    num_classes: int
    images: int
    topology: Topology
    whole: Sequence[Trained]
    twins: Sequence[Trained]
    problems: Sequence[str]

    def method(self, name: str) -> Trained | None:
        """The bundle that stands for a method: the one in the folder of its name, else the only one."""
        found = [run for run in self.whole if run.method == name]
        own = [run for run in found if run.name == name]
        return own[0] if own else found[0] if len(found) == 1 else None

    @property
    def methods(self) -> dict[str, Trained]:
        """Method -> the bundle that stands for it."""
        names = dict.fromkeys(run.method for run in self.whole)
        return {name: run for name in names if (run := self.method(name)) is not None}

    @property
    def base(self) -> Trained | None:
        """What loafs: common training, or the imported weights where nothing was trained here."""
        return self.method("common") or self.method("imported")


def read(folder: Path) -> Evidence:
    """Reads one experiment.

    Raises:
        UsageError: The folder is no experiment.
        BundleError: Its `experiment.json` is broken.
    """
    if not (folder / "experiment.json").is_file():
        raise UsageError(f"{folder} is no experiment: it has no experiment.json", allowed="exported/EXPERIMENT, or exported")
    experiment = open_experiment(folder)
    found: list[Trained] = []
    problems: list[str] = []
    images = 0
    for name in sorted(experiment.methods):
        try:
            bundle = open_bundle(folder / name)
        except StimcoreError as reason:
            problems.append(f"{name}: {reason}")
            continue
        images = bundle.manifest.images
        found.append(_trained(bundle))
    return Evidence(
        name=experiment.name or folder.resolve().name,
        dataset=experiment.dataset,
        num_classes=len(experiment.classes),
        images=images,
        topology=experiment.topology,
        whole=sorted((run for run in found if not run.twin), key=lambda run: (order(run.method), _sort_key(run))),
        twins=sorted((run for run in found if run.twin), key=lambda run: (sum(run.depths), run.name)),
        problems=problems,
    )


def _sort_key(run: Trained) -> tuple[bool, float, str]:
    return run.name != run.method, run.weight or 0.0, run.name


def _trained(bundle: Bundle) -> Trained:
    manifest = bundle.manifest
    sweeps = {kind: value for kind in bundle.sweeps if (value := bundle.sweep(kind)) is not None}
    counted = {
        "spec": bundle.main.spec,
        "correct": bundle.main.correct,
        "images": manifest.images,
        "accuracy_pct": bundle.main.accuracy_pct,
        "interval_pct": wilson(bundle.main.correct, manifest.images),
    }
    return Trained(
        name=bundle.method,
        method=manifest.method,
        label=manifest.label,
        depths=manifest.topology.sizes,
        twin=manifest.spec is not None,
        topology=manifest.topology,
        seed=manifest.seed,
        options=manifest.options,
        recipe=manifest.recipe,
        machine=manifest.machine,
        main=next(iter(sweeps.values()))["main"] if sweeps else counted,
        macs={entry.spec: entry.macs for entry in manifest.networks.values()},
        records=bundle.training(),
        sweeps=sweeps,
    )


def experiments(paths: Sequence[Path]) -> list[Path]:
    """The experiment folders that paths name: each is one, or holds some.

    Raises:
        UsageError: A path is neither.
    """
    found: list[Path] = []
    for path in paths:
        own = [path] if (path / "experiment.json").is_file() else sorted(p.parent for p in path.glob("*/experiment.json"))
        if not own:
            raise UsageError(
                f"there is no experiment in {path}",
                allowed="exported/EXPERIMENT, or a folder of experiments",
                todo="'python -m stimcore.experiments list' shows how they are made.",
            )
        found += own
    return list(dict.fromkeys(found))
