"""Prefix-tree evaluation: any set of sub-networks by one walk over the tree of their prefixes.

Two specs that begin with the same blocks share activations and re-calibrated statistics up to where they part. The tree is
cut into units that run as one ONNX graph each, so that onnxruntime lays out, fuses and schedules across block borders.
Statistics, activations and sessions are kept between calls within stated bytes: an edit at block k costs the blocks from k on.
"""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from stimcore.bundle import Bundle, Experiment
from stimcore.engine.cache import Kept
from stimcore.engine.calibrator import BATCH, Calibrator
from stimcore.engine.executor import Compiler, Stopped
from stimcore.engine.graph.graph import Graph, Statistics, check_shapes
from stimcore.engine.inference import Budget, Floats, Progress
from stimcore.engine.prefix_tree import Node, Unit, prefix_tree
from stimcore.engine.provider import Provider, array, pick
from stimcore.engine.scorer import Scorer, fitting
from stimcore.engine.sessions import Fixed
from stimcore.subnets.part_name import PartName, Route
from stimcore.subnets.topology import Spec

INTERACTIVE = 4
"""Up to so many specs, activations on their own routes are kept too: the next edit starts there."""


class Engine:
    """Evaluates sub-networks of one bundle. It uses several threads itself.

    `logits`, `calibrated` and `metrics` may run in other threads beside an evaluation; suspended evaluations may take turns.

    Args:
        bundle: Opened and verified.
        device: `auto`, `cpu` or `cuda:N`.
        threads: Batches that run at once on the CPU, each on one thread; every core that this process may use when None.
        budget: Bytes that may be used.
    """

    def __init__(
        self, bundle: Bundle, *, device: str = "auto", threads: int | None = None, budget: Budget | None = None
    ) -> None:
        self.bundle, self.budget = bundle, budget or Budget()
        self.threads = threads or _usable_cores()
        self.graph = Graph.load(bundle.path / "main.onnx", bundle.manifest.parts, bundle.topology)
        check_shapes(self.graph)
        self._provider = pick(device)
        workers = 1 if self._provider.on_gpu else self.threads
        self._main = self.route(bundle.topology.full)
        self._removable = frozenset(map(PartName.block, bundle.topology.removable))
        self._compiler = Compiler(self._provider, self.budget.sessions)
        with np.load(bundle.path / "statistics.npz", allow_pickle=False) as arrays:
            self._fixed = Fixed(self.graph, self._compiler, {key: arrays[key] for key in arrays.files})
        # nothing that the engine holds refers to it, so that its memory is free for the next one as soon as it is dropped
        self._cost = functools.partial(_cost, self.graph, self.budget)
        self._images = functools.partial(_images, bundle.experiment, self._provider)
        num = len(bundle.experiment.calibration)
        self._calibrator = Calibrator(
            self.graph,
            self._compiler,
            functools.partial(_calibration_batch, bundle.experiment, self._images),
            [min(BATCH, num - start) for start in range(0, num, BATCH)],
            statistics_bytes=self.budget.statistics,
            activation_bytes=self.budget.calibration,
            cost=self._cost,
            workers=workers,
        )
        self._scorer = Scorer(
            bundle.experiment,
            self.graph,
            self._fixed,
            self._main,
            self._where_edits_begin([self._main]),
            images=self._images,
            cost=self._cost,
            workers=workers,
            working_bytes=self.budget.working,
            activation_bytes=self.budget.evaluation,
        )

    @property
    def provider(self) -> str:
        """onnxruntime's name of what runs."""
        return self._provider.name

    @property
    def fallback_reason(self) -> str | None:
        """Why it is not a GPU, in one sentence."""
        return self._provider.reason

    def route(self, spec: Spec) -> Route:
        """Part names of a sub-network, in order.

        Raises:
            SpecError: The network has no such sub-network.
        """
        return self.bundle.topology.route(spec)

    def evaluate(
        self,
        specs: Sequence[Spec],
        *,
        recalibrate: bool = True,
        chunk_images: int = 1000,
        should_stop: Callable[[], bool] | None = None,
        max_images: int | None = None,
    ) -> Iterator[Progress]:
        """Evaluates specs on the bundle's images, chunk by chunk; the main network always among them.

        Args:
            specs: Any sub-networks.
            recalibrate: Re-calibrate batch norms per sub-network; otherwise all run on the trained statistics.
            chunk_images: Images between two reports; the first report comes after one batch per thread.
            should_stop: Asked between runs; True ends the evaluation where it is.
            max_images: Only this many images; all when None.

        Raises:
            SpecError: The network has no such sub-network.
        """
        stopped = should_stop or (lambda: False)
        routes = {self.route(spec): spec for spec in [self.bundle.topology.full, *specs]}
        tree = prefix_tree(routes)
        keep = self._where_edits_begin(routes if len(routes) <= INTERACTIVE else [self._main])
        statistics: dict[Route, Statistics] = {}
        try:
            if recalibrate:
                self._learn_listed(routes)
                for done, total in self._calibrator.measure(tree, statistics, keep=keep, stopped=stopped):
                    yield Progress("calibrate", done, total)
            yield from self._scorer.score(
                tree,
                routes,
                statistics if recalibrate else None,
                chunk_images=chunk_images,
                max_images=max_images,
                stopped=stopped,
            )
        except Stopped:
            return

    def logits(self, spec: Spec, images: Floats, *, recalibrate: bool = True) -> Floats:
        """Logits `[B, K]` of normalised images `[B, C, H, W]`."""
        route = self.route(spec)
        unit = Unit((), tuple(route[: i + 1] for i in range(len(route))), (route,))
        compiled = self._fixed.find(unit, recalibrated=recalibrate)
        if compiled is None:
            compiled = self._fixed.compiled(unit, self.calibrated([spec]) if recalibrate else None)
        return array(compiled.session.run({"in": self._provider.value(images)})[0])

    def standalone(self, spec: Spec) -> bytes:
        """A self-contained ONNX file: batch norms re-calibrated and folded, input `images`, output `logits`."""
        model = self.network(spec, self.calibrated([spec]), folded=True)
        serialised: bytes = model.SerializeToString()
        return serialised

    def network(self, spec: Spec, statistics: Mapping[Route, Statistics], *, folded: bool) -> onnx.ModelProto:
        """One sub-network as a model of its own, input `images`, output `logits`, the batch left open."""
        route = self.route(spec)
        steps = [route[: i + 1] for i in range(len(route))]
        model, _ = self.graph.fixed((), steps, [route], statistics, names=("images", "logits"), folded=folded)
        experiment = self.bundle.experiment
        _declare(model, experiment.image_shape, len(experiment.classes))
        return model

    def calibrated(self, specs: Sequence[Spec]) -> dict[Route, Statistics]:
        """Prefix -> re-calibrated statistics of its last part, for every prefix of every spec."""
        routes = {self.route(spec): spec for spec in specs}
        self._learn_listed(routes)
        found: dict[Route, Statistics] = {}
        keep = self._where_edits_begin(routes if len(routes) <= INTERACTIVE else [])
        for _ in self._calibrator.measure(prefix_tree(routes), found, keep=keep, stopped=lambda: False):
            pass
        return found

    def warm_up(self, should_stop: Callable[[], bool]) -> None:
        """Keeps what the first edit of the main network will go on from, and knows the main network on the first images.

        Args:
            should_stop: Asked between runs; True ends it.
        """
        main = self.bundle.topology.full
        self._learn_listed({self._main: main})
        edits = self._where_edits_begin([self._main])
        keep = fitting(self.graph, edits, len(self.bundle.experiment.calibration), self._calibrator.activations.limit)
        measured = self._calibrator.measure(prefix_tree([self._main]), {}, keep=keep, stopped=should_stop, ahead=True)
        try:
            for _ in measured:
                pass
        except Stopped:
            return
        for progress in self.evaluate([main], should_stop=should_stop):
            if progress.phase == "evaluate":
                return

    def metrics(self) -> dict[str, float]:
        """Sizes and use of what is kept."""
        found: dict[str, float] = {}
        for name, cache in self._caches().items():
            found |= {f"{name}_bytes": cache.bytes, f"{name}_hits": cache.hits, f"{name}_misses": cache.misses}
        return found

    def resize_caches(self, budget: Budget) -> None:
        """Sets how many bytes are kept from now on, and drops what exceeds them; all else stays as the engine was made."""
        for name, cache in self._caches().items():
            cache.resize(getattr(budget, name))

    def _caches(self) -> dict[str, Kept[Any, Any]]:
        """By the name of their limit in a budget."""
        return {
            "statistics": self._calibrator.statistics,
            "calibration": self._calibrator.activations,
            "evaluation": self._scorer.activations,
            "sessions": self._compiler.sessions,
        }

    def _where_edits_begin(self, routes: Iterable[Route]) -> set[Route]:
        """Prefixes of routes that end before a block that can be deleted: what one edit leaves as it is."""
        return {route[:end] for route in routes for end in range(1, len(route)) if route[end].whole in self._removable}

    def _learn_listed(self, routes: Mapping[Route, Spec]) -> None:
        """Takes statistics from listed files: they were measured on the same images when the bundle was made."""
        for route, spec in routes.items():
            prefixes = [route[: i + 1] for i in range(len(route)) if self.graph.norms(route[i])]
            if all(prefix in self._calibrator.statistics for prefix in prefixes):
                continue
            if (name := self.bundle.listed(spec)) is None:
                continue
            model = onnx.load(str(self.bundle.path / name), load_external_data=False)
            values = {t.name: t for t in model.graph.initializer if t.name.endswith((".mean", ".var"))}
            self._calibrator.learn(
                {
                    prefix: {
                        norm: (_floats(values[f"{norm}.mean"]), _floats(values[f"{norm}.var"]))
                        for norm in self.graph.norms(prefix[-1])
                    }
                    for prefix in prefixes
                }
            )


def _images(experiment: Experiment, provider: Provider, pixels: Any) -> ort.OrtValue:
    """Normalised images where the networks read them."""
    return provider.value(experiment.normalise(pixels))


def _calibration_batch(experiment: Experiment, images: Callable[[Any], ort.OrtValue], batch: int) -> ort.OrtValue:
    return images(experiment.calibration[batch * BATCH : (batch + 1) * BATCH])


def _cost(graph: Graph, budget: Budget, node: Node) -> float:
    """Share of a unit that a node's part takes."""
    return min(1.0, 1 / budget.unit_steps + graph.weight_bytes(node.route[-1]) / budget.unit)


def _floats(tensor: onnx.TensorProto) -> Floats:
    return np.array(numpy_helper.to_array(tensor), np.float32)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _declare(model: onnx.ModelProto, image_shape: Sequence[int], num_classes: int) -> None:
    """Gives input and output of a model their shapes, the batch left open."""
    for info, dims in ((model.graph.input[0], image_shape), (model.graph.output[0], (num_classes,))):
        shape = info.type.tensor_type.shape
        shape.dim.add().dim_param = "N"
        for size in dims:
            shape.dim.add().dim_value = size
