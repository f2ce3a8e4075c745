"""Sentences on what a visitor asked for and did not get: how long they stay."""

from typing import Any

import pytest
import streamlit as st

from app import notices, session


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A plain mapping in place of Streamlit's session state, which exists only while a page runs."""
    values: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", values)
    session.memory(session.Visit).page = "break it"
    return values


def test_a_sentence_stays_while_the_page_draws_itself_anew() -> None:
    notices.tell("edit", "Block 4 can't be deleted.")
    assert [notices.told("edit", "d2-3-1") for _ in range(3)] == [("Block 4 can't be deleted.",)] * 3


def test_a_sentence_goes_for_good_when_the_visitor_does_something_else() -> None:
    notices.tell("edit", "Block 4 can't be deleted.")
    assert notices.told("edit", "d2-3-1")
    assert not notices.told("edit", "d1-1-1")
    assert not notices.told("edit", "d2-3-1")


def test_a_sentence_goes_for_good_on_another_page() -> None:
    notices.tell("block", "This address asks for 99, which isn't here.")
    assert notices.told("block")
    session.memory(session.Visit).page = "use it"
    assert not notices.told("address")
    session.memory(session.Visit).page = "break it"
    assert not notices.told("block")


def test_what_no_page_has_shown_yet_waits_for_the_next_one() -> None:
    notices.tell("training", "The queue is full.", "The disk is full.")
    session.memory(session.Visit).page = "train"
    assert notices.waiting("training")
    assert notices.told("training") == ("The queue is full.", "The disk is full.")
    assert not notices.waiting("training")


def test_a_new_sentence_takes_the_place_of_the_old_one() -> None:
    notices.tell("training", "The queue is full.")
    assert notices.told("training")
    notices.tell("training", "The disk is full.")
    assert notices.told("training") == ("The disk is full.",)
    notices.tell("training")
    assert not notices.told("training")
