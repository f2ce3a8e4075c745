"""Writes the networks of one trained run as files, and compares each with torch."""

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from stimcore import files
from stimcore.bundle import Bundle, Experiment, Manifest, PartEntry
from stimcore.bundle.bundle import STATISTICS, WEIGHTS
from stimcore.bundle.manifest import MAIN
from stimcore.engine.engine import Engine
from stimcore.engine.graph.external import externalise
from stimcore.engine.metadata import Measured, add_metadata
from stimcore.engine.provider import file_session
from stimcore.export.choices import GraphExporter
from stimcore.export.graphs import is_statistics, network_graph
from stimcore.export.parity import FLOAT32, Floats, Parity, evaluation_logits, spread
from stimcore.export.unfinished import CheckedNetwork
from stimcore.nets.cost import Cost, Costs
from stimcore.nets.staged import StagedNet
from stimcore.reference.prefix_tree import reference_logits
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

REFERENCES_TOGETHER = 32
"""Networks whose torch reference is computed together: at most this many in each thread are computed again after a stop."""
LOGIT_BYTES = 256 << 20
"""Bytes of the logits that a walk over the tree of prefixes keeps: larger families are walked in several shares."""


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


@dataclass(frozen=True, kw_only=True)
class CheckPlan:
    """How the files of an export are checked.

    Attributes:
        images: Evaluation images on which every file is compared with torch, spread evenly; all when None. The counts come
            from the engine's tree of prefixes where these are not all images, and from the files where they are.
        jobs: Threads that compute references and run files.
    """

    images: int | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.jobs < 1 or (self.images is not None and self.images < 1):
            raise ValueError(f"{self}: numbers from 1")

    def sample(self, total: int) -> NDArray[np.int64] | None:
        """Return the indices of the images on which files are compared; None for all.

        Example:
            >>> CheckPlan(images=3).sample(9).tolist(), CheckPlan(images=9).sample(9)
            ([0, 4, 8], None)
        """
        return None if self.images is None or self.images >= total else spread(total, self.images)


@dataclass(frozen=True, kw_only=True)
class _Swept:
    """What the engine's tree answers for one network.

    Attributes:
        hits: bool `[N]`: the evaluation images that are classified correctly.
        logits: float32 `[n, K]` on the sampled images.
    """

    hits: NDArray[np.bool_]
    logits: Floats


class NetworkWriter:
    """Writes and checks the networks of one bundle.

    Args:
        net: The trained network, in evaluation mode.
        experiment: The experiment with the images.
        folder: Where the files go; `write_shared_files` was called for it.
        manifest: The manifest without networks.
        shared: What `write_shared_files` returned.
        plan: How the files are checked.
    """

    def __init__(
        self,
        net: StagedNet,
        experiment: Experiment,
        folder: Path,
        manifest: Manifest,
        shared: SharedFiles,
        plan: CheckPlan,
    ) -> None:
        self._net, self._experiment, self._folder = net, experiment, folder
        self._manifest, self._shared, self._plan = manifest, shared, plan
        self._sample = plan.sample(len(experiment.evaluation[1]))
        self._costs = Costs(net)

    def write(self, specs: Sequence[Spec], finished: Set[Spec] = frozenset()) -> Iterator[tuple[str, CheckedNetwork]]:
        """Write the graphs of sub-networks, then yield each with its check, in the order in which checks end.

        Under the hood, a sampled check takes its counts from one walk over the tree of prefixes, whose cost grows with the
        nodes of the tree and not with the files. Every file still runs by itself, on the sample: its logits have to be those
        of torch, and those of the tree. Where the tree can't run or differs from the file, the file runs on all images.

        Args:
            specs: All sub-networks of the bundle. What is finished of them still takes part in the walk over the tree, so that
                an export that was stopped ends with the same bytes.
            finished: Those whose files are finished.

        Raises:
            onnx.checker.ValidationError: A file is not valid ONNX.
        """
        # neighbours in this order share the longest prefixes, which then run once
        ordered = sorted(specs, key=lambda spec: spec.blocks)
        size = len(ordered)
        if self._sample is not None:
            size = max(1, LOGIT_BYTES // (4 * len(self._sample) * len(self._experiment.classes)))
        for start in range(0, len(ordered), size):
            share = ordered[start : start + size]
            if missing := [spec for spec in share if spec not in finished]:
                yield from self._write_share(share, missing)

    def _write_share(self, share: Sequence[Spec], missing: Sequence[Spec]) -> Iterator[tuple[str, CheckedNetwork]]:
        """Write and check the missing networks of a share of the family."""
        engine = self._engine()
        statistics = engine.calibrated(share if self._sample is not None else missing)
        for spec in missing:
            model = engine.network(spec, statistics, folded=False)
            for tensor in model.graph.initializer:
                if tensor.name in self._shared.places:
                    tensor.CopyFrom(self._shared.places[tensor.name])
            if spec == self._net.topology.full:  # from which every engine reads shapes
                model.graph.value_info.extend(self._shared.shapes)
            self._store(model, spec)
        swept, reason = self._sweep(engine, share)
        # torch needs the memory now
        del engine, statistics
        costs = {spec: self._costs.of(spec) for spec in missing}
        yield from self._check_all(missing, costs, swept, reason)

    def _engine(self) -> Engine:
        """Return an engine of the main network: of the finished file where there is one, which differs in its description."""
        if not (self._folder / MAIN).exists():
            (self._folder / MAIN).write_bytes(self._shared.main)
        hashes = {**self._manifest.hashes, MAIN: files.sha256(self._folder / MAIN)}
        bundle = Bundle(
            path=self._folder, experiment=self._experiment, manifest=replace(self._manifest, hashes=hashes), fingerprint=""
        )
        return Engine(bundle, device="cpu", threads=self._plan.jobs)

    def _sweep(self, engine: Engine, specs: Sequence[Spec]) -> tuple[dict[Spec, _Swept], str]:
        """Return what the tree of prefixes answers for every network, and why there is nothing where it can't run.

        Nothing runs where every file is checked on all images.
        """
        if self._sample is None:
            return {}, ""
        try:
            *_, last = engine.evaluate(specs, collect_hits=True, collect_logits=self._sample.tolist())
        except Exception as failure:  # onnxruntime raises many types
            if not type(failure).__module__.startswith("onnxruntime"):
                raise
            return {}, f"the tree of prefixes can't run in onnxruntime ({str(failure).partition(chr(10))[0]})"
        return {spec: _Swept(hits=last.hits[spec], logits=last.logits[spec]) for spec in specs}, ""

    def _check_all(
        self, specs: Sequence[Spec], costs: Mapping[Spec, Cost], swept: Mapping[Spec, _Swept], reason: str
    ) -> Iterator[tuple[str, CheckedNetwork]]:
        """Yield the checks of files in the order in which they end, several at a time.

        Every thread takes a few neighbours, whose torch reference it computes together, and then runs their files one after
        the other: no more references wait in memory than there are threads.
        """
        experiment = self._experiment
        pixels = experiment.evaluation[0] if self._sample is None else experiment.evaluation[0][self._sample]
        calibration, images = (torch.from_numpy(experiment.normalise(part)) for part in (experiment.calibration, pixels))
        jobs = self._plan.jobs
        size = min(REFERENCES_TOGETHER, -(-len(specs) // (jobs if jobs == 1 else 2 * jobs)))
        results: queue.SimpleQueue[tuple[str, CheckedNetwork] | BaseException] = queue.SimpleQueue()
        halt = threading.Event()

        def run(group: Sequence[Spec]) -> None:
            try:
                references = {} if halt.is_set() else reference_logits(self._net, group, calibration, images)
                for spec, logits in references.items():
                    if halt.is_set():
                        return
                    results.put(self._check(spec, costs[spec], logits.numpy(), swept.get(spec), reason))
            except BaseException as failure:  # the thread that waits raises it
                results.put(failure)

        with ThreadPoolExecutor(jobs) as pool:
            try:
                for start in range(0, len(specs), size):
                    pool.submit(run, specs[start : start + size])
                for _ in specs:
                    result = results.get()
                    if isinstance(result, BaseException):
                        raise result
                    yield result
            finally:
                # also when the caller drops the iterator: the pool waits for its threads, so that they have to end soon
                halt.set()

    def _check(
        self, spec: Spec, cost: Cost, reference: Floats, swept: _Swept | None, reason: str
    ) -> tuple[str, CheckedNetwork]:
        """Run a file as any user of onnxruntime would, and write the results into its description.

        Args:
            spec: The network.
            cost: Its parameters and operations.
            reference: Logits of torch `[n, K]`, on the sample or on all images.
            swept: What the tree answers; None where it did not run, and the file runs on all images.
            reason: Why the tree did not run; empty where it was not asked to.
        """
        name = file_name(self._net.topology, spec)
        path = self._folder / name
        session = file_session(path, threads=1)
        labels, sample = self._experiment.evaluation[1], self._sample

        def run(sample: NDArray[np.int64] | None) -> Floats:
            return evaluation_logits(lambda images: session.run(None, {"images": images})[0], self._experiment, sample=sample)

        logits = run(sample)
        parity = Parity.of(logits, reference)
        if swept is not None:
            beside = Parity.of(logits, swept.logits)
            if beside.complaint(name, FLOAT32) is not None:
                reason = f"the tree of prefixes differs from it by {beside.error:.1e} of the largest logit"
        if swept is not None and not reason:
            hits = swept.hits
        else:
            everything = logits if sample is None else run(None)
            hits = everything.argmax(1) == labels
        note = f"{name} ran on all {len(labels):,} images: {reason}" if reason else ""
        if ties := parity.differing(len(reference)):
            note += f"{'; ' if note else name + ': '}onnxruntime and torch choose different classes on {ties} of "
            note += f"{len(reference):,} images, whose logits are equal up to rounding"
        model = onnx.load(os.fspath(path), load_external_data=False)
        measured = Measured(
            correct=int(hits.sum()),
            images=len(labels),
            parity=parity.error,
            parity_images=None if sample is None else len(sample),
        )
        self._store(model, spec, measured)
        onnx.checker.check_model(os.fspath(path), full_check=True)
        checked = CheckedNetwork.of(path, spec, cost, hits=hits, parity=parity, reference=reference, labels=labels, note=note)
        return name, checked

    def _store(self, model: onnx.ModelProto, spec: Spec, measured: Measured | None = None) -> None:
        add_metadata(model, self._experiment, self._manifest, spec, measured)
        with files.replacing(self._folder / file_name(self._net.topology, spec)) as temporary:
            temporary.write_bytes(model.SerializeToString())
