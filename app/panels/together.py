"""What a class sees of itself: the address to join with its QR code, who is here, and everybody's guesses."""

import html

import streamlit as st

from app import sources
from app.classroom import POLL_S, bins, classroom, count_here, join_address, median, qr_code
from app.frame import Frame
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
        classroom().guess(state_key(here, arrangement), sources.visitor(), method, value)


def class_guesses(here: Frame, arrangement: Arrangement) -> None:
    """Draw everybody's guesses, and keep them up to date; nothing where nobody has guessed."""
    st.fragment(_guesses, run_every=pause_s(POLL_S))(here, arrangement)


def _join(here: Frame, arrangement: Arrangement) -> None:
    num_here, num_guessing = count_here(), classroom().num_guessing(state_key(here, arrangement))
    counts = f"{num_here} here" + (f", {num_guessing} guessed" if num_guessing else "")
    address = join_address({"experiment": here.experiment.name, "spec": str(arrangement), "view": "class"})
    if not address:
        st.markdown(counts)
        return
    shown = address.partition("/?")[0]
    with st.popover(f"Join: {plain(shown.removeprefix('http://'))} · {counts}", key="join"):
        st.markdown(f"Open **{plain(shown)}** in this network, or scan. Nobody is named, and nothing is stored.")
        st.html(f'<img width="300" alt="QR code of {html.escape(shown)}" src="{qr_code(address)}">')


def _guesses(here: Frame, arrangement: Arrangement) -> None:
    guesses = classroom().of_state(state_key(here, arrangement))
    rows = [_row(here.label(m), here.style(m).color, guesses[m.name]) for m in here.methods if m.name in guesses]
    if rows:
        st.html(f'<div class="guesses"><p>What the class expected, from 0 to 100 of 100 pictures:</p>{"".join(rows)}</div>')


def _row(label: str, color: str, values: list[int]) -> str:
    """Return one method's histogram, which a screen reader hears as a sentence."""
    counts = bins(values)
    highest = max(counts)
    bars = "".join(f'<i style="height:{100 * count / highest:.0f}%;background:{color}"></i>' for count in counts)
    words = f"{len(values)} guess{'' if len(values) == 1 else 'es'}, in the middle {median(values):.0f}"
    return (
        f'<p class="guessed"><span>{html.escape(label)}: {words}</span>'
        f'<span class="bars" role="img" aria-label="{html.escape(label)}: {words}">{bars}</span></p>'
    )
