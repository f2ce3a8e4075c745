"""Results of sub-networks on the evaluation images, and the cache of what later evaluations can reuse of the main network."""

import functools
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stimcore.bundle import Experiment
from stimcore.engine.cache import LRUCache
from stimcore.engine.calibrator import value_bytes
from stimcore.engine.cuda import GpuMemoryFull
from stimcore.engine.executor import Execution, execute
from stimcore.engine.graph.main_graph import MainGraph, Statistics
from stimcore.engine.inference import Floats, Progress
from stimcore.engine.prefix_tree import Node, Unit, cut_into_units
from stimcore.engine.provider import to_array
from stimcore.engine.sessions import CompiledUnit, EvaluationSessions, session_bytes
from stimcore.engine.tally import Reference, Tally
from stimcore.subnets.part_name import Route
from stimcore.subnets.spec import Spec

EVALUATION_BATCH = 125
"""Images that run at once where memory allows it: few enough for the processor's caches, and a divisor of 1,000 and 10,000."""
SHRINK = 4
"""Part of its size that a batch keeps when the memory of a GPU was too small for it."""
Span = tuple[int, int]
"""The first image of a batch, and the one after its last."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What one evaluation asks for.

    Attributes:
        routes: Route -> its sub-network, the main network included.
        tree: The prefix tree of the routes.
        statistics: Prefix -> re-calibrated statistics of its last part, for the whole tree; the trained ones are used when
            None.
        chunk_images: Images between two reports.
        max_images: Evaluate only the first images; all when None.
        should_stop: Called between runs; True ends the evaluation.
        collect_hits: Whether the last report holds the hits of every sub-network.
        collect_logits: int64, ascending: indices of the images whose logits the last report holds.
    """

    routes: Mapping[Route, Spec]
    tree: Node
    statistics: Mapping[Route, Statistics] | None
    chunk_images: int
    max_images: int | None
    should_stop: Callable[[], bool]
    collect_hits: bool = False
    collect_logits: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


class Scorer:
    """Evaluates trees of routes whose statistics are known. Evaluations that are suspended between reports may alternate.

    Args:
        experiment: The experiment with the evaluation images.
        graph: The main network.
        sessions: Makes sessions of the network.
        edits: Prefixes of the main network that one edit leaves as they are; their activations are worth caching.
        images: Returns normalised images where the provider reads them.
        cost: Returns the share of a unit that a node takes.
        workers: Batches that run at once.
        working_bytes: Memory for the activations of images under evaluation.
        activations_limit: Bytes of cached activations.
    """

    def __init__(
        self,
        experiment: Experiment,
        graph: MainGraph,
        sessions: EvaluationSessions,
        edits: Iterable[Route],
        *,
        images: Callable[[object], ort.OrtValue],
        cost: Callable[[Node], float],
        workers: int,
        working_bytes: int,
        activations_limit: int,
    ) -> None:
        self._experiment, self._graph, self._sessions = experiment, graph, sessions
        self._main = graph.topology.route(graph.topology.full)
        self._edits = tuple(edits)
        self._images, self._cost, self._workers = images, cost, workers
        # about eight of the largest tensors are alive at once: inputs and outputs of a unit and what onnxruntime holds between
        # them
        self._size = max(1, min(EVALUATION_BATCH, working_bytes // (workers * 8 * graph.largest_image_bytes())))
        self._main_logits: dict[bool, dict[int, Floats]] = {True: {}, False: {}}
        self.activations: LRUCache[tuple[Route, bool, int], ort.OrtValue] = LRUCache(activations_limit, value_bytes)

    def score(self, request: EvaluationRequest) -> Iterator[Progress]:
        """Evaluate chunk by chunk and yield a report after each; the first comes after one batch per worker.

        On a GPU whose memory is full, the caches are emptied and the batches become smaller.

        Raises:
            Stopped: `should_stop` returned True. What was cached until then stays.
            GpuMemoryFull: The memory of the GPU is too small for a single image.
        """
        labels = self._experiment.evaluation[1]
        total = len(labels) if request.max_images is None else min(request.max_images, len(labels))
        keep = longest_fitting(self._graph, self._edits, len(labels), self.activations.limit)

        # what is cached changes while chunks run, by this evaluation and by others that alternate with it
        @functools.cache
        def units(main_is_known: bool, cached: frozenset[Route]) -> list[Unit]:
            return cut_into_units(
                request.tree,
                wanted=lambda node: node.leaf and not (main_is_known and node.route == self._main),
                available=lambda route: route in cached,
                emitted=lambda node: node.leaf or node.route in keep - cached,
                cost=self._cost,
            )

        tallies = {route: Tally() for route in request.routes}
        hits = {route: np.zeros(total, np.bool_) for route in request.routes} if request.collect_hits else {}
        sample = request.collect_logits[request.collect_logits < total]
        sampled: dict[Route, list[Floats]] = {route: [] for route in request.routes} if len(sample) else {}
        seen = 0
        while seen < total:
            spans = self._chunk(seen, total, request.chunk_images)
            try:
                logits_by_batch = self._logits(spans, request, keep, units)
            except GpuMemoryFull:
                if self._size == 1:
                    raise
                self.shrink()
                continue
            for batch, logits in logits_by_batch.items():
                reference = Reference(logits[self._main], labels[slice(*spans[batch])])
                for route, tally in tallies.items():
                    right = tally.add(logits[route], reference)
                    if request.collect_hits:
                        hits[route][slice(*spans[batch])] = right
                start, end = spans[batch]
                places = sample[(start <= sample) & (sample < end)] - start
                for route, pieces in sampled.items():
                    pieces.append(logits[route][places])
            results = {spec: tallies[route].result(spec) for route, spec in request.routes.items()}
            seen = max(end for _, end in spans.values())
            finished = {spec: hits[route] for route, spec in request.routes.items()} if hits and seen == total else {}
            collected = {}
            if sampled and seen == total:
                collected = {spec: np.concatenate(sampled[route]) for route, spec in request.routes.items()}
            yield Progress("evaluate", seen, total, results, finished, collected)

    def shrink(self) -> None:
        """Empty the caches, and evaluate fewer images at once from now on."""
        self.free()
        self._size = max(1, self._size // SHRINK)

    def free(self) -> None:
        """Empty the caches, whose values are in the memory of the GPU where the networks run there."""
        self.activations.clear()
        self._sessions.clear()
        # numbered by batches of the former size
        self._main_logits = {True: {}, False: {}}

    def _span(self, batch: int, total: int) -> Span:
        return batch * self._size, min(total, (batch + 1) * self._size)

    def _chunk(self, seen: int, total: int, chunk_images: int) -> dict[int, Span]:
        """Return the next batches, by number: one per worker at first, so that a first estimate comes early.

        After a change of the size, the images that were seen may end in the middle of a batch. The batches from there on have
        numbers that no other batch has, and other spans than those numbers stand for, so that nothing is cached of them.
        """
        count = self._workers if seen == 0 else max(self._workers, chunk_images // self._size)
        starts = range(seen, total, self._size)[:count]
        return {-(-start // self._size): (start, min(start + self._size, total)) for start in starts}

    def _logits(
        self,
        spans: Mapping[int, Span],
        request: EvaluationRequest,
        keep: Container[Route],
        units: Callable[[bool, frozenset[Route]], list[Unit]],
    ) -> dict[int, dict[Route, Floats]]:
        """Return batch -> route -> logits.

        Args:
            spans: The batches that run.
            request: What is evaluated.
            keep: Prefixes whose activations are cached.
            units: Returns what runs, given whether the main network's logits are known and which activations are cached.
        """
        pixels, labels = self._experiment.evaluation
        recalibrated = request.statistics is not None
        # `max_images` may end in the middle of a batch: such a batch has other images than the cached one of the same number
        regular = all(span == self._span(batch, len(labels)) for batch, span in spans.items())
        known = self._main_logits[recalibrated] if regular else {}
        cached = self._cached(keep, recalibrated, spans) if regular else {}
        logits = {batch: {self._main: known[batch]} if batch in known else {} for batch in spans}

        def receive(batch: int, compiled: CompiledUnit, outputs: list[ort.OrtValue]) -> None:
            for route, value in zip(compiled.unit.outputs, outputs, strict=True):
                if route in request.routes:
                    logits[batch][route] = to_array(value)
                elif regular and route in keep:
                    self.activations.put((route, recalibrated, batch), self._sessions.provider.to_keep(value))

        running = units(all(logits.values()), frozenset(cached))
        if self._fit(running):
            self._compile(running, request)
        execution = Execution(
            source=lambda route, batch: cached[route][batch] if route else self._images(pixels[slice(*spans[batch])]),
            compiled=lambda unit: self._sessions.get_or_compile(unit, request.statistics),
            receive=receive,
            should_stop=request.should_stop,
        )
        for _ in execute(running, self._groups(list(spans), running), execution, workers=self._workers):
            pass
        known.update({batch: by_route[self._main] for batch, by_route in logits.items()})
        return logits

    def _cached(
        self, keep: Container[Route], recalibrated: bool, batches: Iterable[int]
    ) -> dict[Route, dict[int, ort.OrtValue]]:
        """Return the prefixes of the main network whose activations are cached for all of these batches."""
        cached: dict[Route, dict[int, ort.OrtValue]] = {}
        for route in self._edits:
            values = {batch: self.activations.get((route, recalibrated, batch)) for batch in batches if route in keep}
            if values and None not in values.values():
                cached[route] = {batch: value for batch, value in values.items() if value is not None}
        return cached

    def _groups(self, batches: Sequence[int], units: Sequence[Unit]) -> list[list[int]]:
        """Return which batches go through the units together.

        One by one where all sessions fit the cache: least memory. Otherwise one group per worker, so that every unit is
        compiled once a chunk and not once a batch.
        """
        if self._fit(units):
            return [[batch] for batch in batches]
        return [list(batches[start :: self._workers]) for start in range(min(self._workers, len(batches)))]

    def _fit(self, units: Sequence[Unit]) -> bool:
        """Return whether the sessions of all units fit the cache together."""
        weights = sum(self._graph.weight_bytes(route[-1]) for unit in units for route in unit.steps)
        return session_bytes(weights) <= self._sessions.limit

    def _compile(self, units: Sequence[Unit], request: EvaluationRequest) -> None:
        """Make the sessions that are missing, several at once.

        Batches go through the units in the same order, so that without this all workers would wait for one of them to make the
        session that comes next.
        """
        missing = self._sessions.missing(units, recalibrated=request.statistics is not None)
        if len(missing) < 2 or self._workers < 2:
            return

        def make(unit: Unit) -> None:
            if not request.should_stop():
                self._sessions.get_or_compile(unit, request.statistics)

        with ThreadPoolExecutor(self._workers) as pool:
            for _ in pool.map(make, missing):
                pass


def longest_fitting(graph: MainGraph, prefixes: Iterable[Route], num_images: int, limit: int) -> frozenset[Route]:
    """Return the longest prefixes whose activations fit into a number of bytes together; the longest ones save the most work.

    Args:
        graph: The main network.
        prefixes: The prefixes to choose from.
        num_images: Images whose activations are counted.
        limit: Bytes.
    """
    fitting: set[Route] = set()
    for route in sorted(prefixes, key=len, reverse=True):
        limit -= num_images * graph.image_bytes(route[-1])
        if limit < 0:
            break
        fitting.add(route)
    return frozenset(fitting)
