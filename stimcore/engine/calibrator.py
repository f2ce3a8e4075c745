"""Re-calibrated batch-norm statistics of any set of prefixes, measured by one walk over their tree and cached.

Source: Yu & Huang 2019, "post-statistics of batch normalisation": the plain average over batches of the batch mean and of the
unbiased batch variance.

In training mode a batch norm normalises with the batch it sees, so that what leaves a prefix depends on the prefix alone and
not on any statistics measured before: all batch norms are measured in one pass over the images, and a prefix that two
sub-networks share is measured once for both.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from stimcore.engine.cache import LRUCache
from stimcore.engine.executor import Execution, execute
from stimcore.engine.graph.main_graph import MainGraph, Statistics
from stimcore.engine.graph.measure import measuring_graph
from stimcore.engine.prefix_tree import Node, Unit, cut_into_units, nodes_below
from stimcore.engine.provider import to_array
from stimcore.engine.sessions import CompiledUnit, SessionCache
from stimcore.subnets.part_name import Route

BatchMoments = dict[tuple[Route, str], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Step and batch norm -> mean and population variance of one batch, each float32 `[C]`."""


def value_bytes(value: ort.OrtValue) -> int:
    """Return the bytes of a float32 tensor."""
    return 4 * int(np.prod(value.shape(), dtype=np.int64))


def statistics_bytes(statistics: Statistics) -> int:
    """Return the bytes of one prefix's statistics, about 200 for each Python object included."""
    return sum(mean.nbytes + var.nbytes + 200 for mean, var in statistics.values()) + 200


@dataclass(frozen=True, kw_only=True)
class CalibrationImages:
    """The calibration images, in batches.

    Attributes:
        batch: Returns the normalised images of a batch where the provider reads them.
        sizes: Number of images in every batch.
    """

    batch: Callable[[int], ort.OrtValue]
    sizes: list[int]

    @property
    def total(self) -> int:
        """Number of images in all."""
        return sum(self.sizes)


@dataclass(frozen=True)
class _Work:
    """What has to run.

    Attributes:
        units: The units, sources first.
        known: Cached activations by batch, for every prefix that a unit starts from.
        to_cache: Prefixes whose activations will be cached.
    """

    units: list[Unit]
    known: dict[Route, list[ort.OrtValue]]
    to_cache: Set[Route]


class Calibrator:
    """Measures and caches the statistics of prefixes of one network on one set of calibration images.

    Args:
        graph: The main network.
        sessions: Makes and caches sessions.
        images: The calibration images.
        statistics_limit: Bytes of cached statistics.
        activations_limit: Bytes of cached activations.
        cost: Returns the share of a unit that a node takes.
        workers: Batches that run at once.
    """

    def __init__(
        self,
        graph: MainGraph,
        sessions: SessionCache,
        images: CalibrationImages,
        *,
        statistics_limit: int,
        activations_limit: int,
        cost: Callable[[Node], float],
        workers: int,
    ) -> None:
        self._graph, self._sessions, self._images = graph, sessions, images
        self._cost, self._workers = cost, workers
        self.statistics: LRUCache[Route, Statistics] = LRUCache(statistics_limit, statistics_bytes)
        self.activations: LRUCache[Route, list[ort.OrtValue]] = LRUCache(
            activations_limit, lambda values: sum(map(value_bytes, values))
        )

    def add(self, statistics: Mapping[Route, Statistics]) -> None:
        """Cache statistics that were measured before: those of listed networks."""
        for route, values in statistics.items():
            self.statistics.put(route, values)

    def measure(
        self,
        root: Node,
        into: dict[Route, Statistics],
        *,
        keep: Set[Route],
        should_stop: Callable[[], bool],
        ahead: bool = False,
    ) -> Iterator[tuple[int, int]]:
        """Put the statistics of every node below the root into a dictionary; yield the images done and their total.

        Nothing is yielded when all statistics are cached.

        Args:
            root: A tree of prefixes.
            into: Filled with prefix -> statistics of its last part; complete when the iteration ends.
            keep: Prefixes whose activations are cached for later calls.
            should_stop: True ends the iteration.
            ahead: Also run what is needed only for activations that are to be cached.

        Raises:
            Stopped: `should_stop` returned True. The caches keep what they had.
        """
        missing: set[Route] = set()
        for node in nodes_below(root):
            if not self._graph.norms(node.route[-1]):
                into[node.route] = {}
            elif (statistics := self.statistics.get(node.route)) is not None:
                into[node.route] = statistics
            else:
                missing.add(node.route)
        available = {node.route for node in nodes_below(root) if node.route in self.activations}
        work = self._divide(root, missing, keep, available, ahead=ahead)
        if not work.units:
            return
        # old activations go before new ones are computed: memory then peaks at the limit instead of at twice the limit
        coming = sum(self._graph.image_bytes(route[-1]) for route in work.to_cache)
        self.activations.make_room(self._images.total * coming)
        batches = range(len(self._images.sizes))
        moments: list[BatchMoments] = [{} for _ in batches]
        activations: dict[Route, dict[int, ort.OrtValue]] = {}

        def receive(batch: int, compiled: CompiledUnit, outputs: list[ort.OrtValue]) -> None:
            wanted = compiled.unit.outputs
            # a measuring graph returns the unit's outputs first, then mean and variance of every batch norm
            for route, value in zip(wanted, outputs, strict=False):
                if route in work.to_cache:
                    activations.setdefault(route, {})[batch] = self._sessions.provider.to_keep(value)
            measured = outputs[len(wanted) :]
            for i, key in enumerate(compiled.norms):
                moments[batch][key] = to_array(measured[2 * i]), to_array(measured[2 * i + 1])

        execution = Execution(
            source=lambda route, batch: work.known[route][batch] if route else self._images.batch(batch),
            compiled=self._compiled,
            receive=receive,
            should_stop=should_stop,
        )
        for count in execute(work.units, [[batch] for batch in batches], execution, workers=self._workers):
            yield sum(self._images.sizes[:count]), self._images.total
        for route in missing:
            into[route] = self.statistics.put(route, self._average(route, moments))
        for route, by_batch in activations.items():
            if len(by_batch) == len(batches):
                self.activations.put(route, [by_batch[batch] for batch in batches])

    def _divide(self, root: Node, missing: Set[Route], keep: Set[Route], available: Set[Route], *, ahead: bool) -> _Work:
        new = keep - available
        wanted = missing | new if ahead else missing
        # Statistics that are known don't help to compute what comes behind them: in training mode a batch norm normalises with
        # the batch. Only a cached activation lets a walk begin late, so that `available` says nothing of statistics.
        units = cut_into_units(
            root,
            wanted=lambda node: node.route in wanted,
            available=lambda route: route in available,
            # a sub-network's last output is logits: no edit starts behind them
            emitted=lambda node: node.route in new and bool(node.children),
            cost=self._cost,
        )
        known: dict[Route, list[ort.OrtValue]] = {}
        for source in {unit.source for unit in units} & available:
            values = self.activations.get(source)
            if values is None:
                # Another thread's activations took their place since `available` was computed. What began there has to begin
                # earlier now, which is another division; it ends, because `available` loses a prefix every time.
                return self._divide(root, missing, keep, available - {source}, ahead=ahead)
            known[source] = values
        return _Work(units, known, {route for unit in units for route in unit.outputs} & new)

    def _average(self, route: Route, moments: list[BatchMoments]) -> Statistics:
        """Average a prefix's moments over batches, in float64.

        Every batch counts the same, the smaller last one too: this is what torch's cumulative average (`momentum=None`) does.
        ONNX gives the population variance; torch's running variance is the unbiased one, n / (n - 1) times as large.
        """
        averages: Statistics = {}
        for norm, positions in self._graph.positions(route[-1]).items():
            counts = [positions * size for size in self._images.sizes]
            means = [batch[route, norm][0].astype(np.float64) for batch in moments]
            variances = [
                batch[route, norm][1].astype(np.float64) * (count / max(1, count - 1))
                for batch, count in zip(moments, counts, strict=True)
            ]
            averages[norm] = np.mean(means, 0).astype(np.float32), np.mean(variances, 0).astype(np.float32)
        return averages

    def _compiled(self, unit: Unit) -> CompiledUnit:
        def build() -> tuple[onnx.ModelProto, list[tuple[Route, str]]]:
            graph = measuring_graph(self._graph, unit, decompose=self._sessions.provider.decomposes)
            return graph.model, graph.norms

        return self._sessions.get_or_compile("measure", unit, build)
