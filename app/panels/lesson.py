"""The lesson on the page: each step of `stimcore.web.lesson` with a button that moves the page's real controls."""

from collections.abc import Sequence

import streamlit as st

from app import session
from app.language import words
from stimcore.analysis.contrast import Contrast
from stimcore.serve.types import ExperimentInfo
from stimcore.subnets.topology import Topology
from stimcore.web.lesson import REPLIES, RIGHT, lesson


def lesson_button(experiment: ExperimentInfo) -> None:
    """Draw the button that opens the lesson, where the experiment has both copies that the lesson talks about."""
    progress = session.memory(session.LessonProgress)
    if not {"common", "stimulative"} <= {m.method for m in experiment.methods if m.spec is None}:
        progress.step = 0
        return
    st.button(
        words().say("lesson.button"),
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
    texts, steps = words(), lesson(topology, contrasts)
    step, say = steps[number - 1], texts.say
    with st.container(border=True, key="lesson_panel"):
        heading = say("lesson.heading", number=number, count=len(steps), title=step.title(texts))
        st.subheader(heading, anchor=False)
        st.markdown(step.text(texts))
        if number == len(steps):
            _question()
        with st.container(horizontal=True, key="lesson_buttons"):
            if step.edit:
                edit_args = (topology, str(step.edit.arrangement))
                st.button(step.edit.label(texts), type="primary", key="lesson_do", on_click=session.write_spec, args=edit_args)
            st.button(say("lesson.back"), key="lesson_back", on_click=_turn_to, args=(number - 1,), disabled=number == 1)
            if number < len(steps):
                st.button(say("lesson.next"), key="lesson_next", on_click=_turn_to, args=(number + 1,))
            st.button(say("lesson.close"), key="lesson_close", on_click=_turn_to, args=(0,))


def _turn_to(number: int) -> None:
    """Open a step of the lesson; 0 closes the lesson."""
    session.memory(session.LessonProgress).step = number


def _question() -> None:
    say = words().say
    choice = st.radio(
        say("lesson.question"), REPLIES, index=None, key="lesson_answer", format_func=lambda name: say(f"lesson.{name}")
    )
    if choice:
        (st.success if choice == RIGHT else st.info)(say(f"lesson.{choice}_reply"))
