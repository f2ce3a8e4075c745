"""Sessions of units whose batch norms stay as they are: re-calibrated, or as training left them."""

from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from stimcore.engine.executor import Compiled, Compiler
from stimcore.engine.graph.graph import Graph, Statistics
from stimcore.engine.prefix_tree import Unit
from stimcore.engine.provider import Provider
from stimcore.subnets.part_name import Route


class Fixed:
    """Compiles units of one network on statistics that are known.

    Args:
        graph: The network.
        compiler: Makes sessions, and keeps them.
        trained: `NORM.mean` and `NORM.var` as training left them.
    """

    def __init__(self, graph: Graph, compiler: Compiler, trained: Mapping[str, NDArray[Any]]) -> None:
        self._graph, self._compiler, self._trained = graph, compiler, trained

    @property
    def provider(self) -> Provider:
        """Where they run."""
        return self._compiler.provider

    @property
    def limit(self) -> int:
        """Bytes of sessions that are kept at once."""
        return self._compiler.sessions.limit

    def find(self, unit: Unit, *, recalibrated: bool) -> Compiled | None:
        """A unit's session, None when it isn't kept."""
        return self._compiler.find(_kind(recalibrated), unit)

    def compiled(self, unit: Unit, statistics: Mapping[Route, Statistics] | None) -> Compiled:
        """A unit's session.

        Args:
            unit: What runs.
            statistics: Of its steps; the trained ones when None. One that is kept is the same for all re-calibrated statistics:
                a prefix has only one kind of them.
        """

        def build() -> tuple[onnx.ModelProto, list[tuple[Route, str]]]:
            own = {route: self._as_trained(route) for route in unit.steps} if statistics is None else statistics
            return self._graph.fixed(unit.source, unit.steps, unit.outputs, own)[0], []

        return self._compiler.compile(_kind(statistics is not None), unit, build)

    def _as_trained(self, route: Route) -> Statistics:
        part = route[-1]

        def own(name: str) -> NDArray[Any]:
            return self._graph.narrowed(f"{name}{part.suffix}", self._trained[name])

        return {name: (own(f"{name}.mean"), own(f"{name}.var")) for name in self._graph.norms(part)}


def _kind(recalibrated: bool) -> str:
    return "fixed" if recalibrated else "trained"
