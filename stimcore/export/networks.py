"""Writes the networks of one trained run as files, and compares each with torch."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from joblib import Parallel, delayed
from onnx import TensorProto, numpy_helper

from stimcore import files
from stimcore.bundle import Bundle, Experiment, FileEntry, Manifest, PartEntry
from stimcore.bundle.bundle import STATISTICS, WEIGHTS
from stimcore.bundle.manifest import MAIN
from stimcore.engine.engine import Engine
from stimcore.engine.graph.external import externalise
from stimcore.engine.metadata import Measured, add_metadata
from stimcore.engine.provider import file_session
from stimcore.export.graphs import GraphExporter, is_statistics, network_graph
from stimcore.export.parity import Floats, Parity, evaluation_logits
from stimcore.export.unfinished import CheckedNetwork
from stimcore.nets.cost import Costs
from stimcore.nets.staged import StagedNet
from stimcore.reference.prefix_tree import reference_logits
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

REFERENCES_TOGETHER = 32
"""Networks whose torch reference is computed together: at most this many are computed again after a stop."""


def file_name(topology: Topology, spec: Spec) -> str:
    """Return the name of a sub-network's file.

    Example:
        >>> file_name(Topology.of("toy", [2, 2]), Spec.from_text("1.3"))
        'subnet-d1-1.onnx'
    """
    return MAIN if spec == topology.full else f"subnet-{topology.short(spec)}.onnx"


@dataclass(frozen=True)
class SharedFiles:
    """The main network as written into a folder, for all graphs to share its weights.

    Attributes:
        parts: The entries of its parts for the manifest.
        main: The main network, serialised, with references to the file of weights.
        places: Constant -> reference to its place in the file of weights.
        shapes: Shapes of tensors of the main network that ONNX's shape inference doesn't find.
    """

    parts: Sequence[PartEntry]
    main: bytes
    places: dict[str, TensorProto]
    shapes: Sequence[onnx.ValueInfoProto] = ()


def write_shared_files(net: StagedNet, folder: Path, graphs: GraphExporter = "torch.export") -> SharedFiles:
    """Write `weights.bin` and `statistics.npz`.

    Args:
        net: The trained network, in evaluation mode.
        folder: Where the files go.
        graphs: torch's exporter that turns the modules into graphs.

    Raises:
        UsageError: A part can't be exported.
    """
    model, parts = network_graph(net, graphs)
    inline = [tensor.name for tensor in model.graph.initializer if is_statistics(tensor)]
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in inline}
    with files.replacing(folder / STATISTICS) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **dict(sorted(arrays.items())))
    content = externalise(model, WEIGHTS, inline)
    with files.replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    places = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name not in inline}
    return SharedFiles(parts, model.SerializeToString(), places, list(model.graph.value_info))


class NetworkWriter:
    """Writes and checks the networks of one bundle.

    Args:
        net: The trained network, in evaluation mode.
        experiment: The experiment with the images.
        folder: Where the files go; `write_shared_files` was called for it.
        manifest: The manifest without networks.
        shared: What `write_shared_files` returned.
        jobs: Files that are checked at once.
    """

    def __init__(
        self, net: StagedNet, experiment: Experiment, folder: Path, manifest: Manifest, shared: SharedFiles, jobs: int
    ) -> None:
        self._net, self._experiment, self._folder = net, experiment, folder
        self._manifest, self._shared, self._jobs = manifest, shared, jobs
        self._costs = Costs(net)

    def write(self, specs: Sequence[Spec]) -> Iterator[tuple[str, CheckedNetwork]]:
        """Write the graphs of sub-networks, then yield each with its check, in the order in which checks end.

        Args:
            specs: Sub-networks whose files are not finished. The main network's is, when it isn't among them.

        Raises:
            onnx.checker.ValidationError: A file is not valid ONNX.
        """
        if not specs:
            return
        engine = self._engine()
        statistics = engine.calibrated(specs)
        for spec in specs:
            model = engine.network(spec, statistics, folded=False)
            for tensor in model.graph.initializer:
                if tensor.name in self._shared.places:
                    tensor.CopyFrom(self._shared.places[tensor.name])
            if spec == self._net.topology.full:  # from which every engine reads shapes
                model.graph.value_info.extend(self._shared.shapes)
            self._store(model, spec)
        # torch needs the memory now
        del engine, statistics
        yield from Parallel(n_jobs=self._jobs, prefer="threads", return_as="generator_unordered")(
            delayed(self._check)(spec, reference) for spec, reference in self._references(specs)
        )

    def _engine(self) -> Engine:
        """Return an engine of the main network: of the finished file where there is one, which differs in its description."""
        if not (self._folder / MAIN).exists():
            (self._folder / MAIN).write_bytes(self._shared.main)
        hashes = {**self._manifest.hashes, MAIN: files.sha256(self._folder / MAIN)}
        bundle = Bundle(
            path=self._folder, experiment=self._experiment, manifest=replace(self._manifest, hashes=hashes), fingerprint=""
        )
        return Engine(bundle, device="cpu")

    def _references(self, specs: Sequence[Spec]) -> Iterator[tuple[Spec, Floats]]:
        """Yield the logits of torch for all evaluation images."""
        calibration, images = (
            torch.from_numpy(self._experiment.normalise(pixels))
            for pixels in (self._experiment.calibration, self._experiment.evaluation[0])
        )
        # neighbours in this order share the longest prefixes, which torch then runs once
        ordered = sorted(specs, key=lambda spec: spec.blocks)
        for start in range(0, len(ordered), REFERENCES_TOGETHER):
            together = ordered[start : start + REFERENCES_TOGETHER]
            for spec, logits in reference_logits(self._net, together, calibration, images).items():
                yield spec, logits.numpy()

    def _check(self, spec: Spec, reference: Floats) -> tuple[str, CheckedNetwork]:
        """Run a file on all evaluation images as any user of onnxruntime would, and write the results into its description."""
        name = file_name(self._net.topology, spec)
        path = self._folder / name
        session = file_session(path, threads=1)
        logits = evaluation_logits(lambda images: session.run(None, {"images": images})[0], self._experiment)
        labels, parity = self._experiment.evaluation[1], Parity.of(logits, reference)
        hits = logits.argmax(1) == labels
        correct, cost = int(hits.sum()), self._costs.of(spec)
        model = onnx.load(os.fspath(path), load_external_data=False)
        self._store(model, spec, Measured(correct=correct, images=len(labels), parity=parity.error))
        onnx.checker.check_model(os.fspath(path), full_check=True)
        entry = FileEntry(
            sha256=files.sha256(path),
            bytes=path.stat().st_size,
            spec=str(spec),
            accuracy_pct=100 * correct / len(labels),
            correct=correct,
            correct_torch=int((reference.argmax(1) == labels).sum()),
            parity=parity.error,
            agreement=parity.agreement,
            parameters=cost.parameters,
            macs=cost.macs,
            checked_images=len(labels),
        )
        return name, CheckedNetwork(entry, hits)

    def _store(self, model: onnx.ModelProto, spec: Spec, measured: Measured | None = None) -> None:
        add_metadata(model, self._experiment, self._manifest, spec, measured)
        with files.replacing(self._folder / file_name(self._net.topology, spec)) as temporary:
            temporary.write_bytes(model.SerializeToString())
