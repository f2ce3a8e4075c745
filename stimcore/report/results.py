"""The stored results of an experiment's folder as plain values: its networks, their sweeps, their training records.

The only module of the report that reads files. What is missing is None or absent here, and the sections turn it into a gap.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stimcore.analysis.networks import TrainedNetwork, find_base, find_method, method_position
from stimcore.analysis.result import Result, Sweep
from stimcore.analysis.seeds import group_by_run
from stimcore.analysis.training_cost import TrainingCost, training_cost
from stimcore.bundle import Bundle, open_bundle, open_experiment
from stimcore.bundle.bundle import AS_TRAINED, TRAINING
from stimcore.bundle.fields import Fields
from stimcore.bundle.opening import experiment_folders
from stimcore.errors import BundleError, StimcoreError, UsageError
from stimcore.files import with_names
from stimcore.methods.names import METHOD_CLASSES, short_name
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

Record = dict[str, Any]
"""A line of `training.jsonl`."""
SCHEDULES = {"cosine": "cosine", "one_cycle": "one cycle", "step": "steps"}
"""Schedule of the learning rate -> its name in tables."""
AGAIN = "Export the run again."


def method_words(method: str) -> str:
    """Return the name of a method as tables print it: of the catalogue's in words, of an own method that of its class.

    Example:
        >>> method_words("stochastic_depth"), method_words("my_methods:Mixed_up")
        ('stochastic depth', 'Mixed_up')
    """
    return method.replace("_", " ") if method in METHOD_CLASSES else short_name(method)


@dataclass(frozen=True, kw_only=True)
class NetworkResults(TrainedNetwork):
    """One bundle: a network that was trained (or imported) once, and everything that is stored about it.

    Attributes:
        topology: Topology of this network; a twin's is smaller than the experiment's.
        machine: Machine that trained it.
        macs: Spec -> multiply-accumulates for one image, for the listed networks.
        records: Records of its epochs.
        as_trained: Its ordered sub-networks without re-calibration, where that was swept.
    """

    topology: Topology
    machine: dict[str, Any] = field(default_factory=dict)
    macs: dict[Spec, int] = field(default_factory=dict)
    records: Sequence[Record] = ()
    as_trained: Sweep | None = None

    @property
    def title(self) -> str:
        """Name in tables: the method, and what its folder's name adds to it."""
        if self.twin:
            return f"twin {self.short}"
        words, base = method_words(self.method), short_name(self.method)
        return words if self.name == base else f"{words} ({self.name.removeprefix(f'{base}-')})"

    @property
    def cost(self) -> TrainingCost | None:
        """What its training took; None where it left no records."""
        return training_cost(self.records, str(self.machine.get("device") or self.machine.get("processor") or ""))


@dataclass(frozen=True, kw_only=True)
class ExperimentResults:
    """Everything that is stored about one experiment.

    Attributes:
        name: Name of its folder.
        dataset: Name of the data set.
        num_classes: Classes of the data set.
        images: Evaluation images behind every accuracy; 0 where there is no bundle.
        topology: Topology of the main network.
        main_networks: Bundles of the whole network, in the order of Table r3; one for every run, with its other seeds in
            `repeats`.
        twins: Bundles of smaller networks that were trained alone, by size; one for every run likewise.
        problems: Sentences on bundles that could not be read.
    """

    name: str
    dataset: str
    num_classes: int
    images: int
    topology: Topology
    main_networks: Sequence[NetworkResults]
    twins: Sequence[NetworkResults]
    problems: Sequence[str]

    @property
    def networks(self) -> list[NetworkResults]:
        """Main networks, then twins."""
        return [*self.main_networks, *self.twins]

    def method(self, name: str) -> NetworkResults | None:
        """Return the network that stands for a method; None where there is none."""
        return find_method(self.main_networks, name)

    @property
    def methods(self) -> dict[str, NetworkResults]:
        """Method -> the network that stands for it."""
        names = dict.fromkeys(network.method for network in self.main_networks)
        return {name: network for name in names if (network := self.method(name)) is not None}

    @property
    def base(self) -> NetworkResults | None:
        """The network that shows loafing: common training, or imported weights where nothing was trained here."""
        return find_base(self.main_networks)

    def swept(self, kind: str, methods: Sequence[str]) -> dict[str, Sweep]:
        """Return method -> its sweep of a family, for those of the methods that were swept."""
        networks = {name: self.method(name) for name in methods}
        return {name: n.sweeps[kind] for name, n in networks.items() if n is not None and kind in n.sweeps}

    def common_and_stimulative(self, kind: str | None = None) -> tuple[NetworkResults, NetworkResults] | list[str]:
        """Return common and stimulative training, or words for what is missing.

        Args:
            kind: A family that both must have been swept over.
        """
        missing, networks = [], []
        for name in ("common", "stimulative"):
            network = self.method(name)
            if network is None:
                missing.append(f"{name} training")
            elif kind is not None and kind not in network.sweeps:
                missing.append(f"{name} training's sweep '{kind}'")
            else:
                networks.append(network)
        return missing or (networks[0], networks[1])

    def ordered_and_any_block(self, kind: str | None = None) -> tuple[NetworkResults, NetworkResults] | list[str]:
        """Return stimulative training on ordered sub-networks and that on any deletions, or words for what is missing.

        The two differ in the sample space alone: a run on deletions with other options answers another question.

        Args:
            kind: A family that both must have been swept over.
        """
        ordered = self.method("stimulative")
        if ordered is not None and ordered.options.get("sample", "ordered") != "ordered":
            ordered = None  # the only stimulative run stands for the method, whatever it draws
        wanted = None if ordered is None else {**ordered.options, "sample": "deletions"}
        sampled = [network for network in self.main_networks if {**network.options} == wanted]
        networks = [
            ("stimulative training on ordered sub-networks", ordered),
            ("stimulative training on any deletions", next(iter(sampled), None)),
        ]
        missing = [
            name if network is None else f"the sweep '{kind}' of {name}"
            for name, network in networks
            if network is None or (kind is not None and kind not in network.sweeps)
        ]
        first, second = (network for _, network in networks)
        return missing if first is None or second is None or missing else (first, second)


def read_experiment(folder: Path) -> ExperimentResults:
    """Read one experiment; a bundle that can't be read becomes a problem of the experiment.

    Raises:
        UsageError: The folder is not an experiment.
        BundleError: Its `experiment.json` is broken.
    """
    if not (folder / "experiment.json").is_file():
        raise UsageError(
            f"{folder} is not an experiment: it has no experiment.json", allowed="exported/EXPERIMENT, or exported"
        )
    experiment = open_experiment(folder)
    networks: list[NetworkResults] = []
    problems: list[str] = []
    images = 0
    for name in sorted(experiment.methods):
        try:
            bundle = open_bundle(folder / name)
            networks.append(_read_network(bundle))
        except StimcoreError as reason:
            problems.append(f"{name}: {reason}")
        else:
            images = bundle.manifest.images
    networks = group_by_run(networks)
    return ExperimentResults(
        name=experiment.name or folder.resolve().name,
        dataset=experiment.dataset,
        num_classes=len(experiment.classes),
        images=images,
        topology=experiment.topology,
        main_networks=sorted((n for n in networks if not n.twin), key=lambda n: (method_position(n.method), *_place(n))),
        twins=sorted((n for n in networks if n.twin), key=lambda n: (sum(n.depths), n.name)),
        problems=problems,
    )


def _place(network: NetworkResults) -> tuple[bool, float, str]:
    """Among networks of one method: the one in the method's folder first, then by lambda, then by name."""
    return network.name != network.method, network.lambda_weight or 0.0, network.name


def _read_network(bundle: Bundle) -> NetworkResults:
    manifest = bundle.manifest
    _check_recipe(bundle)
    _check_options(bundle)
    sweeps = {kind: sweep for kind in bundle.sweeps if (sweep := bundle.results(kind)) is not None}
    spec = Spec.from_text(bundle.main.spec)
    # A main network that was never swept is its own reference: no image is lost or won.
    counted = Result.counted(spec, images=manifest.images, correct=bundle.main.correct, lost=0, won=0)
    return NetworkResults(
        name=bundle.method,
        method=manifest.method,
        label=manifest.label,
        depths=manifest.topology.sizes,
        twin=manifest.spec is not None,
        topology=manifest.topology,
        seed=manifest.seed,
        options=manifest.options,
        recipe=manifest.recipe,
        machine=dict(manifest.machine),
        main=next(iter(sweeps.values())).main if sweeps else counted,
        macs={Spec.from_text(entry.spec): entry.macs for entry in manifest.networks.values()},
        records=_read_records(bundle),
        as_trained=bundle.results(f"ordered{AS_TRAINED}"),
        sweeps=sweeps,
        hits=bundle.hits,
    )


def _check_recipe(bundle: Bundle) -> None:
    """Make sure that a recipe has the settings that tables print; that of imported weights is empty.

    Raises:
        BundleError: One is missing, or is of another kind.
    """
    if not bundle.manifest.recipe:
        return
    fields = Fields(dict(bundle.manifest.recipe), "the recipe")
    try:
        for key in ("epochs", "batch_size"):
            fields.whole(key)
        for key in ("learning_rate", "weight_decay", "momentum", "decay"):
            fields.number(key)
        fields.items("milestones")
        fields.flag("nesterov")
        if fields.text("schedule") not in SCHEDULES:
            raise ValueError(f"'schedule' of the recipe is '{fields.text('schedule')}', not one of {', '.join(SCHEDULES)}")
    except ValueError as reason:
        raise BundleError(f"{bundle.path / 'manifest.json'} has a broken recipe: {reason}", todo=AGAIN) from reason


def _check_options(bundle: Bundle) -> None:
    """Make sure that lambda, which tables and figures compare, is a number.

    Raises:
        BundleError: It is something else.
    """
    try:
        if bundle.manifest.method == "stimulative" and "weight" in bundle.manifest.options:
            Fields(dict(bundle.manifest.options), "the options").number("weight")
    except ValueError as reason:
        raise BundleError(f"{bundle.path / 'manifest.json'} has broken options: {reason}", todo=AGAIN) from reason


def _read_records(bundle: Bundle) -> Sequence[Record]:
    """Return the records of a training.

    Raises:
        BundleError: One is something else.
    """
    records = bundle.training()
    try:
        training_cost(records)
        for record in records:
            fields = Fields(record, "a record")
            fields.whole("epoch")
            fields.mapping("losses", {})
    except (KeyError, TypeError, ValueError) as reason:
        what = f"a record has no {reason}" if isinstance(reason, KeyError) else str(reason)
        raise BundleError(f"{bundle.path / TRAINING} is not the record of a training: {what}", todo=AGAIN) from reason
    return records


def find_experiments(paths: Sequence[Path]) -> list[Path]:
    """Return the experiment folders that paths name; each path is one, or holds some.

    Raises:
        UsageError: A path is neither, or two experiments have one name.
    """
    folders: list[Path] = []
    for path in paths:
        inside = [with_names(path)] if (path / "experiment.json").is_file() else experiment_folders(path)
        if not inside:
            raise UsageError(
                f"there is no experiment in {path}",
                allowed="exported/EXPERIMENT, or a folder of experiments",
                todo="'python -m stimcore.experiments list' shows how they are made.",
            )
        folders += inside
    found = list(dict.fromkeys(folders))
    check_names(found)
    return found


def check_names(experiments: Sequence[Path]) -> None:
    """Refuse experiments of one name, by which pages and files are called.

    Raises:
        UsageError: Two have the same name.
    """
    names = Counter(path.resolve().name for path in experiments)
    if twice := [name for name, number in names.items() if number > 1]:
        raise UsageError(f"several experiments have the name {twice[0]}", allowed="every name once", todo="Rename a folder.")
