"""The visitor's memory: the one writer of the spec, undo, and that no other module touches Streamlit's session state."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.errors import StreamlitAPIException

from app import session
from tests.app.browsing import ROOT
from tests.app.networks import RESNET20, SINGLE

FULL = "1-2-3.4-5-6.7-8-9"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A plain mapping in place of Streamlit's session state, which exists only while a page runs."""
    values: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", values)
    return values


def test_written_specs_are_checked_and_can_be_undone(state: dict[str, Any]) -> None:
    session.write_spec(RESNET20, "d1-1-1")
    assert state["spec"] == "1-x2-x3.4-x5-x6.7-x8-x9"
    session.write_spec(RESNET20, "1-2-3.x4-5-6.7-8-9")
    assert state["spec"] == "1-x2-x3.4-x5-x6.7-x8-x9"
    refusal = session.take_refusal()
    assert "block 4 can't be deleted" in refusal.lower()
    assert session.take_refusal() == ""
    session.undo_spec(RESNET20)
    assert state["spec"] == FULL
    session.undo_spec(RESNET20)
    assert state["spec"] == FULL


def test_the_same_spec_again_is_no_edit(state: dict[str, Any]) -> None:
    session.write_spec(RESNET20, FULL)
    session.write_spec(RESNET20, "main")
    assert not session.memory(session.EditHistory).undo
    assert "spec" not in state


def test_undo_passes_over_what_the_network_does_not_have(state: dict[str, Any]) -> None:
    session.write_spec(RESNET20, "d2-2-2")
    state["spec"] = "typed by hand"
    session.write_spec(RESNET20, "d1-1-1")
    session.undo_spec(RESNET20)
    assert state["spec"] == FULL
    state["spec"] = "1"
    session.memory(session.EditHistory).undo = ["d1-1-1"]
    session.undo_spec(SINGLE)
    assert state["spec"] == "1"


@pytest.mark.parametrize("polled", [True, False], ids=["with a poll", "by the visitor"])
def test_a_poll_brings_no_older_value_back(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch, polled: bool) -> None:
    """A poll that the browser sent before it heard of an edit reports the text before the edit; Streamlit believes it."""
    context = SimpleNamespace(fragment_ids_this_run=["answers"] if polled else None)
    monkeypatch.setattr(session, "get_script_run_ctx", lambda: context)
    state["spec"] = session.shown("spec", FULL)
    session.write_spec(RESNET20, "d1-1-1")
    written = state["spec"]
    state["spec"] = FULL  # what Streamlit does with the report
    session.reported("spec")()
    assert state["spec"] == (written if polled else FULL)
    session.forget_spec()
    state["spec"] = "1-2.3"
    session.reported("spec")()
    assert state["spec"] == "1-2.3", "another experiment"


def test_an_edit_that_came_with_a_poll_outlives_the_next_message(
    state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message for the whole page that follows the poll reports the text from before the edit, too."""
    context = SimpleNamespace(fragment_ids_this_run=["answers"])
    monkeypatch.setattr(session, "get_script_run_ctx", lambda: context)
    state["spec"] = session.shown("spec", FULL)
    session.write_spec(RESNET20, "d1-1-1")
    written = state["spec"]
    context.fragment_ids_this_run = None
    state["spec"] = FULL
    session.reported("spec")()
    assert state["spec"] == written
    session.shown("spec", state["spec"])
    state["spec"] = FULL  # typed by the visitor, who has seen the edit
    session.reported("spec")()
    assert state["spec"] == FULL


def test_a_report_of_what_the_page_has_just_forgotten_is_let_go(state: dict[str, Any]) -> None:
    """One message can bring another experiment and an edited spec: the first callback forgets what the second one reads."""
    state["spec"] = session.shown("spec", FULL)
    state["spec"] = "1-2.3"
    session.forget_spec()
    session.reported("spec")()
    assert "spec" not in state
    assert "spec" not in session.memory(session.Written).values


def test_another_experiment_replaces_the_code_and_what_polls_report(state: dict[str, Any]) -> None:
    """The field would take the text in the address again if it were only emptied."""
    session.write_spec(RESNET20, "d1-1-1")
    session.forget_spec("1.2")
    assert state["spec"] == session.memory(session.Written).values["spec"] == "1.2"
    assert session.memory(session.EditHistory).undo == []


def test_a_code_typed_by_hand_can_be_undone(state: dict[str, Any]) -> None:
    session.shown("spec", FULL)
    for typed in ("d1-1-1", "d1-1-1", "no code", "d2-2-2"):
        state["spec"] = typed
        session.reported("spec")()
        session.shown("spec", typed)
    assert session.memory(session.EditHistory).undo == [FULL, "d1-1-1", "no code"]
    for text in ("d1-1-1", FULL):
        session.undo_spec(RESNET20)
        assert state["spec"] == text


class Bound(dict[str, str]):
    """Query parameters that belong to widgets, which Streamlit lets nobody delete."""

    def __delitem__(self, key: str) -> None:
        raise StreamlitAPIException(f"Cannot directly delete query parameter '{key}' - it is bound to a widget.")


def test_a_spec_is_forgotten_although_its_field_is_on_the_page(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(st, "query_params", Bound(spec=FULL))
    session.write_spec(RESNET20, "d1-1-1")
    session.forget_spec()
    assert "spec" not in state


def test_runs_that_begin_are_added_to_the_chosen_ones(state: dict[str, Any]) -> None:
    state["runs"] = ["old"]
    session.add_new_runs(["first"])
    assert state["runs"] == ["old"]
    session.add_new_runs(["first", "second"])
    assert state["runs"] == ["old", "second"]
    session.add_new_runs(["first", "second"])
    assert state["runs"] == ["old", "second"]


def test_memory_is_one_object_per_group(state: dict[str, Any]) -> None:
    session.memory(session.LessonProgress).step = 3
    assert session.memory(session.LessonProgress).step == 3
    assert state[session.memory_key(session.LessonProgress)] is session.memory(session.LessonProgress)
    assert session.memory(session.Guesses).percentages == {}


def test_no_other_module_uses_the_session_state() -> None:
    modules = [path for path in (ROOT / "app").rglob("*.py") if path.name != "session.py"]
    users = [path.name for path in modules if re.search(r"\bsession_state\b", path.read_text(encoding="utf-8"))]
    assert len(modules) > 15
    assert users == []
