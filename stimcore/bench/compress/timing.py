"""Times of several networks in onnxruntime that take turns, so that what slows one of them slows the others."""

import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort

from stimcore.engine.cuda import CPU
from stimcore.engine.provider import session_options
from stimcore.export.graphs import network_graph
from stimcore.nets.staged import StagedNet

CALLS = 5
"""Calls of a network in one turn that count; one before them brings its weights into the caches."""


def session_of(net: StagedNet) -> ort.InferenceSession:
    """Return a session of a network in torch, with one thread. Its batch norms are folded when the session is made."""
    model, _ = network_graph(net.eval(), "torchscript")  # quick; only its time counts
    return session_from(model.SerializeToString())


def session_from(content: bytes) -> ort.InferenceSession:
    """Return a session of a self-contained file, with one thread."""
    return ort.InferenceSession(content, session_options(1, flush_denormals=True), providers=[CPU])


def take_turns(
    sessions: Mapping[str, ort.InferenceSession], image_shape: Sequence[int], *, batch: int, turns: int
) -> dict[str, list[float]]:
    """Return name -> milliseconds of a call, the median of `CALLS` calls in each turn.

    Args:
        sessions: Name -> session with one input.
        image_shape: `[C, H, W]`.
        batch: Images per call.
        turns: How often every session has its turn.
    """
    images = np.zeros((batch, *image_shape), np.float32)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(turns):
        for name, session in sessions.items():
            feeds = {session.get_inputs()[0].name: images}
            session.run(None, feeds)
            calls = []
            for _ in range(CALLS):
                start = time.perf_counter()
                session.run(None, feeds)
                calls.append(1e3 * (time.perf_counter() - start))
            times[name].append(statistics.median(calls))
    return times


def ratios(times: Mapping[str, Sequence[float]], base: str) -> dict[str, float]:
    """Return name -> median over turns of its time over that of `base` in the same turn.

    Example:
        >>> ratios({"main": [2.0, 4.0, 2.0], "small": [1.0, 2.0, 0.5]}, "main")
        {'main': 1.0, 'small': 0.5}
    """
    return {
        name: statistics.median(value / of_base for value, of_base in zip(values, times[base], strict=True))
        for name, values in times.items()
    }
