"""What an experiment, a manifest and a listed network say: the bundle's schema, version 1."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stimcore import files
from stimcore.data.normalise import Normalisation
from stimcore.errors import BundleError
from stimcore.subnets.families import KINDS
from stimcore.subnets.part_name import PartName
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

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
        return Normalisation(self.mean, self.std)(pixels)

    def write(self) -> None:
        """Writes `experiment.json`."""
        value = {k: v for k, v in asdict(self).items() if k not in ("path", "topology")}
        files.write_json(self.path / "experiment.json", {"version": VERSION, "topology": self.topology.to_dict(), **value})


@dataclass(frozen=True, kw_only=True)
class PartEntry:
    """Where one part of the network lies in `main.onnx`: its border tensors; its nodes' names begin with `NAME/`.

    Attributes:
        name: Name of the whole part.
        input: Tensor.
        output: Tensor.
        axes: Where blocks concatenate: constant -> per leading axis `in` or `out` where it follows the channels coming in or
            going out. By these a narrowed part is sliced.
    """

    name: PartName
    input: str
    output: str
    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back. The key `axes` is present only where there are any."""
        value = {"name": str(self.name), "input": self.input, "output": self.output}
        return value | {"axes": self.axes} if self.axes else value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the entry that `to_dict` wrote.

        Raises:
            SpecError: `name` is not the name of a part.
            KeyError: There is no `name`.
            TypeError: A key is missing or unknown.
        """
        return cls(**{**value, "name": PartName.parse(value["name"])})


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
        return {**asdict(self), "topology": self.topology.to_dict(), "parts": [part.to_dict() for part in self.parts]}


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
        """Return the records of the epochs that the network was trained for; none for imported weights."""
        return files.read_jsonl(self.path / "training.jsonl")
