"""Opens bundles: reads, checks the schema, re-hashes; broken ones are told in a sentence."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stimcore import files
from stimcore.bundle.schema import VERSION, Bundle, Experiment, FileEntry, Manifest, PartEntry
from stimcore.errors import BundleError, StimcoreError
from stimcore.subnets.topology import Topology

_MISFITS = (AttributeError, KeyError, TypeError, ValueError, StimcoreError)
"""What reading a value of another shape raises."""


def open_experiment(path: Path) -> Experiment:
    """Reads `experiment.json`.

    Raises:
        BundleError: It is missing, broken or of another version.
    """
    value = _read(path / "experiment.json")
    try:
        topology = Topology.from_dict(value.pop("topology"))
        lists: dict[str, Any] = {key: tuple(value.pop(key)) for key in ("classes", "mean", "std", "image_shape")}
        return Experiment(path=path, topology=topology, **lists, **value)
    except _MISFITS as reason:
        raise BundleError(f"{path / 'experiment.json'} does not fit the schema: {reason}") from reason


def open_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Opens a method's folder.

    Args:
        path: `exported/EXPERIMENT/METHOD`.
        verify: Re-hash every file that the manifest names.

    Raises:
        BundleError: Something is missing, broken or does not have the hash that the manifest says.
    """
    experiment = open_experiment(path.parent)
    value = _read(path / "manifest.json")
    try:
        manifest = Manifest(
            topology=Topology.from_dict(value.pop("topology")),
            parts=[PartEntry.from_dict(part) for part in value.pop("parts")],
            networks={name: FileEntry(**entry) for name, entry in value.pop("networks").items()},
            **value,
        )
    except _MISFITS as reason:
        raise BundleError(f"{path / 'manifest.json'} does not fit the schema: {reason}") from reason
    bundle = Bundle(path=path, experiment=experiment, manifest=manifest, fingerprint=files.sha256(path / "manifest.json"))
    if verify:
        check_hashes(bundle)
    return bundle


def check_hashes(bundle: Bundle) -> int:
    """Re-hashes every file; returns how many.

    Raises:
        BundleError: Names the first that differs.
    """
    try:
        expected = {bundle.path / name: value for name, value in bundle.manifest.hashes.items()}
        expected |= {bundle.path / name: entry.sha256 for name, entry in bundle.manifest.networks.items()}
        expected |= {bundle.experiment.path / name: value for name, value in bundle.experiment.hashes.items()}
    except _MISFITS as reason:
        raise BundleError(f"the hashes of {bundle.path} do not fit the schema: {reason}") from reason
    for file, value in expected.items():
        if not file.is_file():
            raise BundleError(f"{file} is missing", todo="Export the run again.")
        if files.sha256(file) != value:
            raise BundleError(f"{file} is not what was exported: its sha256 differs", todo="Export the run again.")
    return len(expected)


@dataclass(frozen=True)
class Problem:
    """A folder that could not be opened, and why."""

    path: str
    message: str


def scan(folder: Path) -> tuple[list[Bundle], list[Problem]]:
    """Every bundle under a folder of experiments; broken ones are told, not raised."""
    bundles, problems = [], []
    for manifest in sorted(folder.glob("*/*/manifest.json")):
        try:
            bundles.append(open_bundle(manifest.parent))
        except StimcoreError as reason:
            problems.append(Problem(f"{manifest.parent.parent.name}/{manifest.parent.name}", str(reason)))
    return bundles, problems


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BundleError(f"{path} is missing", todo="'python -m stimcore.export' writes bundles.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as reason:
        raise BundleError(f"{path} is not JSON") from reason
    if not isinstance(value, dict) or value.pop("version", None) != VERSION:
        raise BundleError(f"{path} has another version", allowed=str(VERSION))
    return value
