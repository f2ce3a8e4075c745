"""The lesson: five steps that explain loafing in a student's words, each with a button that moves the page's real controls."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app import arrangement, session
from app.arrangement import Edit
from stimcore.analysis.contrast import Contrast
from stimcore.serve.types import ExperimentInfo
from stimcore.subnets.topology import Topology


@dataclass(frozen=True)
class Step:
    """One screen of the lesson.

    Attributes:
        title: What it is about.
        text: Markdown.
        edit: What its button does; None where this network has nothing to do in this step.
    """

    title: str
    text: str
    edit: Edit | None


def lesson(topology: Topology, contrasts: Sequence[Contrast] = ()) -> list[Step]:
    """Return the steps for a network; they use only edits that the network has.

    Args:
        topology: The network.
        contrasts: What stored states show: they choose the edits that make the point best.
    """
    presets, whole = arrangement.presets(topology, contrasts), arrangement.full(topology)
    return [
        Step(
            "A team of blocks",
            f"The boxes are the **{topology.num_blocks} blocks** of one network. An image goes in on the left; every block "
            "improves a little what it gets and passes it on; the answer comes out on the right. The arch over a block is a "
            "**skip path**: the signal can also go around the block. The bars show two copies of it, trained in two ways. "
            "**Whole, both do well.**",
            Edit("Show the full network", whole),
        ),
        Step(
            "Take one away",
            "If every block does its own share, losing one should cost little, because the skip path carries the rest. "
            "**Guess first, then look:** which copy notices?",
            presets.delete or presets.half or presets.smallest,
        ),
        Step(
            "Only the first blocks",
            "Now every stage keeps only its first blocks. What is left is a complete, smaller network. **Trained alone, such a "
            "network does far better than the common copy does now:** its blocks have been leaning on the others. **That is "
            "loafing**, as when people in a group pull less hard than they would alone. The stimulative copy hardly notices.",
            presets.smallest or presets.half or presets.delete,
        ),
        Step(
            "Change places",
            "Blocks that can do their own share should also cope with a change of places. Blocks that fit only behind one "
            "particular neighbour can't."
            if presets.swap
            else "Take away as much as this network allows. What is left shows how much the first blocks can do by themselves.",
            presets.swap or presets.half or presets.delete,
        ),
        Step(
            "How to stop the loafing",
            "**Stimulative training** adds one thing: at every training step, a random smaller part of the network must also "
            "give the answer of the whole network. No block can hide any more, so every part works. The price is about 1.4 "
            "times the training time.",
            Edit("Put everything back", whole),
        ),
    ]


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


_RIGHT = "Parts of a network that do worse inside it than they would if trained alone"
_REPLIES = {
    "A block that computes more slowly than the others": "Not quite: speed has nothing to do with it.",
    _RIGHT: "Right. And you saw the sign of it: take blocks away, and what is left can't do the work.",
    "A network that was trained for too few epochs": "Not quite: the whole network does well, its parts don't.",
}


def _question() -> None:
    choice = st.radio("In your own words: what is loafing?", list(_REPLIES), index=None, key="lesson_answer")
    if choice:
        (st.success if choice == _RIGHT else st.info)(_REPLIES[choice])
