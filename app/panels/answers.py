"""The answers of Break it: a sentence, a lane per training method, and how the numbers were measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.errors import StreamlitInvalidLayoutContextError

from app import session, sources
from app.components import lanes
from app.frame import Frame
from app.text import images, plain, provider
from app.watch import WatchedJob, watch
from stimcore.serve.types import MethodInfo
from stimcore.web.arrangement import Arrangement, caution, summarise
from stimcore.web.lanes import Lane
from stimcore.web.sentences import finding, say


@dataclass(frozen=True)
class Answer:
    """One method's network after the visitor's edit.

    Attributes:
        method: The bundle.
        watched: The job that counts its accuracy.
    """

    method: MethodInfo
    watched: WatchedJob


@dataclass(frozen=True)
class Question:
    """What Break it asks about all methods.

    Attributes:
        arrangement: The visitor's edit of the network.
        keys: A job per method, in the order of the page's methods.
        covered: Whether the answers are hidden until the visitor reveals them.
    """

    arrangement: Arrangement
    keys: Sequence[sources.JobKey]
    covered: bool


def draw_answers(here: Frame, question: Question, place: DeltaGenerator, polling: bool) -> None:
    """Draw the answers; runs as a fragment that is polled while something is measured.

    Args:
        here: The page.
        question: What is asked.
        place: Where the finding stands, outside of the fragment: above the picture.
        polling: Whether this fragment is polled. When the last job finishes, or one starts, the whole page runs once more and
            switches polling off or on.
    """
    answers = [Answer(method, watch(key)) for method, key in zip(here.methods, question.keys, strict=True)]
    done = all(a.watched.finished for a in answers)
    try:
        place.markdown(_headline(here, question, answers))
    except StreamlitInvalidLayoutContextError:
        st.rerun()  # an edit cut the page's last run short before it drew this place: only a whole run can
    rows = [_lane(here, question, answer) for answer in answers]
    lanes(rows, done=done, large=here.classroom, key="lanes")
    _draw_state(here, answers, done)
    if done == polling:
        st.rerun()


def _headline(here: Frame, question: Question, answers: Sequence[Answer]) -> str:
    """Return the finding in one sentence, as Markdown, and a second paragraph where a first block is missing."""
    arrangement = question.arrangement
    edit, note = summarise(here.topology, arrangement), caution(here.topology, arrangement)
    return f"{edit} {_finding(here, question, answers)}" + (f"\n\n{note}" if note else "")


def _finding(here: Frame, question: Question, answers: Sequence[Answer]) -> str:
    whole = question.arrangement.spec == here.topology.full
    if question.covered:
        return "**Which network still works?** Guess first."
    known = [(plain(here.label(a.method)), result.accuracy_pct) for a in answers if (result := a.watched.result)]
    only = here.methods[0].main.accuracy_pct if len(here.methods) == 1 else None
    return finding(known, whole=whole, whole_pct=only)


def _lane(here: Frame, question: Question, answer: Answer) -> Lane:
    method, job, result = answer.method, answer.watched.job, answer.watched.result
    style = here.style(method)
    # Without re-calibration the full network has other statistics too, so that its stored accuracy is not the reference.
    reference = job.main if job and job.main and not job.request.recalibrate else method.main
    guesses = session.memory(session.Guesses)
    revealed = guesses.revealed == str(question.arrangement)
    return Lane(
        key=method.name,
        name=style.label,
        glyph=style.glyph,
        color=style.color,
        full_pct=reference.accuracy_pct,
        accuracy_pct=result.accuracy_pct if result else None,
        interval_pct=result.interval_pct if result else (0.0, 100.0),
        drop_pct=result.drop_pct if result and question.arrangement.spec != here.topology.full else None,
        drop_interval_pct=result.drop_interval_pct if result else (0.0, 0.0),
        guess_pct=guesses.percentages.get(method.name) if revealed else None,
        hidden=question.covered,
    )


def _draw_state(here: Frame, answers: Sequence[Answer], done: bool) -> None:
    """Draw progress or provenance, and the buttons that go with it."""
    for answer in answers:
        if answer.watched.problem:
            st.error(plain(f"{here.label(answer.method)}: {answer.watched.problem}"))
        if answer.watched.job is not None and answer.watched.job.note:
            st.caption(plain(f"{here.label(answer.method)}: {answer.watched.job.note}"))
    jobs = [answer.watched for answer in answers]
    with st.container(horizontal=True, vertical_alignment="center", key="below"):
        if not done:
            seen, total = sum(j.images for j in jobs), sum(j.images_total for j in jobs)
            st.progress(seen / total if total else 0.0, text=_progress(jobs))
            st.button("Stop", key="stop", on_click=_stop, args=(jobs,), icon=":material/stop_circle:")
            return
        st.markdown(_provenance(jobs))
        if any(j.problem for j in jobs):
            st.button("Try again", key="again", type="primary", on_click=_restart, args=(jobs,), kwargs={"fresh": False})
        elif any(j.stopped for j in jobs):
            st.button("Go on", key="again", on_click=_restart, args=(jobs,))
        elif not here.classroom:
            st.button(
                "Measure here now",
                key="fresh",
                on_click=_restart,
                args=(jobs,),
                kwargs={"fresh": True},
                help="Runs every image through the networks again, on this machine, and shows how the interval narrows.",
            )


def _stop(jobs: Sequence[WatchedJob]) -> None:
    for job in jobs:
        job.stop()


def _restart(jobs: Sequence[WatchedJob], fresh: bool | None = None) -> None:
    """Start jobs over; with `fresh` None each as it was started before."""
    for job in jobs:
        job.restart(fresh=job.fresh if fresh is None else fresh)


def _progress(jobs: Sequence[WatchedJob]) -> str:
    if any(j.phase == "calibrate" for j in jobs):
        return "Step 1 of 2: fitting the batch-norm statistics to what is left of the network"
    seen, total = min((j.images for j in jobs), default=0), max((j.images_total for j in jobs), default=0)
    return f"{seen:,} of {images(total)}" if seen else "Waiting for the first images"


def _provenance(jobs: Sequence[WatchedJob]) -> str:
    num_images = min((j.images for j in jobs), default=0)
    if any(j.stopped for j in jobs):
        return f"Stopped: counted on {images(num_images)} only." if num_images else "Stopped before the first number."
    origins = {j.job.source for j in jobs if j.job}
    if origins == {"stored"}:
        return say("stored", images=images(num_images))
    if "stored" in origins:
        return f"Done: measured on {images(num_images)}, partly when the bundle was made, partly here."
    where = next((j.job.provider for j in jobs if j.job and j.job.provider), "")
    return f"Done: measured here on {images(num_images)} ({provider(where)})."
