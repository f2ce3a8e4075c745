"""What an export is asked to do, and the checks before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stimcore.cli import MAX_SEED
from stimcore.data.normalise import Normalisation
from stimcore.data.subset import stratified
from stimcore.engine.cpus import usable_cpus
from stimcore.errors import UsageError
from stimcore.export.choices import CHECK_IMAGES, GraphExporter
from stimcore.export.exits import trained_exits
from stimcore.export.experiment import shared_experiment
from stimcore.export.exporter import Exporter
from stimcore.export.networks import CheckPlan
from stimcore.methods.names import short_name
from stimcore.runs.trained_run import open_run
from stimcore.subnets.families import count_ordered, ordered
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What an export is asked to do.

    Attributes:
        run_dir: The run folder.
        out: `exported/EXPERIMENT`.
        name: Folder of the bundle in the experiment; None for the default of `bundle_name`.
        subnets: `ordered`, `main` and specs, in any combination: the networks that are listed.
        twin: The sub-network of the experiment's network that this network equals; None for the one that the run names.
        data_root: Folder of the data set, where it is another one than during the run.
        jobs: Threads that compute references and run files; all usable processors when None.
        check_images: Evaluation images on which every file is compared with torch; all when None.
        trust_code: Whether modules that the run names as its network and its method may be imported.
        graphs: torch's exporter that turns the modules into graphs.
        exits: Whether the heads that training put behind inner blocks are to be exported.
        max_images: Evaluation images, the same share of every class; all when None.
    """

    run_dir: Path
    out: Path
    name: str | None = None
    subnets: Sequence[str] = ("ordered",)
    twin: str | None = None
    data_root: Path | None = None
    jobs: int | None = None
    check_images: int | None = CHECK_IMAGES
    trust_code: bool = False
    graphs: GraphExporter = "torch.export"
    exits: bool = False
    max_images: int | None = None


MOST_FILES = 10_000
"""Ordered sub-networks that are all listed when nothing else is asked for."""


def prepare(request: ExportRequest) -> tuple[Exporter, list[Spec]]:
    """Open the run and its data set, and open or write the experiment.

    Returns:
        The exporter, and the sub-networks to list.

    Raises:
        UsageError: Something that was asked for does not exist or does not fit together.
        StimcoreError: The run, its data set or the experiment is missing or broken.

    Example:
        >>> prepare(ExportRequest(run_dir=Path("none"), out=Path("exported/mine")))
        Traceback (most recent call last):
            ...
        stimcore.errors.NoRun: none is not a run folder: it has no run.json. 'python -m stimcore.train' makes one.

        With the run folder of a training::

            exporter, specs = prepare(ExportRequest(run_dir=Path("runs/resnet20-fashion/common-0"), out=Path("exported/mine")))
            failed = exporter.export(specs, lambda done, total, line: print(f"{done} of {total}: {line}"))
            bundle = open_bundle(exporter.target)
    """
    trained = open_run(request.run_dir, trust_code=request.trust_code)
    run, topology = trained.run, trained.net.topology
    if not 0 <= run.seed <= MAX_SEED:  # older versions trained with any seed
        raise UsageError(
            f"{request.run_dir} was trained with the seed {run.seed}, which no bundle can name",
            allowed=f"0 to {MAX_SEED}",
            todo="Train it again with another --seed.",
        )
    if request.exits:
        trained_exits(trained)  # a run without exits is refused before anything is written
    twin = request.twin or run.spec
    dataset = trained.dataset(request.data_root)
    if request.max_images is not None:
        dataset = replace(dataset, test=stratified(dataset.test, request.max_images))
    experiment = shared_experiment(
        request.out,
        dataset,
        topology,
        Normalisation(run.mean, run.std),
        twin=twin is not None,
    )
    spec = None if twin is None else experiment.topology.parse(twin)
    if spec is not None and tuple(map(len, spec.stages)) != topology.sizes:
        raise UsageError(
            f"a network with {'-'.join(map(str, topology.sizes))} blocks as {twin}",
            allowed="a sub-network with as many blocks per stage",
        )
    base = short_name(run.method) if spec is None else f"twin-{experiment.topology.short(spec)}"
    name = request.name or bundle_name(run.name or base, run.seed)
    if name.startswith(".") or Path(name).name != name:
        raise UsageError(f"a bundle named '{name}'", allowed="letters, digits, dots and dashes, not beginning with a dot")
    plan = CheckPlan(images=request.check_images, jobs=request.jobs or usable_cpus())
    exporter = Exporter(trained, experiment, name, spec=spec, plan=plan, graphs=request.graphs)
    return exporter, listed_specs(topology, request.subnets)


def bundle_name(run_name: str, seed: int) -> str:
    """Return the folder of a run's bundle: the name of the run; the seed is added to all but seed 0.

    Example:
        >>> bundle_name("stimulative-lambda5", 0), bundle_name("common", 2)
        ('stimulative-lambda5', 'common-seed2')
    """
    return run_name if seed == 0 else f"{run_name}-seed{seed}"


def listed_specs(topology: Topology, wanted: Sequence[str]) -> list[Spec]:
    """Return the sub-networks to list, each once: all ordered ones where `ordered` is wanted, and those of the given specs.

    Raises:
        UsageError: There are more than `MOST_FILES` ordered ones, or the network has no such sub-network.
    """
    named = [topology.parse(text) for text in wanted if text != "ordered"]
    if "ordered" in wanted:
        if (number := count_ordered(topology)) > MOST_FILES:
            raise UsageError(
                f"{number:,} ordered sub-networks of {topology.network}, a file for each",
                allowed=f"at most {MOST_FILES:,} files",
                todo="Name those that you want: --subnets main d1-1-1-1. Any other can be built from the bundle later.",
            )
        named = [*ordered(topology), *named]
    return list(dict.fromkeys(named))
