"""Opening bundles: read, check the schema, hash every listed file. A broken bundle is an error in one sentence."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stimcore.bundle.bundle import Bundle, network_fingerprint
from stimcore.bundle.experiment import VERSION, Experiment
from stimcore.bundle.integrity import check_file, open_file
from stimcore.bundle.manifest import Manifest
from stimcore.errors import BundleError, NoBundle, StimcoreError
from stimcore.files import with_names

A_BUNDLE = "a bundle: exported/EXPERIMENT/METHOD"
MISFITS = (AttributeError, KeyError, TypeError, ValueError, OverflowError, StimcoreError)
"""What the reading of a value of another shape raises."""
ATTEMPTS, PAUSE_S = 3, 0.1
"""How often a bundle is opened in which files are being replaced, and the seconds between two attempts."""


def open_experiment(path: Path) -> Experiment:
    """Open the folder of an experiment.

    Raises:
        BundleError: `experiment.json` is missing, broken or of a newer version.

    Example:
        >>> experiment = open_experiment(Path("exported/resnet20-fashion"))
        >>> experiment.image_shape, len(experiment.classes), experiment.topology.sizes
        ((1, 28, 28), 10, (3, 3, 3))
    """
    path = with_names(path)
    value, _ = _read_json(path / "experiment.json")
    try:
        return Experiment.from_dict(path, value)
    except MISFITS as reason:
        raise BundleError(f"{path / 'experiment.json'} does not fit the schema: {reason}") from reason


def open_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Open a method's folder.

    Args:
        path: `exported/EXPERIMENT/METHOD`.
        verify: Hash every listed file now. Without, files are hashed when they are read.

    Raises:
        BundleError: A file is missing, broken, of a newer version, or does not have the hash that is listed for it.
        NoBundle: There is no such folder, or it is an experiment or something else.

    Example:
        >>> bundle = open_bundle(Path("exported/resnet20-fashion/stimulative"))
        >>> bundle.method, bundle.topology.sizes, bundle.main.spec
        ('stimulative', (3, 3, 3), '1-2-3.4-5-6.7-8-9')
    """
    path = with_names(path, 2)
    if path.name.startswith("."):
        raise BundleError(
            f"{path} is not a bundle: its name begins with a dot", todo="An export that was stopped leaves such folders."
        )
    bundle = open_folder(path)
    for attempt in range(1, ATTEMPTS + 1 if verify else 1):
        try:
            check_hashes(bundle)
            break
        except BundleError:
            if attempt == ATTEMPTS:
                raise
            # a sweep that is being stored replaces files and then the manifest: a moment later both fit together
            time.sleep(PAUSE_S)
            bundle = open_folder(path)
    return bundle


def open_folder(path: Path) -> Bundle:
    """Open a bundle in a folder of any name, also in one that is not finished, without hashing its files; see `open_bundle`."""
    path = with_names(path, 2)
    _check_folder(path)
    experiment = open_experiment(path.parent)
    value, sha256 = _read_json(path / "manifest.json")
    try:
        manifest = Manifest.from_dict(value)
    except MISFITS as reason:
        raise BundleError(f"{path / 'manifest.json'} does not fit the schema: {reason}") from reason
    if manifest.experiment_sha256 not in (None, experiment.sha256):
        raise BundleError(
            f"{path} was exported into another experiment: its experiment.json has changed", todo="Export the run again."
        )
    # version 1 took the hash of the manifest's bytes, and its stored sweeps name this hash
    fingerprint = sha256 if manifest.version == 1 else network_fingerprint(experiment, manifest)
    return Bundle(path=path, experiment=experiment, manifest=manifest, fingerprint=fingerprint)


def require_folder(path: Path, what: str) -> None:
    """Make sure that a folder exists which a user named.

    Args:
        path: The folder.
        what: What it should be, for the message.

    Raises:
        NoBundle: There is none.
    """
    if not path.is_dir():
        raise NoBundle(f"{path} is a file" if path.exists() else f"there is no folder {path}", allowed=what)


def _check_folder(path: Path) -> None:
    """Say what a folder is that is no bundle: the first file that is missing would say nothing about a wrong path.

    Raises:
        NoBundle: It is none.
    """
    require_folder(path, A_BUNDLE)
    if os.path.lexists(path / "manifest.json"):
        return
    if (path / "experiment.json").is_file():
        methods = ", ".join(str(folder) for folder in bundle_folders(path, depth=1))
        raise NoBundle(f"{path} is an experiment, not one of its methods", allowed=methods or A_BUNDLE)
    if (path / "run.json").is_file():
        raise NoBundle(
            f"{path} is a run folder, not a bundle",
            todo=f"'python -m stimcore.export {path} --out exported/EXPERIMENT' makes one.",
        )
    if not (path.parent / "experiment.json").is_file():
        raise NoBundle(f"{path} is not a bundle: it has no manifest.json", allowed=A_BUNDLE)


def check_hashes(bundle: Bundle) -> int:
    """Hash every file that a bundle and its experiment list; return how many.

    Raises:
        BundleError: A file is missing, or has another hash; the message names the first.
    """
    listed = [(bundle.path, bundle.manifest.file_hashes), (bundle.experiment.path, bundle.experiment.hashes)]
    for folder, hashes in listed:
        for name, sha256 in hashes.items():
            check_file(folder, name, sha256)
    return sum(len(hashes) for _, hashes in listed)


@dataclass(frozen=True)
class Problem:
    """A folder that could not be opened, and why."""

    path: str
    message: str


def scan(folder: Path) -> tuple[list[Bundle], list[Problem]]:
    """Open every bundle under a folder of experiments; return the bundles, and a problem for each broken one.

    Example:
        >>> scan(Path("a folder without experiments"))
        ([], [])
    """
    bundles, problems = [], []
    for path in bundle_folders(folder, depth=2):
        try:
            bundles.append(open_bundle(path))
        except StimcoreError as reason:
            problems.append(Problem(f"{path.parent.name}/{path.name}", str(reason)))
    return bundles, problems


def experiment_folders(folder: Path) -> list[Path]:
    """Return the experiments in a folder, by name; those whose names begin with a dot are left out."""
    return sorted(path.parent for path in folder.glob("*/experiment.json") if not path.parent.name.startswith("."))


def bundle_folders(folder: Path, *, depth: int) -> Iterator[Path]:
    """Yield the folders with a manifest below a folder, by name; folders whose names begin with a dot are left out.

    Args:
        folder: Where to look.
        depth: How many levels below: 2 for a folder of experiments, 1 for an experiment.
    """
    for manifest in sorted(folder.glob("*/" * depth + "manifest.json")):
        if not any(part.startswith(".") for part in manifest.relative_to(folder).parts):
            yield manifest.parent


def _read_json(path: Path) -> tuple[dict[str, Any], str]:
    """Return the JSON object in a file, and the hash of the bytes that were parsed."""
    with open_file(path.parent, path.name, "'python -m stimcore.export' writes bundles.") as handle:
        content = handle.read()
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as reason:
        raise BundleError(f"{path} is not JSON") from reason
    version = value.get("version") if isinstance(value, dict) else None
    if type(version) is int and version > VERSION:
        raise BundleError(f"{path} has version {version}", allowed=f"1 to {VERSION}", todo="A newer stimcore can open it.")
    if type(version) is not int or version < 1:
        raise BundleError(f"{path} has no version", allowed=f"1 to {VERSION}")
    return value, hashlib.sha256(content).hexdigest()
