"""Prefix-tree evaluation: any set of sub-networks by one walk over the tree of their prefixes.

Two specs that begin with the same blocks share activations and re-calibrated statistics up to where they part. The tree is
cut into units that run as one ONNX graph each, so that onnxruntime lays out, fuses and schedules across block borders.
Statistics, activations and sessions are kept between calls within stated bytes: an edit at block k costs the blocks from k on.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from stimcore.bundle import Bundle
from stimcore.runtime.cache import Kept
from stimcore.runtime.calibrator import BATCH, Calibrator, value_bytes
from stimcore.runtime.graph import Graph, Statistics, check_shapes
from stimcore.runtime.provider import pick
from stimcore.runtime.score import Floats, Reference, Score, Tally
from stimcore.runtime.tree import Node, Route, Unit, plan, prefix_tree
from stimcore.runtime.walker import Compiled, Compiler, Stopped, session_bytes, walk
from stimcore.topology import Spec

EVALUATION_BATCH = 125
"""Images that run at once where memory allows it; few enough for the processor's caches."""
INTERACTIVE = 4
"""Up to so many specs, activations on their own routes are kept too: the next edit starts there."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bytes that an engine may use.

    Attributes:
        working: For the activations of images under evaluation; calibration always takes 256 images at once.
        statistics: Kept re-calibrated statistics.
        calibration: Kept activations of calibration images.
        evaluation: Kept activations of evaluation images, behind prefixes of the main network.
        sessions: Kept sessions, estimated from the size of their models.
        unit: Constants in one graph.
        unit_steps: Parts in one graph.
    """

    working: int = 512 << 20
    statistics: int = 256 << 20
    calibration: int = 1 << 30
    evaluation: int = 1 << 30
    sessions: int = 2 << 30
    unit: int = 64 << 20
    unit_steps: int = 64


@dataclass(frozen=True)
class Progress:
    """A report from a running evaluation.

    Attributes:
        phase: `calibrate` or `evaluate`.
        images: Evaluated so far, or calibration images done.
        images_total: In all.
        scores: Spec -> what is known; with the main network among them; empty while calibrating.
    """

    phase: str
    images: int
    images_total: int
    scores: dict[Spec, Score] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether every image was seen."""
        return self.phase == "evaluate" and self.images == self.images_total


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
        self._workers = workers
        with np.load(bundle.path / "statistics.npz", allow_pickle=False) as arrays:
            self._trained = {key: arrays[key] for key in arrays.files}
        self._compiler = Compiler(self._provider, self.budget.sessions)
        num = len(bundle.experiment.calibration)
        self._calibrator = Calibrator(
            self.graph,
            self._compiler,
            lambda batch: self._images(bundle.experiment.calibration[batch * BATCH : (batch + 1) * BATCH]),
            [min(BATCH, num - start) for start in range(0, num, BATCH)],
            statistics_bytes=self.budget.statistics,
            activation_bytes=self.budget.calibration,
            cost=self._cost,
            workers=workers,
        )
        self._evaluated: Kept[tuple[Route, bool], dict[int, ort.OrtValue]] = Kept(
            self.budget.evaluation, lambda values: sum(map(value_bytes, values.values()))
        )
        self._main_logits: dict[bool, dict[int, Floats]] = {True: {}, False: {}}
        self._full = self.route(bundle.topology.full)
        largest = self.graph.largest_image_bytes()
        self._size = max(1, min(EVALUATION_BATCH, self.budget.working // (workers * 8 * largest)))
        self._worth_keeping = self._main_prefixes()

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
        interactive = len(routes) <= INTERACTIVE
        statistics: dict[Route, Statistics] = {}
        try:
            if recalibrate:
                self._learn_listed(routes)
                for done, total in self._calibrator.measure(
                    tree,
                    statistics,
                    keep=lambda route: interactive or route == self._full[: len(route)],
                    stopped=stopped,
                ):
                    yield Progress("calibrate", done, total)
            yield from self._score(tree, routes, statistics if recalibrate else None, chunk_images, max_images, stopped)
        except Stopped:
            return

    def _score(
        self,
        tree: Node,
        routes: Mapping[Route, Spec],
        statistics: Mapping[Route, Statistics] | None,
        chunk_images: int,
        max_images: int | None,
        stopped: Callable[[], bool],
    ) -> Iterator[Progress]:
        pixels, labels = self.bundle.experiment.evaluation
        recalibrate = statistics is not None
        total = len(labels) if max_images is None else min(max_images, len(labels))
        spans = [(start, min(start + self._size, total)) for start in range(0, total, self._size)]
        whole = total == len(labels)
        known_main = self._main_logits[recalibrate] if len(self._main_logits[recalibrate]) == len(spans) and whole else {}
        kept = self._kept(recalibrate) if whole else {}
        keep = set(self._worth_keeping) - set(kept) if whole else set()
        units = plan(
            tree,
            wanted=lambda node: node.leaf and not (known_main and node.route == self._full),
            available=lambda route: route in kept,
            emitted=lambda node: node.leaf or node.route in keep,
            cost=self._cost,
        )
        holding: dict[Route, dict[int, ort.OrtValue]] = {}
        logits: dict[int, dict[Route, Floats]] = {}

        def receive(batch: int, compiled: Compiled, outputs: list[ort.OrtValue]) -> None:
            for route, value in zip(compiled.unit.outputs, outputs, strict=True):
                if route in routes:
                    logits.setdefault(batch, {})[route] = value.numpy()
                elif route in keep:
                    holding.setdefault(route, {})[batch] = value

        tallies = {route: Tally() for route in routes}
        for chunk in _chunks(len(spans), self._workers, max(1, chunk_images // self._size)):
            for _ in walk(
                units,
                self._lots(chunk, units),
                source=lambda route, batch: kept[route][batch] if route else self._images(pixels[slice(*spans[batch])]),
                compiled=lambda unit: self._compiled(unit, statistics),
                receive=receive,
                workers=self._workers,
                stopped=stopped,
            ):
                pass
            for batch in chunk:
                found = logits.pop(batch, {})
                base = known_main[batch] if known_main else found[self._full]
                if known_main:
                    found[self._full] = base
                elif whole:
                    self._main_logits[recalibrate][batch] = base
                reference = Reference(base, labels[slice(*spans[batch])])
                for route, tally in tallies.items():
                    tally.add(found[route], reference)
            seen = spans[chunk[-1]][1]
            yield Progress("evaluate", seen, total, {routes[route]: t.score(routes[route]) for route, t in tallies.items()})
        for route, values in holding.items():
            self._evaluated.put((route, recalibrate), values)

    def logits(self, spec: Spec, images: Floats, *, recalibrate: bool = True) -> Floats:
        """Logits `[B, K]` of normalised images `[B, C, H, W]`."""
        route = self.route(spec)
        unit = Unit((), tuple(route[: i + 1] for i in range(len(route))), (route,))
        compiled = self._compiler.find(_kind(recalibrate), unit)
        if compiled is None:
            compiled = self._compiled(unit, self.calibrated([spec]) if recalibrate else None)
        found: Floats = compiled.session.run({"in": self._provider.value(images)})[0].numpy()
        return found

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
        for _ in self._calibrator.measure(
            prefix_tree(routes), found, keep=lambda route: len(routes) <= INTERACTIVE, stopped=lambda: False
        ):
            pass
        return found

    def metrics(self) -> dict[str, float]:
        """Sizes and use of what is kept."""
        caches: dict[str, Kept[Any, Any]] = {
            "statistics": self._calibrator.statistics,
            "calibration": self._calibrator.activations,
            "evaluation": self._evaluated,
            "sessions": self._compiler.sessions,
        }
        found: dict[str, float] = {}
        for name, cache in caches.items():
            found |= {f"{name}_bytes": cache.bytes, f"{name}_hits": cache.hits, f"{name}_misses": cache.misses}
        return found

    def _images(self, pixels: Any) -> ort.OrtValue:
        return self._provider.value(self.bundle.experiment.normalise(pixels))

    def _cost(self, node: Node) -> float:
        weights = self.graph.weight_bytes(node.route[-1])
        return min(1.0, 1 / self.budget.unit_steps + weights / self.budget.unit)

    def _compiled(self, unit: Unit, statistics: Mapping[Route, Statistics] | None) -> Compiled:
        def build() -> tuple[onnx.ModelProto, list[Any]]:
            own = {route: self._trained_statistics(route) for route in unit.steps} if statistics is None else statistics
            return self.graph.fixed(unit.source, unit.steps, unit.outputs, own)[0], []

        return self._compiler.compile(_kind(statistics is not None), unit, build)

    def _trained_statistics(self, route: Route) -> Statistics:
        names = self.graph.norms(route[-1])
        _, at, suffix = route[-1].partition("@")

        def own(name: str) -> Floats:
            return self.graph.narrowed(f"{name}{at}{suffix}", self._trained[name])

        return {name: (own(f"{name}.mean"), own(f"{name}.var")) for name in names}

    def _lots(self, chunk: Sequence[int], units: Sequence[Unit]) -> list[list[int]]:
        """One batch a lot where all sessions can be kept; else few lots, so that every unit is compiled once a chunk."""
        weights = sum(self.graph.weight_bytes(route[-1]) for unit in units for route in unit.steps)
        if session_bytes(weights) <= self.budget.sessions:
            return [[batch] for batch in chunk]
        return [list(chunk[start :: self._workers]) for start in range(min(self._workers, len(chunk)))]

    def _kept(self, recalibrate: bool) -> dict[Route, dict[int, ort.OrtValue]]:
        found = {route: self._evaluated.find((route, recalibrate)) for route in self._worth_keeping}
        return {route: values for route, values in found.items() if values is not None}

    def _main_prefixes(self) -> list[Route]:
        """Prefixes behind which an edit can begin, whose activations on all evaluation images fit the budget, deepest first."""
        images = len(self.bundle.experiment.evaluation[1])
        changeable = {f"block{number}" for number in self.bundle.topology.removable}
        left, found = self.budget.evaluation, []
        for end in range(len(self._full) - 1, 1, -1):
            if self._full[end] not in changeable:
                continue
            left -= images * self.graph.image_bytes(self._full[end - 1])
            if left < 0:
                break
            found.append(self._full[:end])
        return found

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


def _kind(recalibrated: bool) -> str:
    """Of a session whose batch norms stay as they are."""
    return "fixed" if recalibrated else "trained"


def _floats(tensor: onnx.TensorProto) -> Floats:
    return np.array(numpy_helper.to_array(tensor), np.float32)


def _chunks(batches: int, first: int, others: int) -> Iterator[range]:
    """Runs of batches: a short first one, so that a first estimate comes early."""
    start = 0
    while start < batches:
        end = min(batches, start + (first if start == 0 else max(first, others)))
        yield range(start, end)
        start = end


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _declare(model: onnx.ModelProto, image_shape: Sequence[int], num_classes: int) -> None:
    """Gives input and output of a model their shapes, the batch left open."""
    for info, dims in ((model.graph.input[0], image_shape), (model.graph.output[0], (num_classes,))):
        shape = info.type.tensor_type.shape
        shape.dim.add().dim_param = "N"
        for size in dims:
            shape.dim.add().dim_value = size
