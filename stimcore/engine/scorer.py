"""Scores of any routes on the evaluation images; what later evaluations can use of the main network is kept on the way."""

import functools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

import onnxruntime as ort

from stimcore.bundle import Experiment
from stimcore.engine.cache import Kept
from stimcore.engine.calibrator import value_bytes
from stimcore.engine.executor import Compiled, session_bytes, walk
from stimcore.engine.graph.graph import Graph, Statistics
from stimcore.engine.inference import Floats, Progress
from stimcore.engine.prefix_tree import Node, Unit, plan
from stimcore.engine.provider import array
from stimcore.engine.sessions import Fixed
from stimcore.engine.tally import Reference, Tally
from stimcore.subnets.part_name import Route
from stimcore.subnets.topology import Spec

BATCH = 125
"""Images that run at once where memory allows it; few enough for the processor's caches."""


class Scorer:
    """Evaluates trees of routes whose statistics are known. Suspended evaluations may take turns.

    Args:
        experiment: Whose evaluation images are scored on.
        graph: The network.
        fixed: Makes its sessions.
        main: The main network's route.
        edits: Prefixes of it where edits begin; their activations are worth keeping.
        images: Normalised images where the provider reads them.
        cost: Of a node, for dividing the tree into units.
        workers: Batches that run at once.
        working_bytes: For the activations of images under evaluation.
        activation_bytes: Bound of kept activations.
    """

    def __init__(
        self,
        experiment: Experiment,
        graph: Graph,
        fixed: Fixed,
        main: Route,
        edits: Iterable[Route],
        *,
        images: Callable[[object], ort.OrtValue],
        cost: Callable[[Node], float],
        workers: int,
        working_bytes: int,
        activation_bytes: int,
    ) -> None:
        self._experiment, self._graph, self._fixed = experiment, graph, fixed
        self._main, self._edits = main, tuple(edits)
        self._images, self._cost, self._workers = images, cost, workers
        self._size = max(1, min(BATCH, working_bytes // (workers * 8 * graph.largest_image_bytes())))
        self._main_logits: dict[bool, dict[int, Floats]] = {True: {}, False: {}}
        self.activations: Kept[tuple[Route, bool, int], ort.OrtValue] = Kept(activation_bytes, value_bytes)

    def score(
        self,
        tree: Node,
        routes: Mapping[Route, Spec],
        statistics: Mapping[Route, Statistics] | None,
        *,
        chunk_images: int,
        max_images: int | None,
        stopped: Callable[[], bool],
    ) -> Iterator[Progress]:
        """Reports chunk by chunk; the first one comes after one batch per worker.

        Args:
            tree: Of `routes`.
            routes: What is scored, the main network among them.
            statistics: Of every node of the tree; the trained ones when None.
            chunk_images: Images between two reports.
            max_images: Only this many; all when None.
            stopped: Asked between runs.

        Raises:
            Stopped: `stopped` said so; what was kept until then stays.
        """
        labels = self._experiment.evaluation[1]
        total = len(labels) if max_images is None else min(max_images, len(labels))
        spans = [(start, min(start + self._size, total)) for start in range(0, total, self._size)]
        keep = fitting(self._graph, self._edits, len(labels), self.activations.limit)

        @functools.cache
        def units(main_is_known: bool, kept: frozenset[Route]) -> list[Unit]:
            return plan(
                tree,
                wanted=lambda node: node.leaf and not (main_is_known and node.route == self._main),
                available=lambda route: route in kept,
                emitted=lambda node: node.leaf or node.route in keep - kept,
                cost=self._cost,
            )

        tallies = {route: Tally() for route in routes}
        for chunk in _chunks(len(spans), self._workers, max(1, chunk_images // self._size)):
            found = self._logits({batch: spans[batch] for batch in chunk}, routes, keep, units, statistics, stopped)
            for batch, logits in found.items():
                reference = Reference(logits[self._main], labels[slice(*spans[batch])])
                for route, tally in tallies.items():
                    tally.add(logits[route], reference)
            seen = spans[chunk[-1]][1]
            yield Progress("evaluate", seen, total, {routes[route]: t.result(routes[route]) for route, t in tallies.items()})

    def _logits(
        self,
        spans: Mapping[int, tuple[int, int]],
        routes: Container[Route],
        keep: Container[Route],
        units: Callable[[bool, frozenset[Route]], list[Unit]],
        statistics: Mapping[Route, Statistics] | None,
        stopped: Callable[[], bool],
    ) -> dict[int, dict[Route, Floats]]:
        """Logits of all routes by batch.

        Args:
            spans: Batch -> its first image, and the one after its last.
            routes: Whose logits are wanted.
            keep: Whose activations are kept.
            units: What runs when the main network's logits are known or not, and when activations of these prefixes are.
            statistics: See `score`.
            stopped: See `score`.
        """
        pixels, labels = self._experiment.evaluation
        recalibrate = statistics is not None
        usual = all(end == min(len(labels), (batch + 1) * self._size) for batch, (_, end) in spans.items())
        known = self._main_logits[recalibrate] if usual else {}
        kept = self._kept(keep, recalibrate, spans) if usual else {}
        found = {batch: {self._main: known[batch]} if batch in known else {} for batch in spans}

        def receive(batch: int, compiled: Compiled, outputs: list[ort.OrtValue]) -> None:
            for route, value in zip(compiled.unit.outputs, outputs, strict=True):
                if route in routes:
                    found[batch][route] = array(value)
                elif usual and route in keep:
                    self.activations.put((route, recalibrate, batch), self._fixed.provider.to_keep(value))

        running = units(all(found.values()), frozenset(kept))
        for _ in walk(
            running,
            self._lots(list(spans), running),
            source=lambda route, batch: kept[route][batch] if route else self._images(pixels[slice(*spans[batch])]),
            compiled=lambda unit: self._fixed.compiled(unit, statistics),
            receive=receive,
            workers=self._workers,
            stopped=stopped,
        ):
            pass
        known.update({batch: logits[self._main] for batch, logits in found.items()})
        return found

    def _kept(self, keep: Container[Route], recalibrate: bool, batches: Iterable[int]) -> dict[Route, dict[int, ort.OrtValue]]:
        """Prefixes of the main network whose activations are kept for all these batches."""
        found: dict[Route, dict[int, ort.OrtValue]] = {}
        for route in self._edits:
            values = {batch: self.activations.find((route, recalibrate, batch)) for batch in batches if route in keep}
            if values and None not in values.values():
                found[route] = {batch: value for batch, value in values.items() if value is not None}
        return found

    def _lots(self, chunk: Sequence[int], units: Sequence[Unit]) -> list[list[int]]:
        """One batch a lot where all sessions can be kept; else few lots, so that every unit is compiled once a chunk."""
        weights = sum(self._graph.weight_bytes(route[-1]) for unit in units for route in unit.steps)
        if session_bytes(weights) <= self._fixed.limit:
            return [[batch] for batch in chunk]
        return [list(chunk[start :: self._workers]) for start in range(min(self._workers, len(chunk)))]


def fitting(graph: Graph, prefixes: Iterable[Route], images: int, limit: int) -> frozenset[Route]:
    """The longest prefixes whose activations on so many images fit a number of bytes together: they save most."""
    found: set[Route] = set()
    for route in sorted(prefixes, key=len, reverse=True):
        limit -= images * graph.image_bytes(route[-1])
        if limit < 0:
            break
        found.add(route)
    return frozenset(found)


def _chunks(batches: int, first: int, others: int) -> Iterator[range]:
    """Runs of batches: a short first one, so that a first estimate comes early."""
    start = 0
    while start < batches:
        end = min(batches, start + (first if start == 0 else max(first, others)))
        yield range(start, end)
        start = end
