"""Five steps that say what loafing is, in a student's words, each with a button that moves the real controls."""

from dataclasses import dataclass

import streamlit as st

from app import arrangement
from stimcore.serve.types import ExperimentInfo
from stimcore.subnets.topology import Topology

S = st.session_state


@dataclass(frozen=True)
class Step:
    """One screen of the lesson.

    Attributes:
        title: What it is about.
        text: Markdown.
        action: Label of the button that does it; empty where there is nothing to do.
        spec: What the button sets.
    """

    title: str
    text: str
    action: str
    spec: str


def plan(topology: Topology) -> list[Step]:
    """The lesson for a network; only edits that it has."""
    whole = str(arrangement.full(topology))
    ready = arrangement.presets(topology)
    one = next((name for name in ready if name.startswith("Delete block")), None)
    swap = next((name for name in ready if name.startswith("Swap")), None)
    half = next((name for name in ready if name.startswith("Half")), None)
    small = "One per stage" if "One per stage" in ready else None
    first, second = one or half or small, small or half or one
    third = swap or half or one
    return [
        Step(
            "A team of blocks",
            f"The boxes are the **{topology.num_blocks} blocks** of one network. An image goes in on the left; every "
            f"block improves a "
            "little what it gets and passes it on; the answer comes out on the right. The arch over a block is a "
            "**skip path**: the "
            "signal can also go around the block. Below you see two copies, trained in two ways. **Whole, both do well.**",
            "Show the full network",
            whole,
        ),
        Step(
            "Take one away",
            "If every block does its own share, losing one should cost little, because the skip path carries the rest. "
            "**Guess first, then look:** which copy notices?",
            first or "",
            ready.get(first or "", whole),
        ),
        Step(
            "Only the first blocks",
            "Now every stage keeps only its first blocks. What is left is a complete, smaller network. **Trained alone, such a "
            "network does far better than the common copy does now:** its blocks have been leaning on the others. **That is "
            "loafing**, as when people in a group pull less hard than they would alone. The stimulative copy hardly notices.",
            second or "",
            ready.get(second or "", whole),
        ),
        Step(
            "Change places",
            "Blocks that can do their own share should also stand a change of places. Blocks that only fit behind one certain "
            "neighbour can't."
            if swap
            else "Take away as much as this network allows. What is left shows how much the first blocks can do on their own.",
            third or "",
            ready.get(third or "", whole),
        ),
        Step(
            "How to stop the loafing",
            "**Stimulative training** adds one thing: at every training step a random smaller part of the network "
            "must also give the "
            "whole network's answer. No block can hide any more, so every part works. The price is about 1.4 times "
            "the training time.",
            "Put everything back",
            whole,
        ),
    ]


def button(experiment: ExperimentInfo) -> None:
    """Opens the lesson at its first step; only where there are both copies that it talks about."""
    if not {"common", "stimulative"} <= {m.method for m in experiment.methods if m.spec is None}:
        S["lesson"] = 0
        return
    st.button(
        "Lesson in five steps",
        type="primary",
        key="lesson_button",
        on_click=go,
        args=(1,),
        disabled=bool(S.get("lesson")),
        icon=":material/school:",
    )


def go(number: int) -> None:
    """Turns to a step; 0 closes the lesson."""
    S["lesson"] = number


def do(spec: str) -> None:
    """What a step's button does: the same as the visitor's own edit."""
    old = S.get("spec")
    if old and old != spec:
        S.setdefault("undo", []).append(old)
    S["spec"] = spec


def steps(topology: Topology) -> None:
    """The open step, or nothing."""
    number = S.get("lesson", 0)
    if not number:
        return
    todo = plan(topology)
    step = todo[number - 1]
    with st.container(border=True, key="lesson_panel"):
        st.subheader(f"{number} of {len(todo)}: {step.title}", anchor=False)
        st.markdown(step.text)
        if number == len(todo):
            _question()
        with st.container(horizontal=True, key="lesson_buttons"):
            if step.action:
                st.button(step.action, type="primary", key="lesson_do", on_click=do, args=(step.spec,))
            st.button("Back", key="lesson_back", on_click=go, args=(number - 1,), disabled=number == 1)
            if number < len(todo):
                st.button("Next", key="lesson_next", on_click=go, args=(number + 1,))
            st.button("Close the lesson", key="lesson_close", on_click=go, args=(0,))


_ANSWERS = {
    "A block that computes more slowly than the others": "Not quite: speed has nothing to do with it.",
    "Parts of a network that do worse inside it than they would if trained alone": (
        "Right. And you saw the sign of it: take blocks away, and what is left can't do the work."
    ),
    "A network that was trained for too few epochs": "Not quite: the whole network does well, its parts don't.",
}


def _question() -> None:
    choice = st.radio("In your own words: what is loafing?", list(_ANSWERS), index=None, key="lesson_answer")
    if choice:
        (st.success if _ANSWERS[choice].startswith("Right") else st.info)(_ANSWERS[choice])
