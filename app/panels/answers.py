"""The answers of Break it: a sentence, a lane per training method, and how the numbers were measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.errors import StreamlitInvalidLayoutContextError

from app import session
from app.components import lanes
from app.frame import Frame
from app.language import words
from app.sources import evaluations
from app.text import plain
from app.watch import WatchedJob, redraw_when_due, watch
from stimcore.serve.types import MethodInfo
from stimcore.web.arrangement import Arrangement, caution, summarise
from stimcore.web.lanes import Lane


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
    keys: Sequence[evaluations.JobKey]
    covered: bool


def draw_answers(here: Frame, question: Question, place: DeltaGenerator, polling: bool) -> None:
    """Draw the answers; runs as a fragment that is polled while something is measured.

    Args:
        here: The page.
        question: What is asked.
        place: Where the finding stands, outside of the fragment: above the picture.
        polling: Whether this fragment is polled. When the last job finishes, or one starts, the whole page runs once more and
            switches polling off or on; see `redraw_when_due` for the moment.
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
    if done and polling:
        redraw_when_due()
    elif not (done or polling):
        st.rerun()


def _headline(here: Frame, question: Question, answers: Sequence[Answer]) -> str:
    """Return the finding in one sentence, as Markdown, and a second paragraph where a first block is missing."""
    arrangement = question.arrangement
    texts = words()
    edit, note = summarise(here.topology, arrangement, texts), caution(here.topology, arrangement, texts)
    return f"{edit} {_finding(here, question, answers)}" + (f"\n\n{note}" if note else "")


def _finding(here: Frame, question: Question, answers: Sequence[Answer]) -> str:
    whole = question.arrangement.spec == here.topology.full
    if question.covered:
        return words().say("finding.covered")
    known = [(plain(here.label(a.method)), result.accuracy_pct) for a in answers if (result := a.watched.result)]
    only = here.methods[0].main.accuracy_pct if len(here.methods) == 1 else None
    return words().finding(known, whole=whole, whole_pct=only)


def _lane(here: Frame, question: Question, answer: Answer) -> Lane:
    method, job, result = answer.method, answer.watched.job, answer.watched.result
    style = here.style(method)
    # Without re-calibration the full network has other statistics too, so that its stored accuracy is not the reference.
    reference = job.main if job and job.main and not job.request.recalibrate else method.main
    guesses = session.memory(session.Guesses)
    revealed = guesses.revealed == str(question.arrangement)
    return Lane(
        key=method.name,
        name=here.label(method),
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
            st.button(words().say("break_it.stop"), key="stop", on_click=_stop, args=(jobs,), icon=":material/stop_circle:")
            return
        st.markdown(_provenance(jobs))
        if any(j.problem for j in jobs):
            st.button(
                words().say("page.try_again"),
                key="again",
                type="primary",
                on_click=_restart,
                args=(jobs,),
                kwargs={"fresh": False},
            )
        elif any(j.stopped for j in jobs):
            st.button(words().say("break_it.go_on"), key="again", on_click=_restart, args=(jobs,))
        elif not here.classroom:
            st.button(
                words().say("break_it.measure_again"),
                key="fresh",
                on_click=_restart,
                args=(jobs,),
                kwargs={"fresh": True},
                help=words().say("break_it.measure_again_help"),
            )


def _stop(jobs: Sequence[WatchedJob]) -> None:
    for job in jobs:
        job.stop()


def _restart(jobs: Sequence[WatchedJob], fresh: bool | None = None) -> None:
    """Start jobs over; with `fresh` None each as it was started before."""
    for job in jobs:
        job.restart(fresh=job.fresh if fresh is None else fresh)


def _progress(jobs: Sequence[WatchedJob]) -> str:
    texts = words()
    if any(j.phase == "calibrate" for j in jobs):
        return texts.say("break_it.calibrating_first")
    seen, total = min((j.images for j in jobs), default=0), max((j.images_total for j in jobs), default=0)
    if not seen:
        return texts.say("break_it.waiting")
    return texts.say("break_it.counted", seen=texts.count(seen), images=texts.images(total))


def _provenance(jobs: Sequence[WatchedJob]) -> str:
    texts, num_images = words(), min((j.images for j in jobs), default=0)
    images = texts.images(num_images)
    if any(j.stopped for j in jobs):
        return texts.say("break_it.stopped", images=images) if num_images else texts.say("break_it.stopped_before")
    origins = {j.job.source for j in jobs if j.job}
    if origins == {"stored"}:
        return texts.say("break_it.stored", images=images)
    if "stored" in origins:
        return texts.say("break_it.stored_partly", images=images)
    where = next((j.job.provider for j in jobs if j.job and j.job.provider), "")
    return texts.say("break_it.measured_here", images=images, place=_place(where))


def _place(provider: str) -> str:
    """Return where networks ran, from onnxruntime's name of the execution provider."""
    names = {"CPUExecutionProvider": "on_processor", "CUDAExecutionProvider": "on_gpu", "": "here"}
    return words().say(f"break_it.{names[provider]}") if provider in names else provider
