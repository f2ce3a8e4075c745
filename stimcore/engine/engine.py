"""The engine: evaluates any set of sub-networks of a bundle by one walk over the tree of their prefixes.

Two specs that begin with the same blocks share activations and re-calibrated statistics up to the first block that differs. The
tree is cut into units that run as one ONNX graph each, so that onnxruntime fuses operators and plans memory across blocks.
Statistics, activations and sessions are cached within stated bytes: an edit at block k costs the blocks from k on.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from stimcore.bundle import Bundle, Experiment
from stimcore.data.images import calibration_batches
from stimcore.engine.budget import Budget
from stimcore.engine.cache import LRUCache
from stimcore.engine.calibrator import CalibrationImages, Calibrator
from stimcore.engine.cpus import usable_cpus
from stimcore.engine.cuda import CPU, GpuMemoryFull, GpuUnusable, free_bytes
from stimcore.engine.executor import Stopped
from stimcore.engine.graph.external import load_model
from stimcore.engine.graph.fold import folded_graph
from stimcore.engine.graph.main_graph import MainGraph, Statistics
from stimcore.engine.graph.slice import sliced_graph
from stimcore.engine.inference import Floats, Progress
from stimcore.engine.prefix_tree import Node, Unit, prefix_tree
from stimcore.engine.provider import Provider, pick, to_array
from stimcore.engine.scorer import EvaluationRequest, Scorer, longest_fitting
from stimcore.engine.sessions import EvaluationSessions, SessionCache
from stimcore.engine.standalone import verified_file
from stimcore.subnets.part_name import PartName, Route
from stimcore.subnets.spec import Spec

log = logging.getLogger("stimcore.engine")
INTERACTIVE_SPECS = 4
"""Up to this many sub-networks count as somebody's edits: activations on their routes are cached too, for the next edit."""
SPECS_TOGETHER = 20
"""Sub-networks that `prepare` measures in one pass. More would share a little more, and lose more where time runs out."""


class Engine:
    """Runs the sub-networks of one bundle in this process, on several threads.

    `logits`, `prepare`, `calibrated` and `metrics` may be called in other threads during an evaluation, and evaluations that
    are suspended between two reports may alternate.

    Args:
        bundle: Opened and verified.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: Batches that run at once on the CPU, each on one thread; one per core that this process may use when None.
        budget: Bytes of memory that may be used.

    Raises:
        UsageError: The device can't be used.
        BundleError: `main.onnx` can't be used.
    """

    def __init__(
        self, bundle: Bundle, *, device: str = "auto", threads: int | None = None, budget: Budget | None = None
    ) -> None:
        self._provider = pick(device)
        if budget is None:
            budget = Budget.of_gpu(free_bytes(self._provider.device)) if self._provider.on_gpu else Budget()
        self.bundle, self.budget = bundle, budget
        self.threads = threads or usable_cpus()
        self.graph = MainGraph.load(bundle.read, bundle.manifest.parts, bundle.topology)
        workers = 1 if self._provider.on_gpu else self.threads
        self._main = self.route(bundle.topology.full)
        self._removable = frozenset(map(PartName.block, bundle.topology.removable))
        self._session_cache = SessionCache(self._provider, self.budget.sessions)
        self._sessions = EvaluationSessions(self.graph, self._session_cache, bundle.trained_statistics())
        # nothing that the engine holds refers back to it. In a circle its memory would only be freed by the next garbage
        # collection, and a worker that replaces one engine by another would need the memory of both
        cost = functools.partial(_cost, self.graph, self.budget)
        images = functools.partial(_images, bundle.experiment, self._provider)
        batches = calibration_batches(len(bundle.experiment.calibration))
        self._calibrator = Calibrator(
            self.graph,
            self._session_cache,
            CalibrationImages(
                batch=functools.partial(_calibration_batch, bundle.experiment, images, batches),
                sizes=[batch.stop - batch.start for batch in batches],
            ),
            statistics_limit=self.budget.statistics,
            activations_limit=self.budget.calibration,
            cost=cost,
            workers=workers,
        )
        self._scorer = Scorer(
            bundle.experiment,
            self.graph,
            self._sessions,
            self._edit_prefixes([self._main]),
            images=images,
            cost=cost,
            workers=workers,
            working_bytes=self.budget.working,
            activations_limit=self.budget.evaluation,
        )

    @property
    def provider(self) -> str:
        """The name that onnxruntime gives to the provider that runs networks."""
        return self._provider.name

    @property
    def fallback_reason(self) -> str | None:
        """Why networks don't run on a GPU, in one sentence; None on a GPU and where the CPU was asked for."""
        return self._provider.reason

    def route(self, spec: Spec) -> Route:
        """Return the names of the parts that run for a sub-network, in order.

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
        collect_hits: bool = False,
        collect_logits: Sequence[int] = (),
    ) -> Iterator[Progress]:
        """Evaluate specs and the main network on the bundle's evaluation images; yield a report after every chunk.

        Where the memory of a GPU is full, the caches are emptied and batches become smaller. When that is not enough, the
        evaluation begins again on the processor, and every report from there on says so in its note.

        Args:
            specs: Sub-networks of this bundle.
            recalibrate: Re-calibrate the batch norms of each sub-network; otherwise all run on the trained statistics.
            chunk_images: Images between two reports; the first report comes after one batch per thread.
            should_stop: Called between runs, from several threads; the evaluation ends early when it returns True.
            max_images: Evaluate only the first images; all when None.
            collect_hits: Report with the last chunk which images each sub-network classifies correctly: a byte per image.
            collect_logits: Indices of evaluation images, ascending, whose logits are reported with the last chunk.

        Raises:
            SpecError: The network has no such sub-network.

        Example:
            >>> from pathlib import Path
            >>> from stimcore.bundle import open_bundle
            >>> engine = Engine(open_bundle(Path("exported/resnet20-fashion/stimulative")), device="cpu")
            >>> spec = engine.bundle.topology.parse("1-2-3.4-5-6.7-x8-9")
            >>> for progress in engine.evaluate([spec], recalibrate=False, max_images=125):
            ...     result = progress.results[spec]
            >>> result.images, result.accuracy_pct > 50
            (125, True)
        """
        evaluate = functools.partial(
            Engine._evaluate,
            specs=specs,
            recalibrate=recalibrate,
            chunk_images=chunk_images,
            should_stop=should_stop or (lambda: False),
            max_images=max_images,
            collect_hits=collect_hits,
            collect_logits=collect_logits,
        )
        try:
            try:
                yield from evaluate(self)
            except GpuMemoryFull:
                self._free()  # what earlier evaluations left may be what fills the memory
                yield from evaluate(self)
        except GpuUnusable as reason:
            note = self._fallen_back(reason, "this evaluation")
            for progress in evaluate(self._on_cpu):
                yield replace(progress, provider=CPU, note=note)

    def _evaluate(
        self,
        specs: Sequence[Spec],
        *,
        recalibrate: bool,
        chunk_images: int,
        should_stop: Callable[[], bool],
        max_images: int | None,
        collect_hits: bool,
        collect_logits: Sequence[int],
    ) -> Iterator[Progress]:
        """Evaluate on this engine's device; see `evaluate`.

        Raises:
            GpuUnusable: The GPU can't do it.
        """
        stopped = should_stop
        routes = {self.route(spec): spec for spec in [self.bundle.topology.full, *specs]}
        tree = prefix_tree(routes)
        keep = self._edit_prefixes(routes if len(routes) <= INTERACTIVE_SPECS else [self._main])
        statistics: dict[Route, Statistics] = {}
        try:
            if recalibrate:
                self._add_listed_statistics(routes)
                for done, total in self._calibrator.measure(tree, statistics, keep=keep, should_stop=stopped):
                    yield Progress("calibrate", done, total)
            request = EvaluationRequest(
                routes=routes,
                tree=tree,
                statistics=statistics if recalibrate else None,
                chunk_images=chunk_images,
                max_images=max_images,
                should_stop=stopped,
                collect_hits=collect_hits,
                collect_logits=np.asarray(collect_logits, np.int64),
            )
            yield from self._scorer.score(request)
        except Stopped:
            return

    def logits(self, spec: Spec, images: Floats, *, recalibrate: bool = True) -> Floats:
        """Return logits `[B, K]` of normalised images `[B, C, H, W]`.

        On a GPU whose memory is full, parts of the batch run one after the other; the processor takes what is still too large.

        Raises:
            SpecError: The network has no such sub-network.
        """
        try:
            return self._logits(spec, images, recalibrate=recalibrate)
        except GpuMemoryFull as reason:
            self._free()
            if len(images) > 1:
                half = len(images) // 2
                parts = [self.logits(spec, part, recalibrate=recalibrate) for part in (images[:half], images[half:])]
                return np.concatenate(parts)
            self._fallen_back(reason, "an inference")
        except GpuUnusable as reason:
            self._fallen_back(reason, "an inference")
        return self._on_cpu.logits(spec, images, recalibrate=recalibrate)

    def _logits(self, spec: Spec, images: Floats, *, recalibrate: bool) -> Floats:
        """Return logits from this engine's device; see `logits`."""
        unit = Unit.whole(self.route(spec))
        # with a cached session there is no need for the statistics that it was made from
        compiled = self._sessions.get(unit, recalibrated=recalibrate)
        if compiled is None:
            compiled = self._sessions.get_or_compile(unit, self.calibrated([spec]) if recalibrate else None)
        return to_array(compiled.session.run({"in": self._provider.value(images)})[0])

    def standalone(self, spec: Spec) -> bytes:
        """Return a self-contained ONNX file with re-calibrated batch norms folded, input `images` and output `logits`.

        The file has run in plain onnxruntime on a sample of the evaluation images, and describes itself with the results. Its
        accuracy is that on all evaluation images where the bundle stores it, and that on the sample elsewhere.

        Raises:
            SpecError: The network has no such sub-network.
            BundleError: The file gives other logits than this engine.
        """
        composed = self.network(spec, self.calibrated([spec]), folded=True)
        logits = functools.partial(self.logits, spec)
        return verified_file(composed, self.bundle, spec, logits, threads=self.threads)

    def network(self, spec: Spec, statistics: Mapping[Route, Statistics], *, folded: bool) -> onnx.ModelProto:
        """Return a sub-network as a model with input `images`, output `logits` and any batch size.

        Args:
            spec: The sub-network.
            statistics: Statistics of all of its prefixes, as `calibrated` returns them.
            folded: Fold batch norms into convolutions. Otherwise all constants stay as they are stored.
        """
        passed = folded_graph if folded else sliced_graph
        model = passed(self.graph, Unit.whole(self.route(spec)), statistics, names=("images", "logits"))
        experiment = self.bundle.experiment
        _declare_shapes(model, experiment.image_shape, len(experiment.classes))
        return model

    def prepare(self, specs: Sequence[Spec], should_stop: Callable[[], bool], /) -> None:
        """Re-calibrate sub-networks together, so that the first `logits` of each needs no pass over the images of its own.

        It works in groups, and keeps those that it has finished: who is out of time and asks again goes on from there.

        Raises:
            SpecError: The network has no such sub-network.
        """
        alike = sorted(specs, key=self.route)  # neighbours share most of their prefixes
        with contextlib.suppress(Stopped):
            for start in range(0, len(alike), SPECS_TOGETHER):
                self.calibrated(alike[start : start + SPECS_TOGETHER], should_stop)

    def calibrated(self, specs: Sequence[Spec], should_stop: Callable[[], bool] = lambda: False) -> dict[Route, Statistics]:
        """Return prefix -> re-calibrated statistics of its last part, for every prefix of every spec.

        Raises:
            SpecError: The network has no such sub-network.
            Stopped: `should_stop` returned True.
        """
        routes = {self.route(spec): spec for spec in specs}
        self._add_listed_statistics(routes)
        statistics: dict[Route, Statistics] = {}
        keep = self._edit_prefixes(routes if len(routes) <= INTERACTIVE_SPECS else [])
        try:
            for _ in self._calibrator.measure(prefix_tree(routes), statistics, keep=keep, should_stop=should_stop):
                pass
        except GpuUnusable as reason:
            self._free()
            self._fallen_back(reason, "a re-calibration")
            return self._on_cpu.calibrated(specs, should_stop)
        return statistics

    def warm_up(self, should_stop: Callable[[], bool], /) -> None:
        """Fill the caches with what the first edit of the main network reads; end early when `should_stop` returns True.

        These are the activations of the calibration images where edits begin, and the first evaluation images.
        """
        main = self.bundle.topology.full
        self._add_listed_statistics({self._main: main})
        edits = self._edit_prefixes([self._main])
        # more than fits would push out what was computed first
        keep = longest_fitting(self.graph, edits, len(self.bundle.experiment.calibration), self._calibrator.activations.limit)
        measured = self._calibrator.measure(prefix_tree([self._main]), {}, keep=keep, should_stop=should_stop, ahead=True)
        try:
            for _ in measured:
                pass
        except Stopped:
            return
        except GpuUnusable:
            self._free()  # nobody waits for this: the first evaluation finds out what the GPU can still do
            return
        for progress in self.evaluate([main], should_stop=should_stop):
            if progress.phase == "evaluate":
                return

    def metrics(self) -> dict[str, float]:
        """Return bytes, hits and misses of every cache: `statistics_bytes`, `sessions_hits`, ..."""
        metrics: dict[str, float] = {}
        for name, cache in self._caches().items():
            metrics |= {f"{name}_bytes": cache.bytes, f"{name}_hits": cache.hits, f"{name}_misses": cache.misses}
        return metrics

    def resize_caches(self, budget: Budget, /) -> None:
        """Bound the caches by another budget from now on, and drop what exceeds it; batch sizes and units stay as they are."""
        for name, cache in self._caches().items():
            cache.resize(getattr(budget, name))

    def _free(self) -> None:
        """Empty the caches whose values are in the memory of the GPU."""
        self._calibrator.activations.clear()
        self._scorer.free()

    @functools.cached_property
    def _on_cpu(self) -> "Engine":
        """An engine of the same bundle on the processor, for what the GPU can't do."""
        return Engine(self.bundle, device="cpu", threads=self.threads, budget=self.budget)

    def _fallen_back(self, reason: GpuUnusable, what: str) -> str:
        """Log that something ran on the processor, and return the sentence."""
        note = f"{reason}, so that {what} ran on the processor"
        note = f"{note[0].upper()}{note[1:]}."
        log.warning("%s: %s", self.bundle.path, note)
        return note

    def _caches(self) -> dict[str, LRUCache[Any, Any]]:
        """Return the caches by the names that their limits have in a budget."""
        return {
            "statistics": self._calibrator.statistics,
            "calibration": self._calibrator.activations,
            "evaluation": self._scorer.activations,
            "sessions": self._session_cache.sessions,
        }

    def _edit_prefixes(self, routes: Iterable[Route]) -> set[Route]:
        """Return the prefixes that end before a block that can be deleted: what one edit leaves as it is."""
        return {route[:end] for route in routes for end in range(1, len(route)) if route[end].whole in self._removable}

    def _add_listed_statistics(self, routes: Mapping[Route, Spec]) -> None:
        """Read statistics from listed files: they were measured on the same images when the bundle was made.

        Raises:
            BundleError: A listed file has changed since the bundle was opened.
        """
        for route, spec in routes.items():
            prefixes = [route[: i + 1] for i in range(len(route)) if self.graph.norms(route[i])]
            unknown = [prefix for prefix in prefixes if prefix not in self._calibrator.statistics]
            if not unknown or (name := self.bundle.listed(spec)) is None:
                continue
            # read long after the bundle was opened: a file that was replaced since then has another hash, and is an error
            model = load_model(self.bundle.read, name)
            values = {t.name: t for t in model.graph.initializer if t.name.endswith((".mean", ".var"))}
            self._calibrator.add(
                {
                    prefix: {
                        norm: (_floats(values[f"{norm}.mean"]), _floats(values[f"{norm}.var"]))
                        for norm in self.graph.norms(prefix[-1])
                    }
                    for prefix in unknown
                }
            )


def _images(experiment: Experiment, provider: Provider, pixels: Any) -> ort.OrtValue:
    """Return normalised images where the networks read them."""
    return provider.value(experiment.normalise(pixels))


def _calibration_batch(
    experiment: Experiment, images: Callable[[Any], ort.OrtValue], batches: Sequence[slice], batch: int
) -> ort.OrtValue:
    return images(experiment.calibration[batches[batch]])


def _cost(graph: MainGraph, budget: Budget, node: Node) -> float:
    """Return the share of a unit that a node takes: units are bounded in parts and in bytes of weights."""
    return min(1.0, 1 / budget.unit_steps + graph.weight_bytes(node.route[-1]) / budget.unit)


def _floats(tensor: onnx.TensorProto) -> Floats:
    return np.array(numpy_helper.to_array(tensor), np.float32)


def _declare_shapes(model: onnx.ModelProto, image_shape: Sequence[int], num_classes: int) -> None:
    """Give input and output of a model their shapes, with any batch size."""
    for info, dims in ((model.graph.input[0], image_shape), (model.graph.output[0], (num_classes,))):
        shape = info.type.tensor_type.shape
        shape.dim.add().dim_param = "N"
        for size in dims:
            shape.dim.add().dim_value = size
