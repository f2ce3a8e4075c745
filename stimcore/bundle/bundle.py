"""A method's folder, opened: everything that is read from it has the hash that its manifest lists."""

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from stimcore.analysis.result import Sweep
from stimcore.bundle import hits, wall
from stimcore.bundle.experiment import Experiment
from stimcore.bundle.hits import Hits
from stimcore.bundle.integrity import files_below, read_file, read_listed
from stimcore.bundle.manifest import MAIN, FileEntry, Manifest
from stimcore.bundle.wall import Wall
from stimcore.errors import BundleError, SpecError, StimcoreError
from stimcore.files import parse_jsonl
from stimcore.subnets.families import KINDS
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

STATISTICS, WEIGHTS, TRAINING, LATENCY = "statistics.npz", "weights.bin", "training.jsonl", "latency.json"
NETWORK_FILES = (STATISTICS, WEIGHTS)
"""Files that all networks of a bundle are made of."""
AS_TRAINED = "-as-trained"
"""Ends the family's name in a sweep whose networks keep the batch-norm statistics that training left."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One method's folder, opened.

    Attributes:
        path: The folder.
        experiment: What all methods of the experiment share.
        manifest: What the folder holds.
        fingerprint: Identifies the networks and the images that results belong to.
    """

    path: Path
    experiment: Experiment
    manifest: Manifest
    fingerprint: str

    @property
    def method(self) -> str:
        """Name of its folder."""
        return self.path.name

    @property
    def topology(self) -> Topology:
        """The topology of this network."""
        return self.manifest.topology

    @property
    def main(self) -> FileEntry:
        """The entry of the main network."""
        return self.manifest.networks[MAIN]

    def listed(self, spec: Spec) -> str | None:
        """Return the file that holds a sub-network, None when it isn't listed."""
        return next((name for name, entry in self.manifest.networks.items() if entry.spec == str(spec)), None)

    def has(self, name: str) -> bool:
        """Return whether a file may be read: it is listed, or it lies in a bundle of version 1, which lists few files."""
        return name in self.manifest.file_hashes or (self.manifest.version == 1 and (self.path / name).is_file())

    def read(self, name: str) -> bytes:
        """Return the content of a file of this folder; what is returned is what was hashed.

        A bundle of version 1 has no hashes of its sweeps and latencies, which are returned as they are.

        Raises:
            BundleError: The file is missing, is not listed, or has changed since the bundle was opened.
        """
        hashes = self.manifest.file_hashes
        if self.manifest.version == 1 and name not in hashes:
            return read_file(self.path, name)
        return read_listed(self.path, name, hashes)

    @property
    def unverified(self) -> list[str]:
        """Files of a bundle of version 1 of which no hash is stored: sweeps and latencies."""
        if self.manifest.version > 1:
            return []
        return sorted(files_below(self.path) - {"manifest.json", *self.manifest.file_hashes})

    @property
    def sweeps(self) -> list[str]:
        """Families whose accuracies are stored."""
        return [kind for kind in KINDS if self.has(f"sweep-{kind}.json")]

    def sweep(self, kind: str) -> dict[str, Any] | None:
        """Return the stored accuracies of a family as JSON, None where there are none.

        Raises:
            BundleError: The file has changed since the bundle was opened.
            ValueError: The file is not JSON.
        """
        return self._json(f"sweep-{kind}.json")

    def results(self, kind: str) -> Sweep | None:
        """Return the stored accuracies of a family, None where there are none.

        Raises:
            BundleError: The file has changed since the bundle was opened, is not a sweep, or is of other networks or images.
        """
        return self._results(f"sweep-{kind}.json", kind)

    def sampled_results(self, kind: str) -> Sweep | None:
        """Return the stored accuracies of a sample of a family, None where there are none; errors are those of `results`."""
        return self._results(f"sample-{kind}.json", kind)

    def _results(self, name: str, kind: str) -> Sweep | None:
        options = f"--kind {kind.removesuffix(AS_TRAINED)}" + (" --as-trained" if kind.endswith(AS_TRAINED) else "")
        todo = f"'python -m stimcore.sweep {self.path} {options} --store' writes it again."
        try:
            value = self._json(name)
            sweep = None if value is None else Sweep.from_dict(value)
        except (ValueError, RecursionError, SpecError) as reason:
            raise BundleError(f"{self.path / name} is not a sweep: {reason}", todo=todo) from reason
        # older sweeps don't name their bundle
        if sweep is not None and (sweep.bundle not in ("", self.fingerprint) or sweep.images != self.manifest.images):
            raise BundleError(f"{self.path / name} was measured with other networks or images", todo=todo)
        return sweep

    def latency(self) -> dict[str, Any] | None:
        """Return the stored times of the listed networks as JSON, None where there are none; errors are those of `sweep`."""
        return self._json(LATENCY)

    def training(self) -> list[dict[str, Any]]:
        """Return the records of the epochs that the network was trained for; none for imported weights.

        Raises:
            BundleError: The file has changed since the bundle was opened.
        """
        return parse_jsonl(self.read(TRAINING)) if self.has(TRAINING) else []

    def trained_statistics(self) -> dict[str, NDArray[np.float32]]:
        """Return the batch-norm statistics that training left, by the names of their constants.

        Raises:
            BundleError: The file has changed, or can't be read.
        """
        content = self.read(STATISTICS)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as reason:
            raise BundleError(f"{self.path / STATISTICS} can't be read ({type(reason).__name__})") from reason

    @property
    def has_batch_norms(self) -> bool:
        """Whether the network has batch norms, which sub-networks re-calibrate. Raises what `trained_statistics` raises."""
        return bool(self.trained_statistics())

    def hits(self, spec: Spec) -> NDArray[np.bool_] | None:
        """Return for every evaluation image whether a sub-network classifies it correctly, None where it isn't stored.

        Raises:
            BundleError: `hits.npz` has changed, or can't be read.
        """
        return None if self.all_hits is None else self.all_hits.of(spec)

    def known_correct(self, spec: Spec) -> int | None:
        """Return how many evaluation images a sub-network classifies correctly, None where neither list nor hits have it.

        Raises:
            BundleError: `hits.npz` has changed, or can't be read.
        """
        if (name := self.listed(spec)) is not None:
            return self.manifest.networks[name].correct
        row = self.hits(spec)
        return None if row is None else int(row.sum())

    @cached_property
    def all_hits(self) -> Hits | None:
        """All stored hits; None in bundles of version 1. Raises what `hits` raises."""
        if not self.has(hits.FILE):
            return None
        content = self.read(hits.FILE)
        try:
            stored = Hits.from_bytes(content)
        except (ValueError, StimcoreError) as reason:
            raise BundleError(f"{self.path / hits.FILE} can't be read: {reason}") from reason
        if stored.images != self.manifest.images:
            raise BundleError(f"{self.path / hits.FILE} is of {stored.images} images, not of {self.manifest.images}")
        return stored

    @cached_property
    def wall(self) -> Wall | None:
        """The answers for the picture wall; None in bundles of version 1.

        Raises:
            BundleError: `wall.json` has changed, or can't be read.
        """
        if not self.has(wall.FILE):
            return None
        content = self.read(wall.FILE)
        try:
            stored = Wall.from_bytes(content)
        except (ValueError, StimcoreError) as reason:
            raise BundleError(f"{self.path / wall.FILE} can't be read: {reason}") from reason
        if max(stored.images, default=0) >= self.manifest.images:
            raise BundleError(f"{self.path / wall.FILE} names images that are not there")
        return stored

    def _json(self, name: str) -> dict[str, Any] | None:
        return json.loads(self.read(name)) if self.has(name) else None


def network_fingerprint(experiment: Experiment, manifest: Manifest) -> str:
    """Return the fingerprint of a bundle of version 2: a hash of everything that results depend on, and of nothing else.

    Sweeps, hits, latencies or a model card that are stored later leave it as it is, so that results measured before stay valid.
    """
    value = {
        "experiment": experiment.sha256,
        "topology": manifest.topology.to_dict(),
        "parts": [part.to_dict() for part in manifest.parts],
        "files": {name: sha256 for name, sha256 in manifest.hashes.items() if name in NETWORK_FILES},
        "networks": {name: entry.sha256 for name, entry in manifest.networks.items()},
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
