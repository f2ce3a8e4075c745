"""Prefix-tree evaluation: any set of sub-networks by one depth-first walk over the tree of their prefixes.

Two specs that begin with the same blocks share activations and re-calibrated statistics up to where they part. Statistics,
calibration activations and sessions are kept between calls, bounded, so that an edit at block k costs the blocks from k on.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stimcore.bundle import Bundle
from stimcore.runtime.graph import Graph, Statistics
from stimcore.runtime.provider import pick
from stimcore.statistics import PairedDrop, paired_drop, wilson
from stimcore.topology import Spec

BATCH = 256
"""Calibration images per batch (SEMANTICS, choice)."""
Floats = NDArray[np.float32]
Route = tuple[str, ...]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Score:
    """What is known of one sub-network so far.

    Attributes:
        images: Seen.
        correct: Of these.
        lost: Right in the main network and wrong here.
        won: Wrong in the main network and right here.
    """

    spec: Spec
    images: int
    correct: int
    lost: int
    won: int

    @property
    def accuracy_pct(self) -> float:
        """In percent."""
        return 100 * self.correct / self.images

    @property
    def interval_pct(self) -> tuple[float, float]:
        """95%, Wilson."""
        return wilson(self.correct, self.images)

    @property
    def drop(self) -> PairedDrop:
        """Against the main network on the same images."""
        return paired_drop(self.lost, self.won, self.images)

    def to_dict(self) -> dict[str, object]:
        """One result in the form that commands, sweeps and the server share."""
        return {
            "spec": str(self.spec),
            "correct": self.correct,
            "images": self.images,
            "accuracy_pct": round(self.accuracy_pct, 6),
            "interval_pct": [round(v, 6) for v in self.interval_pct],
            "drop_pct": round(self.drop.drop_pct, 6),
            "drop_interval_pct": [round(v, 6) for v in self.drop.interval_pct],
        }


@dataclass(frozen=True)
class Progress:
    """A report from a running evaluation.

    Attributes:
        phase: `calibrate` or `evaluate`.
        images: Evaluated so far, or steps of calibration done.
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


class Kept(Generic[K, V]):
    """Values by key, the least recently used dropped when their sizes exceed a limit."""

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self.limit, self.total = limit, 0
        self._size, self._items = size, OrderedDict[K, V]()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value, made when it is not kept."""
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key]
        value = make()
        self._items[key] = value
        self.total += self._size(value)
        while self.total > self.limit and len(self._items) > 1:
            _, old = self._items.popitem(last=False)
            self.total -= self._size(old)
        return value

    def __contains__(self, key: K) -> bool:
        return key in self._items

    def __len__(self) -> int:
        return len(self._items)


@dataclass
class _Node:
    """A prefix in the tree: its route so far, the specs that end here, and what goes on."""

    route: Route
    specs: list[Spec] = field(default_factory=list)
    children: dict[str, "_Node"] = field(default_factory=dict)


class Engine:
    """Evaluates sub-networks of one bundle. Not for several threads at once.

    Args:
        bundle: Opened and verified.
        device: `auto`, `cpu` or `cuda:N`.
        threads: Inside one operator.
        statistics_bytes: Bound of kept prefix statistics.
        activation_bytes: Bound of kept calibration activations.
        num_sessions: Bound of kept sessions.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        threads: int = 1,
        statistics_bytes: int = 256 << 20,
        activation_bytes: int = 1 << 30,
        num_sessions: int = 2048,
    ) -> None:
        self.bundle, self.threads = bundle, threads
        self.graph = Graph.load(bundle.path / "main.onnx", bundle.manifest.parts)
        self._provider = pick(device)
        with np.load(bundle.path / "statistics.npz", allow_pickle=False) as arrays:
            self._trained = {key: arrays[key] for key in arrays.files}
        self._statistics: Kept[Route, Statistics] = Kept(
            statistics_bytes, lambda s: sum(mean.nbytes + var.nbytes + 200 for mean, var in s.values())
        )
        self._activations: Kept[Route, list[Floats]] = Kept(activation_bytes, lambda chunks: sum(c.nbytes for c in chunks))
        self._measuring: Kept[str, tuple[ort.InferenceSession, list[str]]] = Kept(num_sessions, lambda _: 1)
        self._steps: Kept[tuple[Route, bool], ort.InferenceSession] = Kept(num_sessions, lambda _: 1)
        self._whole: Kept[tuple[Route, bool], ort.InferenceSession] = Kept(32, lambda _: 1)

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
        self.bundle.topology.check(spec)
        return ("stem", *(f"block{block}" for block in spec.blocks), "head")

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
            chunk_images: Images between two reports.
            should_stop: Asked between steps; True ends the evaluation where it is.
            max_images: Only this many images; all when None.

        Raises:
            SpecError: The network has no such sub-network.
        """
        stopped = should_stop or (lambda: False)
        main = self.bundle.topology.full
        wanted = list(dict.fromkeys([main, *specs]))
        root = self._tree(wanted)
        nodes = list(_walk(root))
        for done, node in enumerate(nodes):
            if stopped():
                return
            if recalibrate and self.graph.norms(node.route[-1]) and node.route not in self._statistics:
                self._prefix_statistics(node.route)
                yield Progress("calibrate", done, len(nodes))
        pixels, labels = self.bundle.experiment.evaluation
        total = len(labels) if max_images is None else min(max_images, len(labels))
        counts = {spec: np.zeros(3, np.int64) for spec in wanted}
        for start in range(0, total, chunk_images):
            images = self.bundle.experiment.normalise(pixels[start : min(start + chunk_images, total)])
            truth = labels[start : start + len(images)]
            hits: dict[Spec, NDArray[np.bool_]] = {}
            for spec, logits in self._descend(root, images, recalibrate, stopped):
                hits[spec] = logits.argmax(1) == truth
            if len(hits) < len(wanted):
                return
            for spec in wanted:
                own, base = hits[spec], hits[main]
                counts[spec] += [own.sum(), (base & ~own).sum(), (own & ~base).sum()]
            seen = start + len(images)
            scores = {spec: Score(spec, seen, int(c[0]), int(c[1]), int(c[2])) for spec, c in counts.items()}
            yield Progress("evaluate", seen, total, scores)

    def logits(self, spec: Spec, images: Floats, *, recalibrate: bool = True) -> Floats:
        """Logits `[B, K]` of normalised images `[B, C, H, W]`."""
        route = self.route(spec)
        session = self._whole.get((route, recalibrate), lambda: self._session(route, route, recalibrate))
        found: Floats = session.run(None, {"in": images})[0]
        return found

    def standalone(self, spec: Spec) -> bytes:
        """A self-contained ONNX file: batch norms re-calibrated and folded, input `images`, output `logits`."""
        route = self.route(spec)
        statistics = {route[i]: self._part_statistics(route[: i + 1], True) for i in range(len(route))}
        model = self.graph.fixed(route, statistics, names=("images", "logits"), folded=True)
        _declare(model, self.bundle.experiment.image_shape, len(self.bundle.experiment.classes))
        serialised: bytes = model.SerializeToString()
        return serialised

    def statistics(self, spec: Spec) -> dict[str, Statistics]:
        """Part -> re-calibrated statistics of one sub-network."""
        route = self.route(spec)
        return {route[i]: self._part_statistics(route[: i + 1], True) for i in range(len(route))}

    def metrics(self) -> dict[str, float]:
        """Sizes of what is kept."""
        return {
            "statistics_bytes": self._statistics.total,
            "activation_bytes": self._activations.total,
            "sessions": len(self._steps) + len(self._measuring) + len(self._whole),
        }

    def _tree(self, specs: Sequence[Spec]) -> _Node:
        root = _Node(())
        for spec in specs:
            node = root
            for name in self.route(spec):
                node = node.children.setdefault(name, _Node((*node.route, name)))
            node.specs.append(spec)
        return root

    def _descend(
        self, node: _Node, images: Floats, recalibrate: bool, stopped: Callable[[], bool]
    ) -> Iterator[tuple[Spec, Floats]]:
        for child in node.children.values():
            if stopped():
                return
            key = (child.route, recalibrate)
            session = self._steps.get(key, lambda c=child: self._session(c.route, c.route[-1:], recalibrate))  # type: ignore[misc]
            out: Floats = session.run(None, {"in": images})[0]
            for spec in child.specs:
                yield spec, out
            yield from self._descend(child, out, recalibrate, stopped)

    def _session(self, route: Route, parts: Route, recalibrate: bool) -> ort.InferenceSession:
        """A session for the last `parts` of a route."""
        start = len(route) - len(parts)
        statistics = {name: self._part_statistics(route[: start + i + 1], recalibrate) for i, name in enumerate(parts)}
        return self._provider.session(self.graph.fixed(parts, statistics).SerializeToString(), self.threads)

    def _part_statistics(self, prefix: Route, recalibrate: bool) -> Statistics:
        names = self.graph.norms(prefix[-1])
        if not names:
            return {}
        if not recalibrate:
            return {name: (self._trained[f"{name}.mean"], self._trained[f"{name}.var"]) for name in names}
        return self._prefix_statistics(prefix)

    def _prefix_statistics(self, prefix: Route) -> Statistics:
        return self._statistics.get(prefix, lambda: self._measure(prefix)[1])

    def _calibration_input(self, prefix: Route) -> list[Floats]:
        """Activations of the calibration images behind a prefix, in batches."""
        if not prefix:
            pixels = self.bundle.experiment.calibration
            return [self.bundle.experiment.normalise(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        return self._activations.get(prefix, lambda: self._measure(prefix)[0])

    def _measure(self, prefix: Route) -> tuple[list[Floats], Statistics]:
        """Runs the last part of a prefix on batch statistics.

        Source: Yu & Huang 2019; plain average over batches of the mean and of the variance times n / (n - 1).
        """
        inputs = self._calibration_input(prefix[:-1])
        session, names = self._measuring.get(prefix[-1], lambda: self._measuring_session(prefix[-1]))
        outputs: list[Floats] = []
        means: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
        variances: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
        for batch in inputs:
            out, *found = session.run(None, {"in": batch})
            outputs.append(out)
            for i, name in enumerate(names):
                mean, var, shape = found[3 * i : 3 * i + 3]
                count = float(np.prod(shape)) / shape[1]
                means[name].append(mean.astype(np.float64))
                variances[name].append(var.astype(np.float64) * (count / max(1.0, count - 1)))
        statistics = {
            name: (np.mean(means[name], 0).astype(np.float32), np.mean(variances[name], 0).astype(np.float32)) for name in names
        }
        if prefix[-1] != "head":
            self._activations.get(prefix, lambda: outputs)
        self._statistics.get(prefix, lambda: statistics)
        return outputs, statistics

    def _measuring_session(self, part: str) -> tuple[ort.InferenceSession, list[str]]:
        model, names = self.graph.measuring(part)
        return self._provider.session(model.SerializeToString(), self.threads), names


def _walk(node: _Node) -> Iterator[_Node]:
    for child in node.children.values():
        yield child
        yield from _walk(child)


def _declare(model: object, image_shape: Sequence[int], num_classes: int) -> None:
    """Gives input and output of a stand-alone model their shapes, the batch left open."""
    graph = model.graph  # type: ignore[attr-defined]  # onnx ships no precise stubs
    for info, dims in ((graph.input[0], image_shape), (graph.output[0], (num_classes,))):
        shape = info.type.tensor_type.shape
        shape.dim.add().dim_param = "N"
        for size in dims:
            shape.dim.add().dim_value = size
