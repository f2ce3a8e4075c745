"""Guess first: sliders for what the visitor expects, while the answers are covered."""

import streamlit as st

from app import session
from app.frame import Frame
from app.language import words
from app.panels.together import record_guess
from app.text import plain
from stimcore.web.arrangement import Arrangement

START = 50
"""Where a slider stands before a visitor moves it."""


def covered(here: Frame, arrangement: Arrangement) -> bool:
    """Whether the answers for an arrangement are hidden: guessing is on, something was changed, and nothing is revealed yet."""
    if arrangement.spec == here.topology.full or not (here.classroom or session.guesses_first()):
        return False
    return session.memory(session.Guesses).revealed != str(arrangement)


def guess_panel(here: Frame, arrangement: Arrangement) -> None:
    """Draw a slider per method and the button that reveals the answers."""
    with st.container(key="guess", border=True):
        st.markdown(words().say("guess.question"))
        # The style sheet puts as many into a row as have room for their values: columns would divide one row among all of them.
        with st.container(horizontal=True, key="guess_sliders"):
            for method in here.methods:
                st.slider(
                    plain(here.label(method)),
                    0,
                    100,
                    value=START,
                    key=session.guess_key(method.name, str(arrangement)),
                    format=words().say("guess.value"),
                    on_change=_note,
                    args=(here, arrangement, method.name),
                )
        st.button(words().say("guess.reveal"), type="primary", key="reveal", on_click=_reveal, args=(here, arrangement))


def _note(here: Frame, arrangement: Arrangement, method: str) -> None:
    """Remember that the visitor guessed, and count it for the class; a slider that nobody moved is no guess."""
    value = session.guess(method, str(arrangement))
    session.memory(session.Guesses).moved[session.guess_key(method, str(arrangement))] = value
    if here.classroom:
        record_guess(here, arrangement, method, value)


def _reveal(here: Frame, arrangement: Arrangement) -> None:
    """Uncover the answers and keep the guesses, since the values of the sliders go with the sliders."""
    guesses = session.memory(session.Guesses)
    guesses.revealed = str(arrangement)
    guesses.percentages = {}
    for method in here.methods:
        value = session.guess(method.name, str(arrangement))
        moved = guesses.moved.get(session.guess_key(method.name, str(arrangement)))
        # The button may come in one message with the last slider, and before it.
        if value is not None and (value != START or moved == START):
            guesses.percentages[method.name] = value
    guesses.moved = {}
