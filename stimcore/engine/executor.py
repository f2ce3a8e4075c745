"""Sends batches of images through units: compiles each unit once, frees what no later unit reads."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import onnx
import onnxruntime as ort

from stimcore.engine.cache import Kept
from stimcore.engine.prefix_tree import Unit
from stimcore.engine.provider import Provider, Session
from stimcore.subnets.part_name import Route

Source = Callable[[Route, int], ort.OrtValue]
"""The value of a prefix that was known before the walk, for one batch."""
Receive = Callable[[int, "Compiled", list[ort.OrtValue]], None]
"""Takes a unit's outputs for one batch; called from worker threads, never twice for the same batch and unit."""


class Stopped(Exception):
    """The caller wants no more."""


def session_bytes(model_bytes: int) -> int:
    """What a session holds, reckoned from its model: onnxruntime's CPU holds 1.3 times a MobileNetV3's units (measured)."""
    return 3 * model_bytes // 2


@dataclass(frozen=True)
class Compiled:
    """A unit with its session.

    Attributes:
        unit: What runs.
        session: Its first outputs are `unit.outputs` in order.
        norms: `(step, batch norm)` of the further outputs, two each, in a graph that measures.
        model_bytes: Size of its model.
    """

    unit: Unit
    session: Session
    norms: tuple[tuple[Route, str], ...]
    model_bytes: int


class Compiler:
    """Turns units into sessions and keeps them.

    Args:
        provider: Where they run.
        limit: Bytes of kept sessions, reckoned by `session_bytes`.
    """

    def __init__(self, provider: Provider, limit: int) -> None:
        self.provider = provider
        self.sessions: Kept[tuple[str, Unit], Compiled] = Kept(limit, lambda compiled: session_bytes(compiled.model_bytes))

    def find(self, kind: str, unit: Unit) -> Compiled | None:
        """A unit's session, None when it isn't kept."""
        return self.sessions.find((kind, unit))

    def compile(
        self, kind: str, unit: Unit, build: Callable[[], tuple[onnx.ModelProto, Sequence[tuple[Route, str]]]]
    ) -> Compiled:
        """A unit's session, built unless it is kept under the same kind."""

        def make() -> Compiled:
            model, norms = build()
            serialised = model.SerializeToString()
            return Compiled(unit, self.provider.session(serialised, 1), tuple(norms), len(serialised))

        return self.sessions.get((kind, unit), make)


def walk(
    units: Sequence[Unit],
    lots: Sequence[Sequence[int]],
    *,
    source: Source,
    compiled: Callable[[Unit], Compiled],
    receive: Receive,
    workers: int,
    stopped: Callable[[], bool],
) -> Iterator[int]:
    """Sends lots of batches through units, one lot a thread; yields the number of batches done, as they are done.

    Args:
        units: In an order in which sources come first.
        lots: Batches that one thread takes through all units together: more of them where compiling is to be amortised.
        source: Values that were known before.
        compiled: A unit's session.
        receive: Takes outputs.
        workers: Threads.
        stopped: Asked before every run.

    Raises:
        Stopped: `stopped` said so.
    """
    halt = threading.Event()

    def take(lot: Sequence[int]) -> int:
        _through(units, lot, source, compiled, receive, lambda: halt.is_set() or stopped())
        return len(lot)

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(take, lot) for lot in lots]
        done = 0
        try:
            for future in running:
                done += future.result()
                yield done
        finally:
            halt.set()
            for future in running:
                future.cancel()


def _through(
    units: Sequence[Unit],
    lot: Sequence[int],
    source: Source,
    compiled: Callable[[Unit], Compiled],
    receive: Receive,
    stopped: Callable[[], bool],
) -> None:
    live: dict[tuple[Route, int], ort.OrtValue] = {}
    readers = Counter(unit.source for unit in units)
    for unit in units:
        session = compiled(unit)
        for batch in lot:
            if stopped():
                raise Stopped
            entry = live.get((unit.source, batch))
            outputs = session.session.run({"in": source(unit.source, batch) if entry is None else entry})
            for route, value in zip(unit.outputs, outputs, strict=False):
                if route in readers:
                    live[route, batch] = value
            receive(batch, session, outputs)
        readers[unit.source] -= 1
        if not readers[unit.source]:
            for batch in lot:
                live.pop((unit.source, batch), None)
