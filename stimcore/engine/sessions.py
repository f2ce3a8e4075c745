"""Units of the prefix tree as onnxruntime sessions, cached."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from numpy.typing import NDArray

from stimcore.engine.cache import LRUCache
from stimcore.engine.graph.fold import folded_graph
from stimcore.engine.graph.main_graph import MainGraph, Statistics
from stimcore.engine.prefix_tree import Unit
from stimcore.engine.provider import Provider, Session
from stimcore.subnets.part_name import Route

Purpose = Literal["measure", "recalibrated", "trained"]
"""What a unit's batch norms do: measure statistics, use re-calibrated ones, or use those that training left."""


def session_bytes(model_bytes: int) -> int:
    """Return an estimate of a session's memory: onnxruntime's CPU sessions of a MobileNetV3 measured 1.3 times their model."""
    return 3 * model_bytes // 2


@dataclass(frozen=True)
class CompiledUnit:
    """A unit with its session.

    Attributes:
        unit: What runs.
        session: Its first outputs are `unit.outputs`, in order.
        norms: Step and batch norm of the further outputs, two for each, in a graph that measures.
        model_bytes: Bytes of the serialised model.
    """

    unit: Unit
    session: Session
    norms: tuple[tuple[Route, str], ...]
    model_bytes: int


class SessionCache:
    """Makes sessions of units and caches them.

    Args:
        provider: Where they run.
        limit: Bytes of cached sessions, estimated by `session_bytes`.
    """

    def __init__(self, provider: Provider, limit: int) -> None:
        self.provider = provider
        self.sessions: LRUCache[tuple[Purpose, Unit], CompiledUnit] = LRUCache(
            limit, lambda compiled: session_bytes(compiled.model_bytes)
        )

    def get(self, purpose: Purpose, unit: Unit) -> CompiledUnit | None:
        """Return a unit's session, None when it is not cached."""
        return self.sessions.get((purpose, unit))

    def get_or_compile(
        self, purpose: Purpose, unit: Unit, build: Callable[[], tuple[onnx.ModelProto, Sequence[tuple[Route, str]]]]
    ) -> CompiledUnit:
        """Return a unit's session, and build it when it is not cached.

        Args:
            purpose: Distinguishes sessions of the same unit.
            unit: What runs.
            build: Returns the model, and what its further outputs measure.
        """

        def make() -> CompiledUnit:
            model, norms = build()
            serialised = model.SerializeToString()
            # one thread: batches run side by side, which keeps cores busier than threads inside one operator
            return CompiledUnit(unit, self.provider.session(serialised, 1), tuple(norms), len(serialised))

        return self.sessions.get_or_make((purpose, unit), make)


class EvaluationSessions:
    """Sessions of units with known batch-norm statistics: re-calibrated ones, or those that training left.

    Args:
        graph: The main network.
        sessions: Makes sessions, and caches them.
        trained: `NORM.mean` and `NORM.var` of the main network as training left them.
    """

    def __init__(self, graph: MainGraph, sessions: SessionCache, trained: Mapping[str, NDArray[Any]]) -> None:
        self._graph, self._sessions, self._trained = graph, sessions, trained

    @property
    def provider(self) -> Provider:
        """Where the sessions run."""
        return self._sessions.provider

    @property
    def limit(self) -> int:
        """Bytes of sessions that are cached at most."""
        return self._sessions.sessions.limit

    def clear(self) -> None:
        """Drop all cached sessions, also those that measure."""
        self._sessions.sessions.clear()

    def missing(self, units: Iterable[Unit], *, recalibrated: bool) -> list[Unit]:
        """Return the units whose sessions are not cached."""
        purpose: Purpose = "recalibrated" if recalibrated else "trained"
        return [unit for unit in units if (purpose, unit) not in self._sessions.sessions]

    def get(self, unit: Unit, *, recalibrated: bool) -> CompiledUnit | None:
        """Return a unit's session, None when it is not cached."""
        return self._sessions.get("recalibrated" if recalibrated else "trained", unit)

    def get_or_compile(self, unit: Unit, statistics: Mapping[Route, Statistics] | None) -> CompiledUnit:
        """Return a unit's session, and build it when it is not cached.

        Re-calibrated statistics of a prefix depend on nothing but the prefix, so that a cached session has the same ones.

        Args:
            unit: What runs.
            statistics: Step -> re-calibrated statistics; the trained ones are used when None.
        """

        def build() -> tuple[onnx.ModelProto, Sequence[tuple[Route, str]]]:
            known = {route: self._as_trained(route) for route in unit.steps} if statistics is None else statistics
            return folded_graph(self._graph, unit, known), ()

        return self._sessions.get_or_compile("trained" if statistics is None else "recalibrated", unit, build)

    def _as_trained(self, route: Route) -> Statistics:
        part = route[-1]

        def values(tensor: str) -> NDArray[Any]:
            return self._graph.narrowed(tensor, part, self._trained[tensor])

        return {norm: (values(f"{norm}.mean"), values(f"{norm}.var")) for norm in self._graph.norms(part)}
