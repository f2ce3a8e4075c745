"""The page Break it: delete and move blocks, and see which training method's network still works."""

import random
from functools import partial

import streamlit as st

from app import arrangement, session, sources
from app.components import diagram
from app.frame import Frame, footer, frame
from app.panels.answers import Question, draw_answers
from app.panels.guess import covered, guess_panel
from app.panels.lesson import lesson_button, lesson_panel
from app.text import plain
from app.watch import pause_s, watch, watch_only
from stimcore.subnets.topology import Topology

POLL_S = 0.25
"""Seconds between two polls of a visitor alone."""
LEAD = (
    "The same network, trained in different ways on the same images. Take a block out, or put blocks in another order, and see "
    "how many images each copy still gets right. A network whose blocks *loaf* leaves the work to the others and falls apart."
)


def edit_from_picture(topology: Topology) -> None:
    """Write what the visitor did in the picture."""
    session.memory(session.EditHistory).revision += 1
    session.write_spec(topology, session.edited_text("net"))


def tools(topology: Topology, classroom: bool) -> None:
    """Draw the buttons for undo, reset and ready-made edits."""
    whole = str(arrangement.full(topology))
    with st.container(horizontal=True, key="tools", gap="small"):
        st.button(
            "Undo",
            on_click=session.undo_spec,
            args=(topology,),
            disabled=not session.memory(session.EditHistory).undo,
            key="undo_button",
            icon=":material/undo:",
            shortcut="Ctrl+Z",
        )
        st.button("Reset", on_click=session.write_spec, args=(topology, whole), key="reset", icon=":material/restart_alt:")
        for edit in arrangement.presets(topology).edits:
            edit_args = (topology, str(edit.arrangement))
            st.button(edit.label, on_click=session.write_spec, args=edit_args, key=f"preset {edit.label}")
        if not classroom:
            st.button(
                "Surprise me",
                on_click=lambda: session.write_spec(topology, str(arrangement.random_ordered(topology, random.Random()))),
                key="surprise",
                help="A random sub-network: of every stage only the first few blocks.",
            )


def settings(topology: Topology, classroom: bool) -> tuple[str, bool]:
    """Draw the fields under the answers; return the text of the arrangement and whether batch norms are re-calibrated."""
    whole = str(arrangement.full(topology))
    with st.container(horizontal=True, vertical_alignment="bottom", key="settings", gap="medium"):
        text = st.text_input(
            "Architecture code",
            value=whole,
            key=session.SPEC,
            bind="query-params",
            help="Blocks in running order; a dot between stages, x before a deleted block. The page's address has it too.",
        )
        if classroom:
            return text or whole, True
        st.toggle(
            "Guess first",
            key="guess_first",
            bind="query-params",
            help="Covers each answer until you have said what you expect.",
        )
        recalibrate = st.toggle(
            "Re-calibrate",
            value=True,
            key="recalibrate",
            bind="query-params",
            help=(
                "A network scales its signals by averages that were recorded with every block in place (batch norm). "
                "Re-calibration records them again for what is left, on training images. Switch it off to see how much of the "
                "damage comes from stale averages alone."
            ),
        )
    return text or whole, recalibrate


def picture(topology: Topology, shown: arrangement.Arrangement, reason: str, large: bool) -> None:
    """Draw the network, and above it why an edit or an address was refused.

    Args:
        topology: The network.
        shown: The arrangement to draw.
        reason: Why the address or the code has no arrangement; empty where it has one.
        large: Draw it for a projector.
    """
    if reason:
        st.error(f"{plain(reason)} Showing the full network.")
    elif refusal := session.take_refusal():
        st.error(plain(refusal))
    diagram(
        topology,
        shown,
        revision=session.memory(session.EditHistory).revision,
        large=large,
        key="net",
        on_edit=partial(edit_from_picture, topology),
    )


def answers(here: Frame, shown: arrangement.Arrangement, recalibrate: bool) -> None:
    """Draw the guess and the answers, and start or join the jobs that measure them."""
    is_covered = covered(here, shown)
    if is_covered:
        guess_panel(here, shown)
    keys = [
        sources.JobKey(here.experiment.name, m.name, m.fingerprint, (shown.spec,), recalibrate=recalibrate)
        for m in here.methods
    ]
    watch_only(keys)
    polling = not all(watch(key).finished for key in keys)
    fragment = st.fragment(draw_answers, run_every=pause_s(POLL_S) if polling else None)
    fragment(here, Question(shown, keys, is_covered), polling)


def page() -> None:
    """Draw the page."""
    here = frame("Break the network", LEAD, extra=lesson_button)
    topology = here.topology
    lesson_panel(topology)
    tools(topology, here.classroom)
    # The code is read before the picture is drawn, and stands under the answers.
    picture_slot, answer_slot, settings_slot = st.container(), st.container(), st.container()
    with settings_slot:
        text, recalibrate = settings(topology, here.classroom)
    shown, reason = arrangement.read_or_full(topology, text)
    with picture_slot:
        picture(topology, shown, reason, here.classroom)
    with answer_slot:
        answers(here, shown, recalibrate)
    if not here.classroom:
        footer(here)


if __name__ == "__main__":
    page()
