"""What is served: the bundles under a folder, by name. Names are looked up here and never become paths."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stimcore.bundle import Bundle, FileEntry, scan
from stimcore.errors import BundleError, StimcoreError
from stimcore.serve import types
from stimcore.serve.errors import NotFound
from stimcore.serve.repository.describe import experiment_info, method_info
from stimcore.serve.repository.runs import runs_under
from stimcore.serve.workers.messages import BundleRef


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
class Snapshot:
    """Everything at one moment; a rescan makes another one."""

    bundles: Mapping[tuple[str, str], Bundle] = field(default_factory=dict)
    problems: tuple[types.Problem, ...] = ()
    models: Mapping[str, Model] = field(default_factory=dict)
    aliases: Mapping[str, Model] = field(default_factory=dict)
    catalogue: types.Catalogue = field(default_factory=lambda: types.Catalogue(experiments=(), problems=()))


class ModelRepository:
    """The bundles under a folder.

    Args:
        folder: `exported`.
        runs: Folder of run folders.
    """

    def __init__(self, folder: Path, runs: Path) -> None:
        self.folder, self.runs_folder = folder, runs
        self.snapshot = Snapshot()

    def look(self) -> Snapshot:
        """Opens and hashes everything anew; what broke since the last look stays served as it was, and is told.

        Does not change what is served: `put` does, so that hashing can happen in a thread.
        """
        found, problems = self._opened()
        served: dict[tuple[str, str], Bundle] = {}
        infos: dict[str, list[types.MethodInfo]] = {}
        models: dict[str, Model] = {}
        aliases: dict[str, Model] = {}
        for key in sorted(found, key=lambda key: (key[0], *_place(found[key]))):
            bundle = found[key]
            try:
                own, others = {model.name: model for model in models_of(bundle)}, aliases_of(bundle)
                if taken := [models[name] for name in own if name in models]:
                    other = taken[0].bundle
                    raise BundleError(f"its models' names are those of {other.experiment.name}/{other.method}")
                info = method_info(bundle)
                experiment_info(bundle, [info])
            except StimcoreError as reason:
                problems.append(types.Problem(path="/".join(key), message=str(reason)))
            except Exception as reason:  # one odd bundle must not keep the others from being served
                why = f"it can't be described ({type(reason).__name__}: {str(reason)[:200]})"
                problems.append(types.Problem(path="/".join(key), message=why))
            else:
                served[key] = bundle
                infos.setdefault(key[0], []).append(info)
                models, aliases = models | own, aliases | others
        experiments = [experiment_info(next(b for k, b in served.items() if k[0] == name), infos[name]) for name in infos]
        return Snapshot(
            bundles=served,
            problems=tuple(problems),
            models=models,
            aliases=aliases,
            catalogue=types.Catalogue(experiments=experiments, problems=problems),
        )

    def _opened(self) -> tuple[dict[tuple[str, str], Bundle], list[types.Problem]]:
        """Bundles by name, with older ones in the place of broken ones; and what is wrong with those."""
        found, broken = scan(self.folder)
        bundles = {(bundle.experiment.name, bundle.method): bundle for bundle in found}
        problems = []
        for problem in broken:
            experiment, _, method = problem.path.partition("/")
            old = self.snapshot.bundles.get((experiment, method))
            if old is not None:
                bundles[experiment, method] = old
            more = " What was opened before is still served." if old is not None else ""
            problems.append(types.Problem(path=problem.path, message=problem.message + more))
        return bundles, problems

    def put(self, snapshot: Snapshot) -> None:
        """From now on this is served."""
        self.snapshot = snapshot

    def bundle(self, experiment: str, method: str) -> Bundle:
        """A bundle by name.

        Raises:
            NotFound: Names those that are there.
        """
        found = self.snapshot.bundles.get((experiment, method))
        if found is None:
            methods = [m for e, m in self.snapshot.bundles if e == experiment]
            if not methods:
                self.experiment(experiment)
            raise NotFound(f"{experiment} has no method '{method[:80]}'", allowed=", ".join(methods))
        return found

    def experiment(self, name: str) -> Bundle:
        """Any bundle of an experiment: they share images and classes.

        Raises:
            NotFound: Names those that are there.
        """
        for (experiment, _), bundle in self.snapshot.bundles.items():
            if experiment == name:
                return bundle
        names = ", ".join(dict.fromkeys(e for e, _ in self.snapshot.bundles))
        raise NotFound(f"there is no experiment '{name[:80]}'", allowed=names or "none: nothing is exported yet")

    def model(self, name: str) -> Model:
        """A model of the Open Inference Protocol by name.

        Raises:
            NotFound: There is no such model.
        """
        found = self.snapshot.models.get(name) or self.snapshot.aliases.get(name)
        if found is None:
            raise NotFound(
                f"Request for unknown model: '{name[:80]}' is not found", allowed="EXPERIMENT.METHOD or a listed file"
            )
        return found

    def runs(self) -> list[types.RunInfo]:
        """Run folders, in progress or finished."""
        return runs_under(self.runs_folder)


def _place(bundle: Bundle) -> tuple[bool, int, list[tuple[str, float]]]:
    """Common and stimulative first, twins last; numbers in names count as numbers: lambda5 before lambda10."""
    first = {"common": 0, "stimulative": 1}.get(bundle.method, 2)
    parts = re.findall(r"(\D*)(\d+(?:\.\d+)?)?", bundle.method, re.ASCII)
    return bundle.manifest.spec is not None, first, [(text, float(number or 0)) for text, number in parts]


def bundle_ref(bundle: Bundle) -> BundleRef:
    """How a worker is told which bundle is meant."""
    return BundleRef(str(bundle.path.resolve()), bundle.fingerprint)


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
