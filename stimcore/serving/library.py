"""What is served: the bundles under a folder, by name. Names are looked up here and never become paths."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stimcore.bundle import Bundle, FileEntry, scan
from stimcore.enumerate import KINDS
from stimcore.errors import BundleError, UsageError
from stimcore.serving import wire
from stimcore.serving.messages import Source
from stimcore.serving.refusals import NotFound
from stimcore.serving.runs import runs_under
from stimcore.statistics import paired_drop, wilson


@dataclass(frozen=True)
class Model:
    """One name of the Open Inference Protocol.

    Attributes:
        name: `EXPERIMENT.METHOD`, or `EXPERIMENT.METHOD.FILE` without `.onnx` for a listed file.
        bundle: That holds it.
        spec: What a listed file holds; None where the request says it, the main network when it doesn't.
    """

    name: str
    bundle: Bundle
    spec: str | None

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Name, datatype and shape, the batch as -1."""
        return [{"name": "images", "datatype": "FP32", "shape": [-1, *self.bundle.experiment.image_shape]}]

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """Name, datatype and shape, the batch as -1."""
        return [{"name": "logits", "datatype": "FP32", "shape": [-1, len(self.bundle.experiment.classes)]}]


@dataclass(frozen=True)
class Shelf:
    """Everything at one moment; a rescan makes another one."""

    bundles: Mapping[tuple[str, str], Bundle] = field(default_factory=dict)
    problems: tuple[wire.Problem, ...] = ()
    models: Mapping[str, Model] = field(default_factory=dict)
    aliases: Mapping[str, Model] = field(default_factory=dict)
    catalogue: wire.Catalogue = field(default_factory=lambda: wire.Catalogue(experiments=(), problems=()))


class Library:
    """The bundles under a folder.

    Args:
        folder: `exported`.
        runs: Folder of run folders.
    """

    def __init__(self, folder: Path, runs: Path) -> None:
        self.folder, self.runs_folder = folder, runs
        self.shelf = Shelf()

    def look(self) -> Shelf:
        """Opens and hashes everything anew; what broke since the last look stays served as it was, and is told.

        Does not change what is served: `put` does, so that hashing can happen in a thread.
        """
        found, broken = scan(self.folder)
        bundles = {(bundle.experiment.name, bundle.method): bundle for bundle in found}
        problems = []
        for problem in broken:
            experiment, _, method = problem.path.partition("/")
            old = self.shelf.bundles.get((experiment, method))
            if old is not None:
                bundles[experiment, method] = old
            more = " What was opened before is still served." if old is not None else ""
            problems.append(wire.Problem(path=problem.path, message=problem.message + more))
        infos: dict[str, list[wire.MethodInfo]] = {}
        aliases: dict[str, Model] = {}
        for key in sorted(bundles, key=lambda key: (key[0], *_place(bundles[key]))):
            try:
                aliases |= aliases_of(bundles[key])
                infos.setdefault(key[0], []).append(method_info(bundles[key]))
            except Exception as reason:  # one odd bundle must not keep the others from being served
                why = f"it can't be described ({type(reason).__name__}: {str(reason)[:200]})"
                problems.append(wire.Problem(path="/".join(key), message=why))
        served = {key: bundle for key, bundle in bundles.items() if any(i.name == key[1] for i in infos.get(key[0], ()))}
        experiments = [
            experiment_info(next(b for k, b in served.items() if k[0] == name), infos[name]) for name in infos if infos[name]
        ]
        return Shelf(
            bundles=served,
            problems=tuple(problems),
            models={model.name: model for bundle in served.values() for model in models_of(bundle)},
            aliases={name: model for name, model in aliases.items() if model.bundle in served.values()},
            catalogue=wire.Catalogue(experiments=experiments, problems=problems),
        )

    def put(self, shelf: Shelf) -> None:
        """From now on this is served."""
        self.shelf = shelf

    def bundle(self, experiment: str, method: str) -> Bundle:
        """A bundle by name.

        Raises:
            NotFound: Names those that are there.
        """
        found = self.shelf.bundles.get((experiment, method))
        if found is None:
            methods = [m for e, m in self.shelf.bundles if e == experiment]
            if not methods:
                self.experiment(experiment)
            raise NotFound(f"{experiment} has no method '{method[:80]}'", allowed=", ".join(methods))
        return found

    def experiment(self, name: str) -> Bundle:
        """Any bundle of an experiment: they share images and classes.

        Raises:
            NotFound: Names those that are there.
        """
        for (experiment, _), bundle in self.shelf.bundles.items():
            if experiment == name:
                return bundle
        names = ", ".join(dict.fromkeys(e for e, _ in self.shelf.bundles))
        raise NotFound(f"there is no experiment '{name[:80]}'", allowed=names or "none: nothing is exported yet")

    def model(self, name: str) -> Model:
        """A model of the Open Inference Protocol by name.

        Raises:
            NotFound: There is no such model.
        """
        found = self.shelf.models.get(name) or self.shelf.aliases.get(name)
        if found is None:
            raise NotFound(
                f"Request for unknown model: '{name[:80]}' is not found", allowed="EXPERIMENT.METHOD or a listed file"
            )
        return found

    def runs(self) -> list[wire.RunInfo]:
        """Run folders, in progress or finished."""
        return runs_under(self.runs_folder)


def _place(bundle: Bundle) -> tuple[bool, int, str]:
    first = {"common": 0, "stimulative": 1}.get(bundle.method, 2)
    return bundle.manifest.spec is not None, first, bundle.method


def source_of(bundle: Bundle) -> Source:
    """How a worker is told which bundle is meant."""
    return Source(str(bundle.path.resolve()), bundle.fingerprint)


def data_hash(bundle: Bundle) -> str:
    """sha256 of everything outside the manifest that results depend on: images, normalisation, classes."""
    experiment = bundle.experiment
    parts = [sorted(experiment.hashes.items()), experiment.mean, experiment.std, experiment.classes]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def models_of(bundle: Bundle) -> list[Model]:
    """The names under which a bundle answers inference."""
    name = f"{bundle.experiment.name}.{bundle.method}"
    return [Model(name, bundle, None), *(model for model, _ in _listed(bundle))]


def _listed(bundle: Bundle) -> list[tuple[Model, FileEntry]]:
    name = f"{bundle.experiment.name}.{bundle.method}"
    networks = [(file, entry) for file, entry in bundle.manifest.networks.items() if entry.spec]
    return [(Model(f"{name}.{Path(file).stem}", bundle, entry.spec), entry) for file, entry in networks]


def aliases_of(bundle: Bundle) -> dict[str, Model]:
    """The names that the same networks have in `stimcore.export --triton`: one server can stand in for the other."""
    return {triton_name(bundle, entry.spec): Model(model.name, bundle, entry.spec) for model, entry in _listed(bundle)}


def triton_name(bundle: Bundle, text: str) -> str:
    """`EXPERIMENT.METHOD.SHORT` of a listed network; without the last part for the main one."""
    spec = bundle.topology.parse(text)
    base = f"{bundle.experiment.name}.{bundle.method}"
    return base if spec == bundle.topology.full else f"{base}.{bundle.topology.short(spec)}"


def stored_sweep(bundle: Bundle, kind: str) -> dict[str, Any] | None:
    """A stored sweep; None where there is none.

    Raises:
        NotFound: There is no such family.
        BundleError: The file is broken.
    """
    if kind not in KINDS:
        raise NotFound(f"there is no family '{kind[:40]}'", allowed=", ".join(KINDS))
    try:
        found = bundle.sweep(kind)
        if found is not None and not (isinstance(found["results"], list) and isinstance(found["main"], dict)):
            raise ValueError("no results")
    except (ValueError, KeyError, TypeError, OSError) as reason:
        raise BundleError(f"sweep-{kind}.json of {bundle.experiment.name}/{bundle.method} is broken ({reason})") from reason
    return found


def main_result(bundle: Bundle) -> wire.Result:
    """The main network on all evaluation images: of a stored sweep, else the counts of the manifest."""
    for kind in bundle.sweeps:
        sweep = stored_sweep(bundle, kind)
        if sweep is not None and sweep["main"]["images"] == bundle.manifest.images:
            return wire.Result.model_validate(sweep["main"])
    correct, images = bundle.main.correct, bundle.manifest.images
    drop = paired_drop(0, 0, images)
    return wire.Result(
        spec=bundle.main.spec,
        correct=correct,
        images=images,
        accuracy_pct=100 * correct / images,
        interval_pct=wilson(correct, images),
        drop_pct=0,
        drop_interval_pct=drop.interval_pct,
    )


def method_info(bundle: Bundle) -> wire.MethodInfo:
    """What the catalogue says of a bundle."""
    manifest = bundle.manifest
    return wire.MethodInfo(
        name=bundle.method,
        method=manifest.method,
        label=manifest.label,
        spec=manifest.spec,
        topology=manifest.topology.to_dict(),
        seed=manifest.seed,
        recipe=manifest.recipe,
        options=manifest.options,
        machine=manifest.machine,
        fingerprint=bundle.fingerprint,
        main=main_result(bundle),
        parameters=bundle.main.parameters,
        macs=bundle.main.macs,
        num_networks=len(manifest.networks),
        sweeps=bundle.sweeps,
    )


def experiment_info(bundle: Bundle, methods: list[wire.MethodInfo]) -> wire.ExperimentInfo:
    """What the catalogue says of an experiment."""
    experiment = bundle.experiment
    channels, height, width = experiment.image_shape
    return wire.ExperimentInfo(
        name=experiment.name,
        dataset=experiment.dataset,
        licence=experiment.licence,
        classes=experiment.classes,
        image_shape=(channels, height, width),
        mean=experiment.mean,
        std=experiment.std,
        topology=experiment.topology.to_dict(),
        evaluation_images=_count(experiment.path / "evaluation.npz"),
        calibration_images=_count(experiment.path / "calibration.npz"),
        methods=methods,
    )


def _count(path: Path) -> int:
    with np.load(path, allow_pickle=False) as arrays:
        return len(arrays["labels"])


def networks_of(bundle: Bundle) -> wire.Networks:
    """The listed files, with latencies where `latency.json` holds them."""
    path = bundle.path / "latency.json"
    try:
        measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        times, on = dict(measured.get("latency_ms", {})), dict(measured.get("latency_on", {}))
    except (ValueError, TypeError, AttributeError) as reason:
        raise BundleError(f"latency.json of {bundle.experiment.name}/{bundle.method} is broken ({reason})") from reason
    networks = [
        wire.NetworkInfo(file=file, **asdict(entry), latency_ms=times.get(file, {}))
        for file, entry in bundle.manifest.networks.items()
    ]
    return wire.Networks(networks=networks, latency_on=on if times else {})


def finite(value: Any) -> Any:
    """JSON values with what JSON has no word for as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value


def check_spec(bundle: Bundle | None, experiment: Bundle, text: str) -> wire.SpecCheck:
    """Whether a text names a sub-network of a bundle, or of the experiment's network when `bundle` is None."""
    topology = experiment.experiment.topology if bundle is None else bundle.topology
    try:
        spec = topology.parse(text)
    except UsageError as reason:
        return wire.SpecCheck(valid=False, reason=str(reason))
    return wire.SpecCheck(valid=True, spec=str(spec), short=topology.short(spec), kind=topology.kind(spec))
