"""The bundle: what training leaves for serving. Schema, reading, hashing; `python -m stimcore.bundle verify DIR`.

exported/EXPERIMENT/experiment.json, calibration.npz, evaluation.npz
exported/EXPERIMENT/METHOD/manifest.json, main.onnx, weights.bin, statistics.npz, subnet-*.onnx, training.jsonl, sweep-*.json
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stimcore import cli, files
from stimcore.enumerate import KINDS
from stimcore.errors import BundleError, StimcoreError
from stimcore.topology import Spec, Topology

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What all methods of an experiment share: data, classes, topology.

    Attributes:
        path: Its folder.
        dataset: Name of the data set.
        licence: Of the images.
        classes: Names in order of labels.
        mean: Normalisation per channel, of pixels scaled to [0, 1].
        std: Normalisation per channel.
        image_shape: `[C, H, W]`.
        topology: The main network's.
        hashes: File -> sha256 of the two image files.
    """

    path: Path
    dataset: str
    licence: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_shape: tuple[int, ...]
    topology: Topology
    hashes: Mapping[str, str]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.name

    @property
    def methods(self) -> tuple[str, ...]:
        """Folders of methods that are here: common training first, then stimulative, then by name."""
        found = [child.parent.name for child in self.path.glob("*/manifest.json")]
        return tuple(sorted(found, key=lambda name: ({"common": 0, "stimulative": 1}.get(name, 2), name)))

    @cached_property
    def calibration(self) -> NDArray[np.uint8]:
        """Images for re-calibration, `[N, C, H, W]`."""
        return self._load("calibration.npz")["pixels"]

    @cached_property
    def evaluation(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images `[N, C, H, W]` and labels `[N]` for evaluation."""
        arrays = self._load("evaluation.npz")
        return arrays["pixels"], arrays["labels"]

    def _load(self, name: str) -> dict[str, NDArray[Any]]:
        try:
            with np.load(self.path / name, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except (OSError, ValueError, KeyError) as reason:
            raise BundleError(f"{self.path / name} can't be read ({type(reason).__name__})") from reason

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 `[B, C, H, W]` to what the networks expect, float32."""
        shift, scale = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        scaled: NDArray[np.float32] = (pixels.astype(np.float32) / np.float32(255) - shift) / scale
        return scaled

    def write(self) -> None:
        """Writes `experiment.json`."""
        value = {k: v for k, v in asdict(self).items() if k not in ("path", "topology")}
        files.write_json(self.path / "experiment.json", {"version": VERSION, "topology": self.topology.to_dict(), **value})


@dataclass(frozen=True, kw_only=True)
class PartEntry:
    """Where one part of the network lies in `main.onnx`: its border tensors; its nodes' names begin with `NAME/`.

    Attributes:
        name: `stem`, `block4`, `transition1`, `head`.
        input: Tensor.
        output: Tensor.
        axes: Where blocks concatenate: constant -> per leading axis `in` or `out` where it follows the channels coming in or
            going out. By these a narrowed part is sliced.
    """

    name: str
    input: str
    output: str
    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One listed network.

    Attributes:
        sha256: Of the file.
        bytes: Of the file alone, without the shared weights.
        spec: Long form.
        accuracy_pct: In onnxruntime, on the evaluation images.
        correct: Images, in onnxruntime.
        correct_torch: Images, in torch.
        parity: Largest difference of logits between torch and onnxruntime over the largest logit.
        agreement: Share of images on which both say the same class.
        parameters: Of this network.
        macs: Multiply-accumulates for one image.
    """

    sha256: str
    bytes: int
    spec: str
    accuracy_pct: float
    correct: int
    correct_torch: int
    parity: float
    agreement: float
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a method's folder says of itself.

    Attributes:
        version: Of this schema.
        topology: Of this network (a twin's own is smaller than the experiment's).
        method: Training method.
        recipe: Plain values.
        options: Of the method.
        seed: Of the run.
        label: `reduced recipe`, `paper` or `imported weights`.
        spec: The sub-network that was trained alone, None for the whole network.
        checkpoint_sha256: Of what was exported.
        opset: Of the graphs.
        versions: Library -> version.
        parts: Stem, blocks, head.
        hashes: Other files -> sha256.
        networks: File -> listed network.
        images: Evaluation images behind every accuracy.
    """

    topology: Topology
    method: str
    recipe: Mapping[str, Any]
    options: Mapping[str, Any]
    seed: int
    label: str
    spec: str | None
    checkpoint_sha256: str
    opset: int
    versions: Mapping[str, str]
    parts: Sequence[PartEntry]
    hashes: Mapping[str, str]
    networks: Mapping[str, FileEntry]
    images: int
    machine: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "topology": self.topology.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One method's folder, opened."""

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
        """Of this network."""
        return self.manifest.topology

    @property
    def main(self) -> FileEntry:
        """The main network."""
        return self.manifest.networks["main.onnx"]

    def listed(self, spec: Spec) -> str | None:
        """The file that holds a sub-network, None when it isn't listed."""
        return next((name for name, entry in self.manifest.networks.items() if entry.spec == str(spec)), None)

    def sweep(self, kind: str) -> dict[str, Any] | None:
        """Stored accuracies of a family, None where there are none."""
        path = self.path / f"sweep-{kind}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def sweeps(self) -> list[str]:
        """Families whose accuracies are stored."""
        return [kind for kind in KINDS if (self.path / f"sweep-{kind}.json").exists()]

    def training(self) -> list[dict[str, Any]]:
        """Records of the epochs."""
        path = self.path / "training.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


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
    except (KeyError, TypeError, StimcoreError) as reason:
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
            parts=[PartEntry(**part) for part in value.pop("parts")],
            networks={name: FileEntry(**entry) for name, entry in value.pop("networks").items()},
            **value,
        )
    except (KeyError, TypeError, StimcoreError) as reason:
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
    expected = {bundle.path / name: value for name, value in bundle.manifest.hashes.items()}
    expected |= {bundle.path / name: entry.sha256 for name, entry in bundle.manifest.networks.items()}
    expected |= {bundle.experiment.path / name: value for name, value in bundle.experiment.hashes.items()}
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
    except ValueError as reason:
        raise BundleError(f"{path} is not JSON") from reason
    if not isinstance(value, dict) or value.pop("version", None) != VERSION:
        raise BundleError(f"{path} has another version", allowed=str(VERSION))
    return value


def main(argv: Sequence[str]) -> int:
    """`python -m stimcore.bundle verify DIR`."""
    parser = cli.Parser(prog="python -m stimcore.bundle", description="Check that bundles are what was exported.")
    parser.add_argument("what", choices=["verify"])
    parser.add_argument("folder", type=Path, help="exported/EXPERIMENT/METHOD, exported/EXPERIMENT or exported")
    folder = parser.parse_args(argv).folder
    found = [folder] if (folder / "manifest.json").exists() else sorted({p.parent for p in folder.rglob("manifest.json")})
    if not found:
        raise BundleError(f"there is no bundle in {folder}", todo="'python -m stimcore.export' writes bundles.")
    for path in found:
        print(f"{path}: {check_hashes(open_bundle(path, verify=False))} files are what was exported")
    return 0


if __name__ == "__main__":
    cli.run(main)
