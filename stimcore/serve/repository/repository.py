"""The bundles under a folder, by name. Names from requests are looked up here and never become paths."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stimcore.bundle import Bundle, open_bundle
from stimcore.errors import BundleError, StimcoreError
from stimcore.serve import types
from stimcore.serve.errors import NotFound
from stimcore.serve.repository.describe import experiment_info, method_info, safe_text
from stimcore.serve.repository.models import Model, aliases_of, models_of
from stimcore.serve.repository.runs import RunReader
from stimcore.serve.repository.stamps import BundleKey, Stamp, stamps_under

REPLACED_S = 0.2
"""Time that an export takes at most to move a new folder into the place of an old one, between which there is none."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that is served at one moment; a rescan makes a new one.

    Attributes:
        bundles: Bundles by experiment and method.
        problems: Folders that could not be opened.
        models: Models of the Open Inference Protocol by name.
        aliases: The same models by their names in a Triton repository.
        catalogue: The description of all of it that clients get.
        stamps: The files of every bundle before it was opened.
        opened: What every folder gave when it was opened: a bundle, or what is wrong.
    """

    bundles: Mapping[BundleKey, Bundle] = field(default_factory=dict)
    problems: tuple[types.Problem, ...] = ()
    models: Mapping[str, Model] = field(default_factory=dict)
    aliases: Mapping[str, Model] = field(default_factory=dict)
    catalogue: types.Catalogue = field(default_factory=lambda: types.Catalogue(experiments=(), problems=()))
    stamps: Mapping[BundleKey, Stamp] = field(default_factory=dict)
    opened: Mapping[BundleKey, Bundle | types.Problem] = field(default_factory=dict)


class ModelRepository:
    """The bundles under a folder.

    Args:
        folder: Folder of experiments, `exported`.
        runs: Folder of run folders.
    """

    def __init__(self, folder: Path, runs: Path) -> None:
        self.folder, self._run_reader = folder, RunReader(runs)
        self.snapshot = Snapshot()
        self._held_some = False

    def changed(self) -> bool:
        """Return whether bundles came, went, or have other files than when they were opened."""
        return stamps_under(self.folder) != self.snapshot.stamps

    def scan(self, *, everything: bool = True) -> Snapshot:
        """Open and hash bundles anew and return what can be served.

        A bundle that became invalid since the last scan stays as it was opened then, and is listed among the problems. This
        method does not change what is served, so that it can run in a thread; `put` does.

        Args:
            everything: Open every bundle. Otherwise those are opened whose files seem to be other ones than at the last scan.
        """
        stamps = self._stamps()
        opened = self._open_all(stamps, everything=everything)
        bundles, problems = self._with_old_ones(opened)
        if self._held_some and not stamps:
            why = "The folder holds no bundle any more: all were deleted, or its volume is not there."
            problems.append(types.Problem(path=safe_text(self.folder.name), message=why))
        served: dict[BundleKey, Bundle] = {}
        infos: dict[str, list[types.MethodInfo]] = {}
        models: dict[str, Model] = {}
        aliases: dict[str, Model] = {}
        for key in sorted(bundles, key=lambda key: (key[0], *_rank(bundles[key]))):
            bundle = bundles[key]
            try:
                new_models, new_aliases = {model.name: model for model in models_of(bundle)}, aliases_of(bundle)
                _check_names(new_models, models)
                info = method_info(bundle)
                experiment_info(bundle, [info]).model_dump_json()  # so that what JSON can't express is noticed here
            except StimcoreError as reason:
                problems.append(types.Problem(path="/".join(key), message=str(reason)))
            except (
                Exception
            ) as reason:  # a manifest may hold anything; one odd bundle must not keep the others from being served
                why = f"it can't be described ({type(reason).__name__}: {str(reason)[:200]})"
                problems.append(types.Problem(path="/".join(key), message=why))
            else:
                served[key] = bundle
                infos.setdefault(key[0], []).append(info)
                models |= new_models
                aliases |= new_aliases
        experiments = [experiment_info(next(b for k, b in served.items() if k[0] == name), infos[name]) for name in infos]
        return Snapshot(
            bundles=served,
            problems=tuple(problems),
            models=models,
            aliases=aliases,
            catalogue=types.Catalogue(experiments=experiments, problems=problems),
            stamps=stamps,
            opened=opened,
        )

    def _stamps(self) -> dict[BundleKey, Stamp]:
        """Return the stamps of all bundles; one that is being replaced at this moment counts as there."""
        stamps = stamps_under(self.folder)
        if set(self.snapshot.stamps) - set(stamps):
            time.sleep(REPLACED_S)
            stamps = stamps_under(self.folder)
        return stamps

    def _open_all(self, stamps: Mapping[BundleKey, Stamp], *, everything: bool) -> dict[BundleKey, Bundle | types.Problem]:
        """Return every bundle, or what is wrong with it; unless `everything`, only those with another stamp are opened."""
        old = self.snapshot
        opened: dict[BundleKey, Bundle | types.Problem] = {}
        for key, stamp in stamps.items():
            if not everything and key in old.opened and old.stamps.get(key) == stamp:
                opened[key] = old.opened[key]
            else:
                opened[key] = _open(self.folder / key[0] / key[1])
        return opened

    def _with_old_ones(
        self, opened: Mapping[BundleKey, Bundle | types.Problem]
    ) -> tuple[dict[BundleKey, Bundle], list[types.Problem]]:
        """Return every bundle, those of the last snapshot in place of broken ones, and what is wrong with the latter."""
        bundles: dict[BundleKey, Bundle] = {}
        problems = []
        for key, item in opened.items():
            if isinstance(item, Bundle):
                bundles[key] = item
                continue
            message = item.message
            if (old := self.snapshot.bundles.get(key)) is not None:
                bundles[key] = old
                message += " The version that was opened before is still served."
            problems.append(types.Problem(path=item.path, message=message))
        return bundles, problems

    def put(self, snapshot: Snapshot) -> None:
        """Serve a snapshot from now on."""
        self.snapshot = snapshot
        self._held_some = self._held_some or bool(snapshot.stamps)

    @property
    def lost(self) -> bool:
        """Whether there were bundles, and none is left: somebody deleted all of them, or their volume is not there any more."""
        return self._held_some and not self.snapshot.stamps

    def bundle(self, experiment: str, method: str) -> Bundle:
        """Return a bundle by name.

        Raises:
            NotFound: There is no such experiment or method; the error lists those that exist.
        """
        bundle = self.snapshot.bundles.get((experiment, method))
        if bundle is None:
            methods = [m for e, m in self.snapshot.bundles if e == experiment]
            if not methods:
                self.experiment(experiment)
            raise NotFound(f"{experiment} has no method '{method[:80]}'", allowed=", ".join(methods))
        return bundle

    def experiment(self, name: str) -> Bundle:
        """Return any bundle of an experiment: all of them share images, classes and normalisation.

        Raises:
            NotFound: There is no such experiment; the error lists those that exist.
        """
        for (experiment, _), bundle in self.snapshot.bundles.items():
            if experiment == name:
                return bundle
        names = ", ".join(dict.fromkeys(e for e, _ in self.snapshot.bundles))
        raise NotFound(f"there is no experiment '{name[:80]}'", allowed=names or "none: nothing is exported yet")

    def bundles_of(self, experiment: str) -> list[Bundle]:
        """Return all bundles of an experiment, at least one.

        Raises:
            NotFound: There is no such experiment; the error lists those that exist.
        """
        self.experiment(experiment)
        return [bundle for (name, _), bundle in self.snapshot.bundles.items() if name == experiment]

    def model(self, name: str) -> Model:
        """Return a model of the Open Inference Protocol by its name or alias.

        Raises:
            NotFound: There is no such model.
        """
        model = self.snapshot.models.get(name) or self.snapshot.aliases.get(name)
        if model is None:
            raise NotFound(
                f"Request for unknown model: '{name[:80]}' is not found", allowed="EXPERIMENT.METHOD or a listed file"
            )
        return model

    def problem(self, name: str) -> types.Problem | None:
        """Return what is wrong with the bundle of a model, by the name or alias of the model; None where nothing is.

        The bundle of a model that is served is known. That of any other name is guessed: the longest broken one whose name the
        name begins with, as the models of `a/b` have names that begin with `a.b`. Names of folders hold dots too, so that
        `a.b.5` may be a model of `a/b` as well as the bundle `a/b.5`.
        """
        model = self.snapshot.models.get(name) or self.snapshot.aliases.get(name)
        if model is not None:
            path = next("/".join(key) for key, bundle in self.snapshot.bundles.items() if bundle is model.bundle)
            return next((problem for problem in self.snapshot.problems if problem.path == path), None)
        broken = {problem.path.replace("/", "."): problem for problem in self.snapshot.problems}
        fitting = [start for start in broken if name == start or name.startswith(start + ".")]
        return broken[max(fitting, key=len)] if fitting else None

    def runs(self) -> list[types.RunInfo]:
        """Return the run folders, in progress or finished."""
        return self._run_reader.runs()


def _open(path: Path) -> Bundle | types.Problem:
    """Open a bundle; return what is wrong where that fails."""
    try:
        _check_encoding(path)
        return open_bundle(path)
    except Exception as reason:  # a file that can't be read, or that holds anything, takes away only its bundle
        message = str(reason) if isinstance(reason, StimcoreError) else f"{path.name} can't be opened ({reason})."
        return types.Problem(path=safe_text(f"{path.parent.name}/{path.name}"), message=safe_text(message))


def _check_names(new: Mapping[str, Model], models: Mapping[str, Model]) -> None:
    """Refuse a bundle with a model name that an earlier bundle uses: `a.b/common` and `a/b.common` have the same names.

    Raises:
        BundleError: One of the names exists already.
    """
    for name in new:
        if name in models:
            other = models[name].bundle
            raise BundleError(f"its models' names are those of {other.experiment.name}/{other.method}")


def _rank(bundle: Bundle) -> tuple[bool, int, list[tuple[str, float]]]:
    """Return the sort key of a method: common and stimulative first, twins last, `lambda5` before `lambda10`."""
    first = {"common": 0, "stimulative": 1}.get(bundle.method, 2)
    parts = re.findall(r"(\D*)(\d+(?:\.\d+)?)?", bundle.method, re.ASCII)
    return bundle.manifest.spec is not None, first, [(text, float(number or 0)) for text, number in parts]


def _check_encoding(path: Path) -> None:
    """Refuse a folder whose name no client can ask for.

    Raises:
        BundleError: The name holds bytes that are not UTF-8.
    """
    names = f"{path.parent.name}/{path.name}"
    if safe_text(names) != names:
        raise BundleError("the name of the folder is not UTF-8")
