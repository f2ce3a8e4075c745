"""What a class sees of itself: the address to join with its QR code, who is here, and everybody's guesses."""

import html

import streamlit as st

from app.classroom import POLL_S, bins, classroom, count_here, join_address, median, qr_code
from app.frame import Frame
from app.language import words
from app.sources import connection
from app.text import plain
from app.watch import pause_s
from stimcore.web.arrangement import Arrangement


def state_key(here: Frame, arrangement: Arrangement) -> str:
    """Return the name of what a class guesses about: an experiment and an arrangement of its network."""
    return f"{here.experiment.name} {arrangement}"


def join_panel(here: Frame, arrangement: Arrangement) -> None:
    """Draw who is here and how others join, and keep it up to date."""
    st.fragment(_join, run_every=pause_s(POLL_S))(here, arrangement)


def record_guess(here: Frame, arrangement: Arrangement, method: str, value: int | None) -> None:
    """Note what this visitor expects, for the class."""
    if value is not None:
        classroom().guess(state_key(here, arrangement), connection.visitor(), method, value)


def class_guesses(here: Frame, arrangement: Arrangement) -> None:
    """Draw everybody's guesses, and keep them up to date; nothing where nobody has guessed."""
    st.fragment(_guesses, run_every=pause_s(POLL_S))(here, arrangement)


def _join(here: Frame, arrangement: Arrangement) -> None:
    num_here, num_guessing = count_here(), classroom().num_guessing(state_key(here, arrangement))
    say = words().say
    counts = say("class.here", count=num_here) + (f", {say('class.guessed', count=num_guessing)}" if num_guessing else "")
    address = join_address({"experiment": here.experiment.name, "spec": str(arrangement), "view": "class"})
    if not address:
        st.markdown(counts)
        return
    shown = address.partition("/?")[0]
    with st.popover(say("class.join", address=plain(shown.removeprefix("http://")), counts=counts), key="join"):
        st.markdown(say("class.join_help", address=plain(shown)))
        st.html(f'<img width="300" alt="{html.escape(say("class.qr", address=shown))}" src="{qr_code(address)}">')


def _guesses(here: Frame, arrangement: Arrangement) -> None:
    guesses = classroom().of_state(state_key(here, arrangement))
    rows = [_row(here.label(m), here.style(m).color, guesses[m.name]) for m in here.methods if m.name in guesses]
    if rows:
        st.html(f'<div class="guesses"><p>{words().say("class.expected")}</p>{"".join(rows)}</div>')


def _row(label: str, color: str, values: list[int]) -> str:
    """Return one method's histogram, which a screen reader hears as a sentence."""
    counts = bins(values)
    highest = max(counts)
    bars = "".join(f'<i style="height:{100 * count / highest:.0f}%;background:{color}"></i>' for count in counts)
    middle = f"{median(values):.0f}"
    say = words().say
    text = (
        say("class.one_guess", median=middle)
        if len(values) == 1
        else say("class.many_guesses", count=len(values), median=middle)
    )
    return (
        f'<p class="guessed"><span>{html.escape(label)}: {html.escape(text)}</span>'
        f'<span class="bars" role="img" aria-label="{html.escape(label)}: {html.escape(text)}">{bars}</span></p>'
    )
