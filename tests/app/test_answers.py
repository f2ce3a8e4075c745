"""The panel of answers where Streamlit leaves it without a place; its pages are tested in a browser, in test_break_it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import streamlit
from streamlit.errors import StreamlitInvalidLayoutContextError

from app.panels import answers


class RunsAgain(Exception):
    """What `st.rerun` raises here."""


def test_a_page_that_was_cut_short_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick second click stops a run before it draws the place of the finding; a poll that comes next finds none."""

    def refuse(_: str) -> None:
        raise StreamlitInvalidLayoutContextError("no stable position")

    def rerun() -> None:
        raise RunsAgain

    monkeypatch.setattr(answers, "_headline", lambda *_: "")
    monkeypatch.setattr(streamlit, "rerun", rerun)
    here, question, place = SimpleNamespace(methods=[]), SimpleNamespace(keys=[]), SimpleNamespace(markdown=refuse)
    with pytest.raises(RunsAgain):
        answers.draw_answers(cast(Any, here), cast(Any, question), cast(Any, place), polling=True)
