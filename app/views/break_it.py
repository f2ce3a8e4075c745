"""The page Break it: delete and move blocks, and see which training method's network still works."""

import random
from collections.abc import Sequence
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import notices, session
from app.components import diagram
from app.frame import Frame, footer, frame
from app.language import words
from app.panels.answers import Question, draw_answers
from app.panels.guess import covered, guess_panel
from app.panels.lesson import lesson_button, lesson_open, lesson_panel
from app.panels.together import class_guesses, join_panel
from app.panels.wall import picture_panel
from app.sources import evaluations
from app.story import stored_contrasts, story
from app.text import plain
from app.watch import pause_s, watch, watch_only
from stimcore.analysis.contrast import Contrast
from stimcore.subnets.topology import Topology
from stimcore.web import arrangement

POLL_S = 0.25
"""Seconds between two polls of a visitor alone."""


def edit_from_picture(topology: Topology) -> None:
    """Write what the visitor did in the picture."""
    session.write_spec(topology, session.edit("net").text)


def tools(topology: Topology, contrasts: Sequence[Contrast], classroom: bool) -> None:
    """Draw the buttons for ready-made edits and undo."""
    say = words().say
    with st.container(horizontal=True, key="tools", gap="small"):
        for edit in arrangement.presets(topology, contrasts).edits:
            edit_args = (topology, str(edit.arrangement))
            st.button(edit.label(words()), on_click=session.write_spec, args=edit_args, key=f"preset {edit.label()}")
        if not classroom:
            st.button(
                say("break_it.surprise"),
                on_click=lambda: session.write_spec(topology, str(arrangement.random_ordered(topology, random.Random()))),
                key="surprise",
                help=say("break_it.surprise_help"),
            )
        st.button(
            say("break_it.undo"),
            on_click=session.undo_spec,
            args=(topology,),
            disabled=not session.memory(session.EditHistory).undo,
            key="undo_button",
            icon=":material/undo:",
            shortcut="Ctrl+Z",
        )


def sentence(topology: Topology, shown: arrangement.Arrangement) -> DeltaGenerator:
    """Draw the row of the finding and the button that resets the network; return the place of the finding."""
    whole = str(arrangement.full(topology))
    with st.container(horizontal=True, vertical_alignment="center", key="sentence"):
        place = st.empty()
        st.button(
            words().say("edit.put_back"),
            on_click=session.write_spec,
            args=(topology, whole),
            disabled=str(shown) == whole,
            key="reset",
            icon=":material/restart_alt:",
        )
    return place


def settings(opening: str, classroom: bool, *, batch_norms: bool) -> tuple[str, bool]:
    """Draw the fields under the answers; return the text of the arrangement and whether batch norms are re-calibrated.

    Args:
        opening: What is shown while the address has no spec.
        classroom: Only the code is drawn: a projector needs no settings.
        batch_norms: Whether a network that is shown has batch norms. Without any there is nothing to re-calibrate.
    """
    say = words().say
    with st.container(horizontal=True, vertical_alignment="bottom", key="settings", gap="medium"):
        typed = st.text_input(
            say("break_it.code"),
            value=opening,
            key=session.SPEC,
            bind="query-params",
            on_change=session.reported(session.SPEC),
            help=say("break_it.code_help"),
        )
        text = session.shown(session.SPEC, typed) or opening
        if classroom:
            return text, True
        st.toggle(
            say("guess.first"),
            key="guess_first",
            bind="query-params",
            help=say("guess.first_help"),
        )
        if not batch_norms:
            st.caption(say("break_it.no_recalibration"), help=say("break_it.no_recalibration_help"))
            return text, True
        recalibrate = st.toggle(
            say("break_it.recalibrate"),
            value=True,
            key="recalibrate",
            bind="query-params",
            help=say("break_it.recalibrate_help"),
        )
    return text, recalibrate


def picture(topology: Topology, shown: arrangement.Arrangement, reason: str, large: bool) -> None:
    """Draw the network, and above it why an edit or an address was refused.

    Args:
        topology: The network.
        shown: The arrangement to draw.
        reason: Why the address or the code has no arrangement; empty where it has one.
        large: Draw it for a projector.
    """
    if refusal := session.take_refusal():
        notices.tell("edit", plain(refusal))
    refusals = notices.told("edit", str(shown))
    if reason:
        st.error(words().say("break_it.showing_full", reason=plain(reason)))
    else:
        for sentence in refusals:
            st.error(sentence)
    diagram(
        topology,
        shown,
        large=large,
        key="net",
        on_edit=partial(edit_from_picture, topology),
    )


def answers(here: Frame, question: Question, place: DeltaGenerator) -> bool:
    """Draw the answers, and start or join the jobs that measure them; return whether all of them are known.

    Args:
        here: The page.
        question: What is asked.
        place: Where the finding stands.
    """
    watch_only(question.keys)
    polling = not all(watch(key).finished for key in question.keys)
    fragment = st.fragment(draw_answers, run_every=pause_s(POLL_S) if polling else None)
    fragment(here, question, place, polling)
    return not polling


def page() -> None:
    """Draw the page."""
    class_slots: list[DeltaGenerator] = []
    here = frame(
        words().say("page.break_it_title"),
        extra=lesson_button,
        in_class=lambda: class_slots.append(st.container(key="class", width="content")),
    )
    topology, contrasts = here.topology, stored_contrasts(here.experiment)
    # The code is read before everything that it decides is drawn, and stands below it.
    top = st.container(key="top")
    with st.container(key="body", horizontal=True):
        answer_slot = st.container(key="answers")
        text, recalibrate = settings(
            here.returned or story(here.experiment, topology),
            here.classroom,
            batch_norms=any(m.batch_norms for m in here.methods),
        )
        session.remember_place(here.experiment.name)
        side_slot = st.container(key="side")
    shown, reason = arrangement.read_or_full(topology, text)
    is_covered = covered(here, shown)
    keys = [
        evaluations.JobKey(here.experiment.name, m.name, m.fingerprint, (shown.spec,), recalibrate=recalibrate)
        for m in here.methods
    ]
    for slot in class_slots:
        with slot:
            join_panel(here, shown)
    with top:
        place = sentence(topology, shown)
        with st.container(key="picture"):
            picture(topology, shown, reason, here.classroom)
        tools(topology, contrasts, here.classroom)
    with answer_slot:
        measured = answers(here, Question(shown, keys, is_covered), place)
    with side_slot:
        if is_covered:
            guess_panel(here, shown)
        elif here.classroom:
            class_guesses(here, shown)
        lesson_panel(topology, contrasts)
    if not here.classroom:
        with st.container(key="about"):
            st.markdown(words().say("break_it.lead"))
            footer(here)
    if not (is_covered or lesson_open()):
        with side_slot:
            picture_panel(here, shown, recalibrate=recalibrate, measured=measured)


if __name__ == "__main__":
    page()
