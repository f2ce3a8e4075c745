"""Jobs of the model server that a visitor watches: started, polled while they are on the screen, and remembered afterwards.

A visitor who turns to another state stops watching the old job; the server goes on with it only while others watch it.
"""

import random
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field

import streamlit as st

from app import session
from app.sources import connection, evaluations, server
from app.sources.evaluations import JobKey
from stimcore.analysis.result import Result
from stimcore.errors import StimcoreError
from stimcore.serve.types import Job

MAX_REMEMBERED = 64
"""Jobs whose numbers a session keeps."""
POLLS_PER_S = 20
"""Polls of all visitors together. One run of a polled fragment takes 10 to 15 ms of a core, so this leaves most of it free."""
REDRAWS_PER_S = 10
"""Whole pages of all visitors together that are drawn anew because a poll found something finished. One takes 20 to 30 ms of a
core, and a class that follows one measurement finds it finished at the same moment."""
EARLY = 0.7
"""Part of a visitor's share of time after which the server may be asked again; pauses vary by a tenth."""
PRESENT_S = 3.0
"""A visitor who has polled within this time counts as watching."""


@dataclass
class WatchedJob:
    """One visitor's view of one job.

    Attributes:
        key: What is evaluated.
        fresh: Whether it is measured although a result is known.
        job: As the server reported it last; None before the first report.
        stopped: Whether this visitor has stopped it.
        problem: Why there is no answer, in a sentence; empty without a problem.
        asked_at: When the server was asked last, in seconds of the monotonic clock.
    """

    key: JobKey
    fresh: bool = False
    job: Job | None = None
    stopped: bool = False
    problem: str = ""
    asked_at: float = 0.0

    @property
    def result(self) -> Result | None:
        """The first sub-network on the images counted so far; None before the first image."""
        return self.job.results[0] if self.job and self.job.results and self.job.results[0].images else None

    @property
    def images(self) -> int:
        """Images counted so far."""
        return self.result.images if self.result else 0

    @property
    def images_total(self) -> int:
        """Images in all; 0 while unknown."""
        return self.job.images_total if self.job else 0

    @property
    def phase(self) -> str:
        """The server's phase: `queued`, `calibrate`, `evaluate` or `done`."""
        return self.job.phase if self.job else "queued"

    @property
    def finished(self) -> bool:
        """Whether polling can end."""
        return self.stopped or bool(self.problem) or (self.job is not None and self.job.state == "done")

    def poll(self) -> None:
        """Ask the server once how far the job is, and start the job where it has none; does nothing once it is finished.

        The page of a visitor who came before the others polls as often as a visitor alone may, since Streamlit keeps the pause
        that a whole run of the page has set. The server is asked no more often than everybody's share all the same.
        """
        job = self.job  # an older run of the page may still use this object in its thread: work on one value
        if self.finished:
            return
        now = time.monotonic()
        _last_polls()[connection.visitor()] = now
        if job is not None and now - self.asked_at < EARLY * _share_s(now):
            return
        self.asked_at = now
        try:
            if job is None or job.state in ("cancelled", "dropped"):
                self.job = job = evaluations.start(self.key, fresh=self.fresh)
            else:
                self.job = job = evaluations.job(job.id)
        except evaluations.JobForgotten:
            self.job = job = None  # the server was restarted: the next poll starts the job again
        except StimcoreError as error:
            self.problem = str(error)
        if job is not None and job.state == "failed":
            self.problem = job.error.message if job.error else "The evaluation failed."

    def stop(self) -> None:
        """Keep the partial number; the server ends the job unless others watch it."""
        self.stopped = not self.finished
        self.leave()

    def leave(self) -> None:
        """Report to the server that this visitor no longer watches."""
        if self.job is not None and self.job.state in ("queued", "running"):
            evaluations.leave(self.job.id)

    def restart(self, *, fresh: bool) -> None:
        """Start over with the next poll.

        Args:
            fresh: Measure although a result is known.
        """
        self.job, self.stopped, self.problem, self.fresh = None, False, "", fresh


@dataclass
class WatchedJobs:
    """The jobs that a visitor has watched, the oldest first."""

    by_key: dict[JobKey, WatchedJob] = field(default_factory=dict)


def watch(key: JobKey) -> WatchedJob:
    """Return the visitor's view of a job, polled once."""
    jobs = session.memory(WatchedJobs).by_key
    watched = jobs.setdefault(key, WatchedJob(key))
    for old in list(jobs)[:-MAX_REMEMBERED]:
        jobs.pop(old, None)
    watched.poll()
    return watched


def watch_only(keys: Collection[JobKey]) -> None:
    """Leave every unfinished job but these, so that the server does no work that nobody watches."""
    jobs = session.memory(WatchedJobs).by_key
    for key, watched in list(jobs.items()):
        if key not in keys and not watched.finished and jobs.pop(key, None) is not None:
            watched.leave()


def reload() -> None:
    """Forget this visitor's jobs and have the server scan its folder again."""
    session.memory(WatchedJobs).by_key.clear()
    server.rescan()


@st.cache_resource(show_spinner=False)
def _last_polls() -> dict[str, float]:
    """Return the time of every visitor's last poll, shared by all visitors."""
    return {}


def pause_s(least_s: float) -> float:
    """Return the seconds between this visitor's polls.

    They grow with the number of visitors that poll, and are never the same for two, so that their polls don't fall together.

    Args:
        least_s: The pause of a visitor alone.
    """
    return max(least_s, _share_s(time.monotonic())) * random.uniform(0.9, 1.1)


def _share_s(now: float) -> float:
    """Return the seconds that lie between two polls of one visitor when all who are watching take turns."""
    polls = _last_polls()
    for visitor in [name for name, at in list(polls.items()) if now - at > PRESENT_S]:
        polls.pop(visitor, None)
    return len(polls) / POLLS_PER_S


@dataclass
class Turns:
    """Turns that all visitors share: a few at once after a pause, and evenly in time after that.

    Attributes:
        per_s: Turns in a second.
        saved: Turns that a pause saves at most.
    """

    per_s: float
    saved: int
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, now: float) -> bool:
        """Return whether there is a turn for somebody, who then has had it.

        Args:
            now: Seconds of a clock that never goes back.

        Source: The generic cell rate algorithm (ITU-T I.371).

        Example:
            >>> turns = Turns(per_s=10, saved=2)
            >>> [turns.take(now) for now in (5.0, 5.01, 5.02, 5.11, 5.12)]
            [True, True, False, True, False]
        """
        with self._lock:
            if self._next - now > (self.saved - 1) / self.per_s:
                return False
            self._next = max(self._next, now) + 1 / self.per_s
            return True


@st.cache_resource(show_spinner=False)
def _redraws() -> Turns:
    """Return the turns in which whole pages are drawn anew. A visitor needs two, for the answers and for the pictures."""
    return Turns(REDRAWS_PER_S, saved=2)


def redraw_when_due() -> None:
    """Draw the whole page anew, which ends this run of a polled fragment, when it is this visitor's turn.

    Otherwise the fragment goes on: it shows what is finished already, and its next poll asks for a turn again.
    """
    if _redraws().take(time.monotonic()):
        st.rerun()
