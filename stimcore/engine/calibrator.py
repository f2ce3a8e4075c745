"""Re-calibrated batch-norm statistics of any prefixes, measured by one walk and kept.

Source: Yu & Huang 2019, "post-statistics of batch normalisation": plain average over batches of the batch mean and of the
unbiased batch variance.
"""

from collections.abc import Callable, Iterator, Mapping, Set

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from stimcore.engine.cache import Kept
from stimcore.engine.executor import Compiled, Compiler, walk
from stimcore.engine.graph.graph import Graph, Statistics
from stimcore.engine.prefix_tree import Node, Unit, nodes, plan
from stimcore.engine.provider import array
from stimcore.subnets.part_name import Route

BATCH = 256
"""Calibration images per batch (a choice; docs/semantics.md, "Batch-norm re-calibration")."""
Values = list[ort.OrtValue]


def value_bytes(value: ort.OrtValue) -> int:
    """Bytes of a float32 tensor."""
    return 4 * int(np.prod(value.shape(), dtype=np.int64))


class Calibrator:
    """Statistics of prefixes of one network on one set of calibration images.

    Args:
        graph: The network.
        compiler: Makes sessions.
        images: Normalised calibration images by batch, where the provider reads them.
        sizes: Images in every batch.
        statistics_bytes: Bound of kept statistics.
        activation_bytes: Bound of kept activations.
        cost: Of a node, for dividing the tree into units.
        workers: Batches that run at once.
    """

    def __init__(
        self,
        graph: Graph,
        compiler: Compiler,
        images: Callable[[int], ort.OrtValue],
        sizes: list[int],
        *,
        statistics_bytes: int,
        activation_bytes: int,
        cost: Callable[[Node], float],
        workers: int,
    ) -> None:
        self._graph, self._compiler, self._images, self._sizes = graph, compiler, images, sizes
        self._cost, self._workers = cost, workers
        self.statistics: Kept[Route, Statistics] = Kept(
            statistics_bytes, lambda found: sum(mean.nbytes + var.nbytes + 200 for mean, var in found.values()) + 200
        )
        self.activations: Kept[Route, Values] = Kept(activation_bytes, lambda values: sum(map(value_bytes, values)))

    def learn(self, known: Mapping[Route, Statistics]) -> None:
        """Takes over statistics that were measured before (those of listed networks)."""
        for route, statistics in known.items():
            self.statistics.put(route, statistics)

    def measure(
        self,
        root: Node,
        into: dict[Route, Statistics],
        *,
        keep: Set[Route],
        stopped: Callable[[], bool],
        ahead: bool = False,
    ) -> Iterator[tuple[int, int]]:
        """Fills `into` with the statistics of every node below the root; yields images done and in all.

        Args:
            root: A tree of prefixes.
            into: Node's route -> statistics; filled when the iteration ends.
            keep: Prefixes whose activations are kept for later calls.
            stopped: True ends the walk.
            ahead: Run also what is needed only for activations that are to be kept and are not yet.

        Raises:
            Stopped: `stopped` said so; nothing is lost that was known before.
        """
        missing: set[Route] = set()
        for node in nodes(root):
            if not self._graph.norms(node.route[-1]):
                into[node.route] = {}
            elif (found := self.statistics.find(node.route)) is not None:
                into[node.route] = found
            else:
                missing.add(node.route)
        available = {node.route for node in nodes(root) if node.route in self.activations}
        units, kept, coming = self._planned(root, missing, keep, available, ahead=ahead)
        if not units:
            return
        self.activations.make_room(sum(self._sizes) * sum(self._graph.image_bytes(route[-1]) for route in coming))
        batches = range(len(self._sizes))
        measured: list[dict[tuple[Route, str], tuple[NDArray[np.float32], NDArray[np.float32]]]] = [{} for _ in batches]
        activations: dict[Route, dict[int, ort.OrtValue]] = {}

        def receive(batch: int, compiled: Compiled, outputs: Values) -> None:
            wanted = compiled.unit.outputs
            for route, value in zip(wanted, outputs, strict=False):
                if route in coming:
                    activations.setdefault(route, {})[batch] = self._compiler.provider.to_keep(value)
            found = outputs[len(wanted) :]
            for i, key in enumerate(compiled.norms):
                measured[batch][key] = array(found[2 * i]), array(found[2 * i + 1])

        done = 0
        for count in walk(
            units,
            [[batch] for batch in batches],
            source=lambda route, batch: kept[route][batch] if route else self._images(batch),
            compiled=self._compiled,
            receive=receive,
            workers=self._workers,
            stopped=stopped,
        ):
            done = sum(self._sizes[:count])
            yield done, sum(self._sizes)
        for route in missing:
            into[route] = self.statistics.put(route, self._average(route, measured))
        for route, by_batch in activations.items():
            if len(by_batch) == len(self._sizes):
                self.activations.put(route, [by_batch[batch] for batch in batches])

    def _planned(
        self, root: Node, missing: Set[Route], keep: Set[Route], available: Set[Route], *, ahead: bool
    ) -> tuple[list[Unit], dict[Route, Values], Set[Route]]:
        """Units that run, the kept activations that they go on from, and the prefixes whose activations come to be kept."""
        new = keep - available
        wanted = missing | new if ahead else missing
        units = plan(
            root,
            wanted=lambda node: node.route in wanted,
            available=lambda route: route in available,
            emitted=lambda node: node.route in new and bool(node.children),
            cost=self._cost,
        )
        kept: dict[Route, Values] = {}
        for source in {unit.source for unit in units} & available:
            values = self.activations.find(source)
            if values is None:  # another thread's were put in its place just now
                return self._planned(root, missing, keep, available - {source}, ahead=ahead)
            kept[source] = values
        return units, kept, {route for unit in units for route in unit.outputs} & new

    def _average(
        self, route: Route, measured: list[dict[tuple[Route, str], tuple[NDArray[np.float32], NDArray[np.float32]]]]
    ) -> Statistics:
        found: Statistics = {}
        for norm, positions in self._graph.positions(route[-1]).items():
            counts = [positions * size for size in self._sizes]
            means = [batch[route, norm][0].astype(np.float64) for batch in measured]
            variances = [
                batch[route, norm][1].astype(np.float64) * (count / max(1, count - 1))
                for batch, count in zip(measured, counts, strict=True)
            ]
            found[norm] = np.mean(means, 0).astype(np.float32), np.mean(variances, 0).astype(np.float32)
        return found

    def _compiled(self, unit: Unit) -> Compiled:
        def build() -> tuple[onnx.ModelProto, list[tuple[Route, str]]]:
            graph = self._graph.measuring(unit.source, unit.steps, unit.outputs, decompose=self._compiler.provider.on_gpu)
            return graph.model, graph.norms

        return self._compiler.compile("measure", unit, build)
