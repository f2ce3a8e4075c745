"""The lesson on the page: each step of `stimcore.web.lesson` with a button that moves the page's real controls."""

from collections.abc import Sequence

import streamlit as st

from app import session
from stimcore.analysis.contrast import Contrast
from stimcore.serve.types import ExperimentInfo
from stimcore.subnets.topology import Topology
from stimcore.web.lesson import QUESTION, REPLIES, RIGHT, lesson


def lesson_button(experiment: ExperimentInfo) -> None:
    """Draw the button that opens the lesson, where the experiment has both copies that the lesson talks about."""
    progress = session.memory(session.LessonProgress)
    if not {"common", "stimulative"} <= {m.method for m in experiment.methods if m.spec is None}:
        progress.step = 0
        return
    st.button(
        "Lesson in five steps",
        type="primary",
        key="lesson_button",
        on_click=_turn_to,
        args=(1,),
        disabled=progress.step > 0,
        icon=":material/school:",
    )


def lesson_open() -> bool:
    """Whether the lesson is open."""
    return session.memory(session.LessonProgress).step > 0


def lesson_panel(topology: Topology, contrasts: Sequence[Contrast]) -> None:
    """Draw the open step of the lesson; nothing while the lesson is closed.

    Args:
        topology: The network.
        contrasts: What stored states show.
    """
    number = session.memory(session.LessonProgress).step
    if not number:
        return
    steps = lesson(topology, contrasts)
    step = steps[number - 1]
    with st.container(border=True, key="lesson_panel"):
        st.subheader(f"{number} of {len(steps)}: {step.title}", anchor=False)
        st.markdown(step.text)
        if number == len(steps):
            _question()
        with st.container(horizontal=True, key="lesson_buttons"):
            if step.edit:
                edit_args = (topology, str(step.edit.arrangement))
                st.button(step.edit.label, type="primary", key="lesson_do", on_click=session.write_spec, args=edit_args)
            st.button("Back", key="lesson_back", on_click=_turn_to, args=(number - 1,), disabled=number == 1)
            if number < len(steps):
                st.button("Next", key="lesson_next", on_click=_turn_to, args=(number + 1,))
            st.button("Close the lesson", key="lesson_close", on_click=_turn_to, args=(0,))


def _turn_to(number: int) -> None:
    """Open a step of the lesson; 0 closes the lesson."""
    session.memory(session.LessonProgress).step = number


def _question() -> None:
    choice = st.radio(QUESTION, list(REPLIES), index=None, key="lesson_answer")
    if choice:
        (st.success if choice == RIGHT else st.info)(REPLIES[choice])
