"""One visitor's look at one evaluation: starts it, follows it while it is watched, and keeps the last numbers that were seen.

Whoever turns to another state leaves the old evaluation; the server goes on with it only while others watch.
"""

import random
import time
from collections.abc import Collection, MutableMapping
from dataclasses import dataclass
from typing import cast

import streamlit as st

import app.sources as sources
from stimcore.errors import StimcoreError
from stimcore.serve.types import Job, Result

KEPT = 64
"""States whose numbers a session remembers."""
POLLS_PER_S = 20
"""Of all visitors together: a run of a polled fragment takes 10 to 15 ms of one core, so this leaves the other half free."""
PRESENT_S = 3.0
"""How long whoever has polled counts as watching."""


@dataclass
class Watched:
    """What one visitor has seen of one evaluation.

    Attributes:
        ask: What is evaluated.
        fresh: Whether it is measured although it was known.
        job: As last seen; None where it could not be started.
        stopped: By this visitor.
        problem: Why there is no answer, in a sentence.
    """

    ask: sources.Ask
    fresh: bool = False
    job: Job | None = None
    stopped: bool = False
    problem: str = ""

    @property
    def result(self) -> Result | None:
        """The first sub-network on the images seen so far; None before the first image."""
        return self.job.results[0] if self.job and self.job.results and self.job.results[0].images else None

    @property
    def images(self) -> int:
        """Seen so far."""
        return self.result.images if self.result else 0

    @property
    def images_total(self) -> int:
        """In all; 0 while unknown."""
        return self.job.images_total if self.job else 0

    @property
    def phase(self) -> str:
        """`queued`, `calibrate`, `evaluate` or `done`."""
        return self.job.phase if self.job else "queued"

    @property
    def finished(self) -> bool:
        """Whether polling can end."""
        return self.stopped or bool(self.problem) or (self.job is not None and self.job.state == "done")

    def look(self) -> None:
        """Asks the server once, unless there is nothing more to learn."""
        job = self.job  # an older run of the page may still hold this object in its own thread
        if self.finished:
            return
        _present()[sources.visitor()] = time.monotonic()
        try:
            if job is None or job.state in ("cancelled", "dropped"):
                self.job = job = sources.start(self.ask, fresh=self.fresh)
            else:
                self.job = job = sources.job(job.id)
        except sources.Forgotten:
            self.job = job = None  # the server was restarted: the next look starts again
        except StimcoreError as error:
            self.problem = str(error)
        if job is not None and job.state == "failed":
            self.problem = job.error.message if job.error else "The evaluation failed."

    def stop(self) -> None:
        """Keeps the partial number; the server ends the work unless others watch it."""
        self.stopped = not self.finished
        self.leave()

    def leave(self) -> None:
        """Tells the server that this visitor no longer watches."""
        if self.job is not None and self.job.state in ("queued", "running"):
            sources.leave(self.job.id)

    def again(self, *, fresh: bool) -> None:
        """Starts over."""
        self.job, self.stopped, self.problem, self.fresh = None, False, "", fresh


@st.cache_resource(show_spinner=False)
def _present() -> dict[str, float]:
    return {}


def pause_s(least_s: float) -> float:
    """Seconds between this visitor's polls: longer in a class, and never the same for two, so that they don't stay in step.

    Args:
        least_s: What a visitor alone gets.
    """
    now, present = time.monotonic(), _present()
    for gone in [name for name, at in list(present.items()) if now - at > PRESENT_S]:
        present.pop(gone, None)
    return max(least_s, len(present) / POLLS_PER_S) * random.uniform(0.9, 1.1)


def _seen() -> MutableMapping[sources.Ask, Watched]:
    return cast(MutableMapping[sources.Ask, Watched], st.session_state.setdefault("watched", {}))


def watch(ask: sources.Ask) -> Watched:
    """The visitor's view of an evaluation, brought up to date."""
    seen = _seen()
    watched = seen.setdefault(ask, Watched(ask))
    for old in list(seen)[:-KEPT]:
        seen.pop(old, None)
    watched.look()
    return watched


def watch_only(asks: Collection[sources.Ask]) -> None:
    """Leaves every other evaluation that this visitor still watched: nobody pays for numbers that nobody looks at."""
    seen = _seen()
    for ask, watched in list(seen.items()):
        if ask not in asks and not watched.finished and seen.pop(ask, None) is not None:
            watched.leave()
