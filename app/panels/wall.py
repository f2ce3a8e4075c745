"""The picture wall of Break it: what two methods' networks say to the same 24 test pictures in the state that is shown."""

from collections.abc import Sequence

import streamlit as st

from app.components import picture_wall
from app.frame import Frame
from app.language import words
from app.sources import wall
from app.story import compared
from app.text import plain
from app.watch import pause_s, redraw_when_due
from stimcore.errors import StimcoreError
from stimcore.serve.types import MethodInfo, WallAnswers
from stimcore.web.arrangement import Arrangement
from stimcore.web.wall import WallMethod, WallPicture

POLL_S = 0.4
"""Seconds between two polls of a visitor alone."""


def wall_methods(here: Frame) -> Sequence[MethodInfo]:
    """Return the methods on the wall: the two that the experiment compares where both are chosen, else the first two chosen."""
    names = {method.name for method in compared(here.experiment)}
    chosen = [method for method in here.methods if method.name in names]
    return chosen if len(chosen) == len(names) else here.methods[:2]


def picture_panel(here: Frame, shown: Arrangement, *, recalibrate: bool, measured: bool) -> None:
    """Draw the pictures and the answers to them, polled until the server has all of these.

    Args:
        here: The page.
        shown: The state.
        recalibrate: Whether batch norms are re-calibrated.
        measured: Whether the accuracies of this state are known. Until then the server is not asked for answers, which would
            delay the first number.
    """
    try:
        samples = wall.samples(here.experiment)
        images = tuple(sample.index for sample in samples)
        keys = [
            wall.WallKey(here.experiment.name, method.name, method.fingerprint, shown.spec, recalibrate, images)
            for method in wall_methods(here)
        ]
        polling = measured and any(wall.answers(key, wall.STORED_S) is None for key in keys)
    except StimcoreError as error:
        st.caption(words().say("wall.failed", reason=plain(str(error))))
        return
    if not measured:
        st.caption(words().say("wall.follow", count=len(samples)))
        return
    pictures = [WallPicture(sample.label, sample.png_base64) for sample in samples]
    fragment = st.fragment(_draw_wall, run_every=pause_s(POLL_S) if polling else None)
    fragment(here, pictures, keys, polling)


def _draw_wall(here: Frame, pictures: Sequence[WallPicture], keys: Sequence[wall.WallKey], polling: bool) -> None:
    """Draw the wall once all answers are there; runs as a fragment. Then the whole page runs once more, which ends the polling.

    The component gets no data before: what follows while the browser still loads its script would not be drawn.
    """
    try:
        answers = [answer for key in keys if (answer := wall.answers(key)) is not None]
    except StimcoreError as error:
        st.caption(words().say("wall.failed", reason=plain(str(error))))
        return
    if len(answers) == len(keys) and polling:
        redraw_when_due()
    if len(answers) < len(keys) or polling:
        st.caption(words().say("wall.asking", count=len(pictures)))
        return
    experiment = here.experiment
    methods = [_on_wall(here, method, answer) for method, answer in zip(wall_methods(here), answers, strict=True)]
    picture_wall(pictures, methods, experiment.classes, tinted=experiment.image_shape[0] == 1, key="wall")


def _on_wall(here: Frame, method: MethodInfo, answers: WallAnswers) -> WallMethod:
    style = here.style(method)
    return WallMethod(
        name=here.label(method),
        glyph=style.glyph,
        color=style.color,
        classes=answers.classes,
        confidence=answers.confidence,
    )
