"""A class: the address under which others join, who is here, and what they guess. Nobody is named, and nothing is stored."""

import statistics
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import segno
import streamlit as st

from app.access import shared_address
from app.sources import connection

POLL_S = 3.0
"""Seconds between two looks of a visitor alone at who is here."""
PRESENT_S = 20.0
"""A visitor who has looked within this time is here: browsers slow down the polls of pages in the background."""
MAX_STATES = 8
"""States of a network whose guesses are kept; older ones are forgotten."""
MAX_VISITORS = 2000
NUM_BINS = 10


@dataclass
class Classroom:
    """Everybody who has class view open, and the guesses of the states that they look at.

    Attributes:
        seen: Visitor -> time of the last look, in seconds of `time.monotonic`.
        guesses: State -> visitor -> method -> guess in [0, 100]; the state that was guessed last is the last.
    """

    seen: dict[str, float] = field(default_factory=dict)
    guesses: OrderedDict[str, dict[str, dict[str, int]]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, visitor: str, now: float) -> int:
        """Note that a visitor is here, and return how many are.

        Example:
            >>> room = Classroom()
            >>> room.look("a", 0.0), room.look("b", 1.0), room.look("b", 30.0)
            (1, 2, 1)
        """
        with self._lock:
            self.seen[visitor] = now
            self.seen = {name: at for name, at in self.seen.items() if now - at < PRESENT_S}
            return len(self.seen)

    def guess(self, state: str, visitor: str, method: str, value: int) -> None:
        """Note a guess, in the place of the visitor's earlier one of the same method."""
        with self._lock:
            of_state = self.guesses.setdefault(state, {})
            self.guesses.move_to_end(state)
            while len(self.guesses) > MAX_STATES:
                self.guesses.popitem(last=False)
            if visitor in of_state or len(of_state) < MAX_VISITORS:
                of_state.setdefault(visitor, {})[method] = min(100, max(0, value))

    def of_state(self, state: str) -> dict[str, list[int]]:
        """Return the guesses of one state by method.

        Example:
            >>> room = Classroom()
            >>> room.guess("x5", "a", "common", 40); room.guess("x5", "b", "common", 60); room.guess("x5", "a", "common", 50)
            >>> room.of_state("x5"), room.of_state("x4")
            ({'common': [50, 60]}, {})
        """
        with self._lock:
            by_method: dict[str, list[int]] = {}
            for guesses in self.guesses.get(state, {}).values():
                for method, value in guesses.items():
                    by_method.setdefault(method, []).append(value)
            return by_method

    def num_guessing(self, state: str) -> int:
        """Return how many visitors have guessed in a state."""
        with self._lock:
            return len(self.guesses.get(state, {}))


@st.cache_resource(show_spinner=False)
def classroom() -> Classroom:
    """Return the one class of this dashboard."""
    return Classroom()


def join_address(parameters: Mapping[str, str]) -> str:
    """Return the address under which others open Break it as it is here; empty where the dashboard is for this machine alone.

    Args:
        parameters: The query: experiment, spec and view.
    """
    address = shared_address()
    return f"{address}/?{urlencode(parameters)}" if address else ""


def qr_code(address: str) -> str:
    """Return the QR code of an address as a picture in a `data:` address, black on white in every theme."""
    return segno.make(address, error="m", micro=False).svg_data_uri(scale=6, border=3, light="#ffffff", omitsize=False)


def count_here() -> int:
    """Return how many visitors have class view open, this one among them."""
    return classroom().look(connection.visitor(), time.monotonic())


def bins(values: list[int]) -> list[int]:
    """Return how many guesses lie in each tenth of the axis.

    Example:
        >>> bins([0, 9, 10, 55, 100])
        [2, 1, 0, 0, 0, 1, 0, 0, 0, 1]
    """
    counts = [0] * NUM_BINS
    for value in values:
        counts[min(NUM_BINS - 1, value * NUM_BINS // 100)] += 1
    return counts


def median(values: list[int]) -> float:
    """Return the guess in the middle."""
    return float(statistics.median(values))
