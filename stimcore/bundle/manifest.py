"""`manifest.json`: what a method's folder holds, file by file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from stimcore.bundle.experiment import VERSION
from stimcore.bundle.fields import Fields
from stimcore.bundle.integrity import check_name
from stimcore.subnets.part_name import PartName
from stimcore.subnets.topology import Topology

MAIN = "main.onnx"
"""File of the main network, which every bundle lists."""
Check = Literal["all", "sampled"]


@dataclass(frozen=True, kw_only=True)
class PartEntry:
    """Where one part of the network lies in `main.onnx`; the names of its nodes begin with `NAME/`.

    Attributes:
        name: Name of the whole part.
        input: Tensor at its beginning.
        output: Tensor at its end.
        axes: For parts that can be narrowed: constant -> for each of its leading axes `in` or `out` where the axis follows the
            channels that come in or go out, empty where it keeps its size.
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
    def from_dict(cls, value: Any) -> Self:
        """Return the entry that `to_dict` wrote; unknown keys are ignored.

        Raises:
            SpecError: `name` is not the name of a part.
            ValueError: A key is missing, or has a value that is not allowed.
        """
        fields = Fields(value, "a part")
        return cls(
            name=PartName.parse(fields.text("name")),
            input=fields.text("input"),
            output=fields.text("output"),
            axes=fields.mapping("axes", {}),
        )


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One listed network, which passed its parity check.

    Attributes:
        sha256: Hash of the file.
        bytes: Bytes of the file without the shared weights.
        spec: The sub-network in its long form.
        accuracy_pct: Accuracy in onnxruntime, in [0, 100].
        correct: Evaluation images that onnxruntime classifies correctly.
        correct_torch: Evaluation images that torch classifies correctly; None where torch ran on a part of them.
        parity: Largest difference of logits between torch and onnxruntime, divided by the largest logit.
        agreement: Share of images on which both answer the same class.
        parameters: Trained parameters of this network.
        macs: Multiply-accumulates for one image.
        checked_images: Images on which torch and onnxruntime were compared; 0 stands for all in manifests of version 1.
        check: `all` when these are all evaluation images, `sampled` when they are a part of them.
    """

    sha256: str
    bytes: int
    spec: str
    accuracy_pct: float
    correct: int
    correct_torch: int | None
    parity: float
    agreement: float
    parameters: int
    macs: int
    checked_images: int
    check: Check = "all"

    @classmethod
    def from_dict(cls, value: Any, name: str, images: int) -> Self:
        """Return the entry of a file; unknown keys are ignored.

        Args:
            value: The entry in the manifest's JSON.
            name: Name of the file.
            images: Evaluation images behind every accuracy; all of them were compared when the entry does not say otherwise.

        Raises:
            ValueError: A key is missing, or has a value that is not allowed.
        """
        check_name(name)
        fields = Fields(value, name)
        checked = fields.whole("checked_images", images)
        check: Check = "all" if checked == images else "sampled"
        correct_torch = fields.whole_or_none("correct_torch")
        if correct_torch is None and check == "all":
            raise ValueError(f"{name} was checked on all images, but has no 'correct_torch'")
        if fields.text("check", check) != check:
            raise ValueError(f"{name} was checked on {checked} of {images} images, which is not '{fields.text('check')}'")
        return cls(
            sha256=fields.text("sha256"),
            bytes=fields.whole("bytes"),
            spec=fields.text("spec"),
            accuracy_pct=fields.number("accuracy_pct"),
            correct=fields.whole("correct"),
            correct_torch=correct_torch,
            parity=fields.number("parity"),
            agreement=fields.number("agreement"),
            parameters=fields.whole("parameters"),
            macs=fields.whole("macs"),
            checked_images=checked,
            check=check,
        )


@dataclass(frozen=True, kw_only=True)
class ExitEntry:
    """One early exit of the main network: an output of the file of exits that classifies what leaves an inner block.

    Attributes:
        file: The file that has the output, in the bundle's folder.
        output: Name of the output, `[N, classes]`.
        block: Number of the block whose output it reads, from 1.
        accuracy_pct: Accuracy in onnxruntime, in [0, 100].
        correct: Evaluation images that onnxruntime classifies correctly.
        correct_torch: Evaluation images that torch classifies correctly.
        parity: Largest difference of logits between torch and onnxruntime, divided by the largest logit.
        agreement: Share of images on which both answer the same class.
        parameters: Trained parameters of what runs up to this exit, its head included.
        macs: Multiply-accumulates up to this exit for one image.
    """

    file: str
    output: str
    block: int
    accuracy_pct: float
    correct: int
    correct_torch: int
    parity: float
    agreement: float
    parameters: int
    macs: int

    @classmethod
    def from_dict(cls, value: Any, topology: Topology) -> Self:
        """Return the entry of an exit; unknown keys are ignored.

        Args:
            value: The entry in the manifest's JSON.
            topology: The topology of the network.

        Raises:
            ValueError: A key is missing, or has a value that is not allowed.
        """
        fields = Fields(value, "an exit")
        check_name(fields.text("file"))
        block = fields.whole("block")
        if not 1 <= block <= topology.num_blocks:
            raise ValueError(f"'block' of an exit is {block}, and the network has the blocks 1 to {topology.num_blocks}")
        return cls(
            file=fields.text("file"),
            output=fields.text("output"),
            block=block,
            accuracy_pct=fields.number("accuracy_pct"),
            correct=fields.whole("correct"),
            correct_torch=fields.whole("correct_torch"),
            parity=fields.number("parity"),
            agreement=fields.number("agreement"),
            parameters=fields.whole("parameters"),
            macs=fields.whole("macs"),
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a method's folder holds.

    Attributes:
        topology: The topology of this network; that of a twin is smaller than the experiment's.
        method: Training method; `imported` for imported weights.
        name: Name of the run without its seed; None in bundles of version 1 and those migrated from it.
        recipe: The recipe as plain values; empty for imported weights.
        options: Options of the method.
        seed: Seed of the run.
        label: Label of its numbers in reports: `reduced recipe`, `imported weights`, ...
        spec: For a twin the sub-network of the experiment's network that it equals, in long form; None for the whole network.
        checkpoint_sha256: Hash of the checkpoint that was exported.
        opset: ONNX operator set of the graphs.
        exporter: Program and version that wrote the bundle; None where unknown.
        versions: Library -> version.
        parts: Stem, blocks, transitions and head in order.
        hashes: File -> SHA-256, of every file in the folder that is not a listed network; the manifest itself is left out.
        networks: File -> listed network, the main network first.
        images: Evaluation images behind every accuracy.
        experiment_sha256: `Experiment.sha256` of the experiment that the networks were exported into; None in version 1.
        exits: Early exits in the order of their blocks; none where no file of exits was written.
        machine: The machine of the training.
        notes: What a user has to know about how the networks were made, a sentence each.
        version: Version of the schema.
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
    name: str | None = None
    experiment_sha256: str | None = None
    exporter: str | None = None
    exits: Sequence[ExitEntry] = ()
    machine: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    version: int = VERSION

    @property
    def check(self) -> Check:
        """`all` when every listed network was compared with torch on all evaluation images, else `sampled`."""
        return "all" if all(entry.check == "all" for entry in self.networks.values()) else "sampled"

    @property
    def checked_images(self) -> int:
        """Evaluation images on which every listed network was compared with torch, at least."""
        return min(entry.checked_images or self.images for entry in self.networks.values())

    @property
    def file_hashes(self) -> dict[str, str]:
        """File -> SHA-256, of listed networks and of all other files."""
        return {**self.hashes, **{name: entry.sha256 for name, entry in self.networks.items()}}

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `manifest.json`, in version 2. The key `notes` is present only where there are any."""
        value = {
            "version": VERSION,
            "name": self.name,
            "method": self.method,
            "seed": self.seed,
            "label": self.label,
            "spec": self.spec,
            "recipe": self.recipe,
            "options": self.options,
            "machine": self.machine,
            "checkpoint_sha256": self.checkpoint_sha256,
            "exporter": self.exporter,
            "versions": self.versions,
            "opset": self.opset,
            "topology": self.topology.to_dict(),
            "parts": [part.to_dict() for part in self.parts],
            "experiment_sha256": self.experiment_sha256,
            "images": self.images,
            "networks": {name: asdict(entry) for name, entry in self.networks.items()},
            "exits": [asdict(entry) for entry in self.exits],
            "hashes": dict(sorted(self.hashes.items())),
        }
        return value | {"notes": list(self.notes)} if self.notes else value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the manifest that `to_dict` wrote, or one of version 1; unknown keys are ignored.

        Raises:
            ValueError: A key is missing, or has a value that is not allowed.
            SpecError: The topology or the name of a part is not one.
        """
        fields = Fields(value, "manifest.json")
        version, images = fields.whole("version"), fields.whole("images")
        hashes = fields.texts_by_key("hashes")
        for name in hashes:
            check_name(name)
        if version > 1 and not hashes:
            raise ValueError("'hashes' of manifest.json is empty: every file of the folder needs one")
        networks = {name: FileEntry.from_dict(entry, name, images) for name, entry in fields.mapping("networks").items()}
        if MAIN not in networks:
            raise ValueError(f"manifest.json does not list {MAIN}")
        if twice := set(networks) & set(hashes):
            raise ValueError(f"manifest.json lists {min(twice)} twice")
        topology = Topology.from_dict(fields.mapping("topology"))
        parts = [PartEntry.from_dict(part) for part in fields.items("parts")]
        _check_parts(parts, topology)
        return cls(
            topology=topology,
            method=fields.text("method"),
            recipe=fields.mapping("recipe"),
            options=fields.mapping("options"),
            seed=fields.whole("seed"),
            label=fields.text("label"),
            spec=fields.text_or_none("spec"),
            checkpoint_sha256=fields.text("checkpoint_sha256"),
            opset=fields.whole("opset"),
            versions=fields.texts_by_key("versions"),
            parts=parts,
            hashes=hashes,
            networks=networks,
            images=images,
            name=fields.text_or_none("name"),
            experiment_sha256=None if version == 1 else fields.text("experiment_sha256"),
            exporter=fields.text_or_none("exporter"),
            exits=[ExitEntry.from_dict(entry, topology) for entry in fields.items("exits", [])],
            machine=fields.mapping("machine", {}),
            notes=fields.texts("notes", ()),
            version=version,
        )


def _check_parts(parts: Sequence[PartEntry], topology: Topology) -> None:
    """Refuse parts that are not those of the network: one that is missing would be noticed when its sub-networks run.

    Raises:
        ValueError: Parts are missing, or there are others, or they stand in another order.
    """
    given = [part.name for part in parts]
    expected = [name.whole for name in topology.route(topology.full)]
    if given != expected:
        raise ValueError(f"the parts are {', '.join(map(str, given))[:120]}, not {', '.join(map(str, expected))[:120]}")
