"""Writes the bundle of an ONNX file: the network that it holds, divided into blocks, with the images of a data set."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

import stimcore
from stimcore import files
from stimcore.analysis.networks import IMPORTED
from stimcore.bundle import Answers, Bundle, Experiment, Hits, Manifest, Wall, open_bundle
from stimcore.bundle import hits as hits_file
from stimcore.bundle import wall as wall_file
from stimcore.bundle.bundle import STATISTICS, WEIGHTS
from stimcore.bundle.card import write_card
from stimcore.bundle.manifest import MAIN
from stimcore.bundle.store import recover, writing
from stimcore.data.images import Dataset
from stimcore.data.normalise import Normalisation
from stimcore.engine.cuda import CPU
from stimcore.engine.engine import Engine
from stimcore.engine.graph.cost import FLOATS, GraphCosts
from stimcore.engine.graph.external import externalise
from stimcore.engine.metadata import Measured, add_metadata
from stimcore.engine.provider import session_options
from stimcore.engine.walls import refresh_walls, wall_images
from stimcore.errors import BundleError, ParityError, UsageError
from stimcore.export.experiment import check_unchanged, remove_unused, shared_experiment
from stimcore.export.parity import FLOAT32, Floats, Parity, evaluation_logits
from stimcore.export.unfinished import CheckedNetwork, UnfinishedBundle
from stimcore.surgery.blocks import FoundNetwork, find_blocks
from stimcore.surgery.divide import STATISTICS as ENDINGS
from stimcore.surgery.divide import DividedGraph, divided_graph
from stimcore.surgery.plain import plain_graph
from stimcore.surgery.reading import OnnxFile

IMPORTER = 2
"""Raised whenever the same file would give other bytes."""
SUM_SLACK = 1e-3
"""How far the sum of an image's probabilities may be from 1."""


@dataclass(frozen=True, kw_only=True)
class ImportedNetwork:
    """An ONNX file whose blocks were found.

    Attributes:
        file: The file.
        structure: Its blocks.
        divided: Its graph in parts.
    """

    file: OnnxFile
    structure: FoundNetwork
    divided: DividedGraph

    @property
    def has_norms(self) -> bool:
        """Whether batch norms are left that can be re-calibrated; most exporters fold them into convolutions."""
        return bool(self.divided.norms)


def import_network(file: OnnxFile, image_shape: tuple[int, int, int], name: str | None = None) -> ImportedNetwork:
    """Find the blocks of an ONNX file.

    Args:
        file: The file.
        image_shape: `[C, H, W]` of its images.
        name: Name of the network; that of the file when None.

    Raises:
        UsageError: The file is no classifier of such images, or has no residual block.
    """
    structure = find_blocks(plain_graph(file, image_shape), name or plain_name(file.path.stem))
    return ImportedNetwork(file=file, structure=structure, divided=divided_graph(structure))


def in_words(network: ImportedNetwork) -> list[str]:
    """Return what was found in a file, a line for the blocks and one for batch norms."""
    topology = network.structure.topology
    stages = ", ".join(f"{stage[0]} to {stage[-1]}" if len(stage) > 1 else str(stage[0]) for stage in topology.stages)
    word = "stage" if len(topology.sizes) == 1 else "stages"
    lines = [
        f"{topology.network}: {topology.num_blocks} blocks in {len(topology.sizes)} {word} ({stages}), "
        f"{len(topology.removable)} of them can be removed"
    ]
    lines += [f"block {block} can't be removed: {why}" for block, why in topology.fixed.items()]
    norms = len(network.divided.norms)
    lines.append(
        f"{norms} batch norms are left in the graph: they are re-calibrated for every sub-network"
        if norms
        else "no batch norm is left in the graph (there was none, or the exporter folded it into the layer before it): "
        "nothing is re-calibrated"
    )
    return lines


def plain_name(text: str) -> str:
    """Return a text as a name for networks and folders: letters, digits, dots, dashes and underscores.

    Example:
        >>> plain_name("my net (2).v1"), plain_name("...")
        ('my-net-2-.v1', 'network')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip("-._") or "network"


def write_bundle(
    network: ImportedNetwork,
    dataset: Dataset,
    normalisation: Normalisation,
    out: Path,
    *,
    name: str = IMPORTED,
    report: Callable[[str], None] = lambda _line: None,
) -> Bundle:
    """Write an imported network as a bundle.

    Args:
        network: The network.
        dataset: Images for re-calibration and evaluation, of the network's size and classes.
        normalisation: What the network's input is normalised with.
        out: `exported/EXPERIMENT`.
        name: Folder of the bundle in it.
        report: Gets a line about every step.

    Raises:
        UsageError: The images are of another size, or have other classes, or the outputs of the file are no logits.
        ParityError: The divided graph gives other logits than the file. What was written is removed after either error.
    """
    _check_fit(network, dataset)
    experiment = shared_experiment(out, dataset, network.structure.topology, normalisation, twin=False)
    target = out / name
    with writing(out, lambda: report(f"waits for another export into {out}")):
        check_unchanged(experiment)
        recover(target)
        sources = {
            "importer": IMPORTER,
            "file": network.file.sha256,
            "experiment": experiment.sha256,
            "program": _program(),
            "versions": _versions(),
        }
        if (present := _present(target, sources, network.file.notes)) is not None:
            report(f"{target} is there already, from the same file")
            return present
        part = UnfinishedBundle(target.with_name(f".{name}.part"), sources, images=len(experiment.evaluation[1]))
        try:
            _Writer(network, experiment, part, name, report).write(target)
        except BaseException:
            # nothing in it is used again, and the experiment would refuse the same file with other options
            part.discard()
            remove_unused(out)
            raise
        refresh_walls(experiment)
        write_card(out)
    return open_bundle(target)


def _check_fit(network: ImportedNetwork, dataset: Dataset) -> None:
    """Refuse images that are not what the network was made for.

    Raises:
        UsageError: They are of another size, or have other classes.
    """
    graph, path = network.structure.graph, network.file.path
    if dataset.image_shape != graph.image_shape:
        given, wanted = ("x".join(map(str, shape)) for shape in (dataset.image_shape, graph.image_shape))
        raise UsageError(f"{dataset.name} has images of {given}", allowed=f"images of {wanted}, which {path} takes")
    classes = (graph.shapes[graph.output] or (0,))[0]
    if classes != len(dataset.classes):
        raise UsageError(
            f"{path} answers {classes} classes and {dataset.name} has {len(dataset.classes)}",
            allowed="images of the classes that the network was trained for, in the order of its outputs",
        )


def _present(target: Path, sources: Mapping[str, object], notes: Sequence[str]) -> Bundle | None:
    """Return the bundle that is there, when it was made of the same file and is whole."""
    try:
        bundle = open_bundle(target)
    except BundleError:
        return None
    manifest = bundle.manifest
    here = {"file": manifest.checkpoint_sha256, "program": manifest.exporter, "versions": manifest.versions}
    same = all(sources[key] == value for key, value in here.items())
    # a bundle without the note on its Softmax was made when Softmaxes were left in
    return bundle if same and tuple(manifest.notes) == tuple(notes) else None


class _Writer:
    """Writes the files of one bundle into its hidden folder."""

    def __init__(
        self,
        network: ImportedNetwork,
        experiment: Experiment,
        part: UnfinishedBundle,
        name: str,
        report: Callable[[str], None],
    ) -> None:
        self._network, self._experiment, self._part = network, experiment, part
        self._name, self._report = name, report

    def write(self, target: Path) -> None:
        """Write, check and publish the bundle."""
        self._check_images()
        self._part.resume()
        folder = self._part.path
        model = onnx.ModelProto()
        model.CopyFrom(self._network.divided.model)
        costs = GraphCosts(model, self._experiment.image_shape)
        statistics = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith(ENDINGS)}
        with files.replacing(folder / STATISTICS) as temporary, temporary.open("wb") as handle:
            np.savez(handle, **dict(sorted(statistics.items())))
        # onnxruntime's shape inference reads sizes and axes, and refuses to look for them in another file
        small = {t.name for t in model.graph.initializer if t.data_type not in FLOATS}
        content = externalise(model, WEIGHTS, [*statistics, *small])
        with files.replacing(folder / WEIGHTS) as temporary:
            temporary.write_bytes(content)
        places = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL}
        self._store(model)
        manifest = self._manifest({name: files.sha256(folder / name) for name in (STATISTICS, WEIGHTS)})
        network, logits = self._checked(manifest, model, places, costs)
        manifest = replace(manifest, networks={MAIN: network.entry})
        full = manifest.topology.full
        hits = Hits(manifest.images, {}).with_rows({full: network.hits})
        images = wall_images(self._experiment, {self._name: hits})
        wall = Wall(images, {full: Answers.of(logits[np.array(images, np.int64)])})
        contents = {hits_file.FILE: hits.to_bytes(), wall_file.FILE: wall.to_bytes()}
        for name, value in contents.items():
            with files.replacing(folder / name) as temporary:
                temporary.write_bytes(value)
        hashes = {**manifest.hashes, **{name: files.sha256(folder / name) for name in contents}}
        files.write_json(folder / "manifest.json", replace(manifest, hashes=hashes).to_dict())
        self._part.publish(target)

    def _manifest(self, hashes: Mapping[str, str]) -> Manifest:
        """Return the manifest without networks."""
        opset = next(item.version for item in self._network.divided.model.opset_import if item.domain in ("", "ai.onnx"))
        return Manifest(
            topology=self._network.structure.topology,
            method=IMPORTED,
            name=self._name,
            recipe={},
            options={},
            seed=0,
            label="imported weights",
            spec=None,
            checkpoint_sha256=self._network.file.sha256,
            opset=opset,
            exporter=_program(),
            versions=_versions(),
            parts=self._network.divided.parts,
            hashes=hashes,
            networks={},
            images=len(self._experiment.evaluation[1]),
            experiment_sha256=self._experiment.sha256,
            notes=self._network.file.notes,
        )

    def _checked(
        self, manifest: Manifest, shared: onnx.ModelProto, places: Mapping[str, TensorProto], costs: GraphCosts
    ) -> tuple[CheckedNetwork, Floats]:
        """Write `main.onnx` with re-calibrated batch norms, and compare it with the file on all evaluation images.

        Returns:
            The network, and its logits `[N, classes]`.

        Raises:
            ParityError: It gives other logits than the file, with the statistics of the file or with re-calibrated ones.
            UsageError: The outputs of the file are not finite, or are probabilities.
        """
        folder, full = self._part.path, manifest.topology.full
        path, labels = folder / MAIN, self._experiment.evaluation[1]
        temporary = replace(manifest, hashes={**manifest.hashes, MAIN: files.sha256(path)})
        engine = Engine(Bundle(path=folder, experiment=self._experiment, manifest=temporary, fingerprint=""), device="cpu")
        self._report("compares the divided graph with the file")
        given = self._reference({})
        self._check_outputs(given)
        parity = Parity.of(
            evaluation_logits(lambda images: engine.logits(full, images, recalibrate=False), self._experiment), given
        )
        reference = given
        if self._network.has_norms:
            if (reason := parity.complaint(f"the divided graph of {self._network.file.path}", FLOAT32)) is not None:
                raise ParityError(reason)
            self._report("re-calibrates the batch norms")
            route = engine.route(full)
            measured = engine.calibrated([full])
            renewed = {norm: values for end in range(1, len(route) + 1) for norm, values in measured[route[:end]].items()}
            reference = self._reference(renewed)
            for norm, values in renewed.items():
                for ending, value in zip(ENDINGS, values, strict=True):
                    tensor = next(t for t in shared.graph.initializer if t.name == f"{norm}{ending}")
                    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        for tensor in shared.graph.initializer:
            if tensor.name in places:
                tensor.CopyFrom(places[tensor.name])
        self._store(shared)
        session = ort.InferenceSession(path, session_options(), providers=[CPU])
        logits = evaluation_logits(lambda images: session.run(None, {"images": images})[0], self._experiment)
        parity = Parity.of(logits, reference)
        if (reason := parity.complaint(f"the divided graph of {self._network.file.path}", FLOAT32)) is not None:
            raise ParityError(reason)
        hits: NDArray[np.bool_] = logits.argmax(1) == labels
        add_metadata(
            shared,
            self._experiment,
            manifest,
            full,
            Measured(correct=int(hits.sum()), images=len(labels), parity=parity.error),
        )
        self._store(shared)
        onnx.checker.check_model(str(path), full_check=False)
        cost = costs.of(manifest.topology.route(full))
        checked = CheckedNetwork.of(path, full, cost, hits=hits, parity=parity, reference=reference, labels=labels)
        return checked, logits

    def _check_images(self) -> None:
        """Refuse a deviation with which normalised images are not finite.

        Raises:
            UsageError: They are not.
        """
        experiment = self._experiment
        with np.errstate(all="ignore"):  # numpy would warn in its own words
            finite = evaluation_logits(lambda images: np.isfinite(images).all((1, 2, 3)), experiment)
        if not finite.all():
            mean, std = (",".join(f"{value:g}" for value in values) for values in (experiment.mean, experiment.std))
            raise UsageError(
                f"images normalised with the mean {mean} and the deviation {std} are not finite (NaN or infinity)",
                allowed="the mean and deviation that the network was trained with",
                todo="Give them with --mean and --std.",
            )

    def _check_outputs(self, outputs: Floats) -> None:
        """Refuse outputs of the file that can't be logits.

        Args:
            outputs: float32 `[N, classes]`, of the evaluation images.

        Raises:
            UsageError: They are not finite, and the message says whether a weight is not; or all of them are probabilities,
                which a graph may compute without any Softmax node.
        """
        file = self._network.file
        if not np.isfinite(outputs).all():
            values = ((tensor.name, numpy_helper.to_array(tensor)) for tensor in file.model.graph.initializer)
            wrong = [name for name, value in values if value.dtype.kind == "f" and np.isnan(value).any()]
            what = f"the weights '{wrong[0]}' of {file.path}" if wrong else f"the outputs of {file.path} for these images"
            raise UsageError(
                f"{what} are not finite (NaN or infinity)", allowed="a network that has finite weights and outputs"
            )
        if (outputs >= 0).all() and np.abs(outputs.sum(1) - 1).max() < SUM_SLACK and file.softmax is None:
            raise UsageError(
                f"the outputs of {file.path} are probabilities: none is negative, and those of every image sum to 1",
                allowed="logits [N, classes], or a Softmax node behind them",
                todo="Export the network without its last step.",
            )

    def _reference(self, statistics: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Floats:
        """Return the logits of the file itself in plain onnxruntime, with other batch-norm statistics where they are given."""
        model = onnx.ModelProto()
        model.CopyFrom(self._network.file.model)
        names = {name: node for name, node in self._network.divided.norms.items() if node in statistics}
        for node in model.graph.node:
            if node.op_type == "BatchNormalization" and node.output[0] in names:
                values = statistics[names[node.output[0]]]
                for place, ending, value in zip((3, 4), ENDINGS, values, strict=True):
                    node.input[place] = f"{node.output[0]}:renewed{ending}"
                    model.graph.initializer.append(numpy_helper.from_array(value, node.input[place]))
        session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=[CPU])
        file = self._network.file
        return evaluation_logits(lambda images: session.run([file.output], {file.input: images})[0], self._experiment)

    def _store(self, model: onnx.ModelProto) -> None:
        with files.replacing(self._part.path / MAIN) as temporary:
            temporary.write_bytes(model.SerializeToString())


def _program() -> str:
    return f"stimcore {stimcore.__version__}"


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("onnx", "numpy")} | {"onnxruntime": ort.__version__}
