"""Runs batches of images through units, several batches at once, and frees activations when no later unit reads them."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import onnxruntime as ort

from stimcore.engine.prefix_tree import Unit
from stimcore.engine.sessions import CompiledUnit
from stimcore.subnets.part_name import Route


class Stopped(Exception):
    """The caller wants no more results."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What units run on and what becomes of their outputs.

    Attributes:
        source: Returns the activations of a prefix that was known before, for one batch.
        compiled: Returns a unit's session.
        receive: Gets a unit's outputs for one batch; called from worker threads, once for every unit and batch.
        should_stop: Called before every run; True ends the execution.
    """

    source: Callable[[Route, int], ort.OrtValue]
    compiled: Callable[[Unit], CompiledUnit]
    receive: Callable[[int, CompiledUnit, list[ort.OrtValue]], None]
    should_stop: Callable[[], bool]


def execute(units: Sequence[Unit], groups: Sequence[Sequence[int]], execution: Execution, *, workers: int) -> Iterator[int]:
    """Run groups of batches through all units, each group in one thread; yield the number of batches done after every group.

    Args:
        units: Every unit comes after those whose outputs it reads.
        groups: Numbers of batches. A group goes through one unit after the other together: larger groups need fewer
            compilations when the session cache can't hold all units, and more memory for activations.
        execution: Inputs and outputs.
        workers: Threads.

    Raises:
        Stopped: `should_stop` returned True.
    """
    halt = threading.Event()

    def run(group: Sequence[int]) -> int:
        _run_group(units, group, execution, halt)
        return len(group)

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(run, group) for group in groups]
        done = 0
        try:
            for future in running:
                done += future.result()
                yield done
        finally:
            # also when the caller drops the iterator: the pool waits for its threads, so that they have to end soon
            halt.set()
            for future in running:
                future.cancel()


def _run_group(units: Sequence[Unit], group: Sequence[int], execution: Execution, halt: threading.Event) -> None:
    live: dict[tuple[Route, int], ort.OrtValue] = {}
    readers = Counter(unit.source for unit in units)
    for unit in units:
        compiled = execution.compiled(unit)
        for batch in group:
            if halt.is_set() or execution.should_stop():
                raise Stopped
            entry = live.get((unit.source, batch))
            outputs = compiled.session.run({"in": execution.source(unit.source, batch) if entry is None else entry})
            # a graph that measures has further outputs behind those of the unit
            for route, value in zip(unit.outputs, outputs, strict=False):
                if route in readers:
                    live[route, batch] = value
            execution.receive(batch, compiled, outputs)
        readers[unit.source] -= 1
        if not readers[unit.source]:
            for batch in group:
                live.pop((unit.source, batch), None)
