"""The picture wall: its evaluation images, and what sub-networks answer to them."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import streamlit as st

from app.sources import connection
from stimcore.errors import StimcoreError
from stimcore.serve.types import ExperimentInfo, Sample, WallAnswers
from stimcore.subnets.spec import Spec

MAX_ANSWERS = 4096
"""Answers that are kept for all visitors, about 1 kB each."""
STORED_S = 0.15
"""Time in which the server sends stored answers; for others the page asks again later."""


class WallKey(NamedTuple):
    """What the answers on the picture wall depend on.

    Attributes:
        experiment: Name of the experiment.
        method: Folder of the bundle.
        fingerprint: Of the bundle.
        spec: The sub-network.
        recalibrate: Whether batch norms are re-calibrated.
        images: The evaluation images of the wall, which change when a bundle that has chosen them is added.
    """

    experiment: str
    method: str
    fingerprint: str
    spec: Spec
    recalibrate: bool
    images: tuple[int, ...]


@st.cache_data(show_spinner=False, max_entries=16)
def _samples(experiment: str, fingerprints: tuple[str, ...]) -> list[Sample]:
    return connection.client().wall(experiment)


def samples(experiment: ExperimentInfo) -> list[Sample]:
    """Return the evaluation images of the picture wall, the same ones every time."""
    return _samples(experiment.name, tuple(method.fingerprint for method in experiment.methods))


@dataclass
class WallCalls:
    """Questions for answers on picture walls, shared by all visitors: equal ones are asked once.

    Attributes:
        pool: Threads that wait for the server.
        futures: The last `MAX_ANSWERS` questions.
        lock: Held while `futures` changes.
    """

    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "wall"))
    futures: dict[WallKey, Future[WallAnswers]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@st.cache_resource(show_spinner=False)
def _wall_calls() -> WallCalls:
    return WallCalls()


def answers(key: WallKey, wait_s: float = 0.0) -> WallAnswers | None:
    """Return the answers of a sub-network on the images of the picture wall; None while the server works on them.

    A run of the page must not wait for a network to be re-calibrated: what the page no longer shows would stay on the screen.

    Args:
        key: What is asked.
        wait_s: Time to wait for the answers.

    Raises:
        StimcoreError: The server has no answer. The next call asks again.
    """
    calls, client = _wall_calls(), connection.visitor_client()
    with calls.lock:
        future = calls.futures.get(key)
        if future is None:
            for old in list(calls.futures)[: max(0, len(calls.futures) + 1 - MAX_ANSWERS)]:
                del calls.futures[old]
            spec, recalibrate = str(key.spec), key.recalibrate
            future = calls.pool.submit(client.wall_answers, key.experiment, key.method, spec, recalibrate=recalibrate)
            calls.futures[key] = future
    try:
        return future.result(wait_s)
    except TimeoutError:
        return None
    except StimcoreError:
        with calls.lock:
            calls.futures.pop(key, None)
        raise
