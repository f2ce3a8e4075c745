"""How often pages of many visitors ask the server, and how many of them are drawn anew at once."""

from types import SimpleNamespace

import pytest
import streamlit as st

from app import watch
from app.sources import connection, evaluations
from app.sources.evaluations import JobKey
from stimcore.subnets.spec import Spec

KEY = JobKey("tiny", "common", "0", (Spec.from_text("1.2"),))


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    return clock


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions to a server on which the job never ends; visitors are told apart by `polls`."""
    questions: list[str] = []
    running = SimpleNamespace(id="j1", state="running", results=(), error=None)

    def answer(question: str) -> SimpleNamespace:
        questions.append(question)
        return running

    monkeypatch.setattr(evaluations, "start", lambda key, fresh: answer("start"))
    monkeypatch.setattr(evaluations, "job", answer)
    monkeypatch.setattr(connection, "visitor", lambda: "me")
    return questions


def test_one_of_thirty_visitors_asks_no_more_often_than_its_share(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, asked: list[str]
) -> None:
    others = {f"visitor {number}": clock.now + 1000 for number in range(29)}
    monkeypatch.setattr(watch, "_last_polls", lambda: others)
    job = watch.WatchedJob(KEY)
    for _ in range(60):  # 15 seconds of a page that polls as a visitor alone does
        job.poll()
        clock.now += 0.25
    assert asked[0] == "start"
    assert 15 / (30 / watch.POLLS_PER_S) - 1 <= len(asked) <= 15 / (watch.EARLY * 30 / watch.POLLS_PER_S) + 1


def test_a_visitor_alone_asks_with_every_poll(monkeypatch: pytest.MonkeyPatch, clock: Clock, asked: list[str]) -> None:
    mine: dict[str, float] = {}
    monkeypatch.setattr(watch, "_last_polls", lambda: mine)
    job = watch.WatchedJob(KEY)
    for _ in range(8):
        job.poll()
        clock.now += 0.25
    assert asked == ["start", *["j1"] * 7]


def test_a_job_that_is_started_over_is_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, asked: list[str]
) -> None:
    monkeypatch.setattr(watch, "_last_polls", lambda: {f"visitor {number}": clock.now for number in range(29)})
    job = watch.WatchedJob(KEY)
    job.poll()
    job.restart(fresh=True)
    job.poll()
    assert asked == ["start", "start"]


def test_a_class_that_sees_the_end_at_once_draws_its_pages_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    turns, drawn = watch.Turns(watch.REDRAWS_PER_S, saved=2), 0

    def rerun() -> None:
        nonlocal drawn
        drawn += 1

    monkeypatch.setattr(watch, "_redraws", lambda: turns)
    monkeypatch.setattr(st, "rerun", rerun)
    for _ in range(30):
        watch.redraw_when_due()
    assert drawn == 2, "the answers and the pictures of one visitor need no pause between them"
    waiting = 28
    for _ in range(300):
        clock.now += 0.01
        before = drawn
        watch.redraw_when_due()
        waiting -= drawn - before
    assert waiting <= 0, "everybody's page was drawn within 3 s"
    assert drawn <= 2 + 3 * watch.REDRAWS_PER_S
