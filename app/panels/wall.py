"""The picture wall of Break it: what two methods' networks say to the same 24 test pictures in the state that is shown."""

from collections.abc import Sequence

import streamlit as st

from app import sources
from app.arrangement import Arrangement
from app.components import picture_wall
from app.frame import Frame
from app.story import compared
from app.text import plain
from stimcore.errors import StimcoreError
from stimcore.serve.types import MethodInfo, WallAnswers
from stimcore.web.wall import WallMethod, WallPicture


def wall_methods(here: Frame) -> Sequence[MethodInfo]:
    """Return the methods on the wall: the two that the experiment compares where both are chosen, else the first two chosen."""
    names = {method.name for method in compared(here.experiment)}
    chosen = [method for method in here.methods if method.name in names]
    return chosen if len(chosen) == len(names) else here.methods[:2]


def draw_wall(here: Frame, shown: Arrangement, *, recalibrate: bool, measured: bool) -> None:
    """Draw the pictures, and the answers to them.

    Args:
        here: The page.
        shown: The state.
        recalibrate: Whether batch norms are re-calibrated.
        measured: Whether the accuracies of this state are known. Until then the server is not asked for answers, which would
            delay the first number.
    """
    try:
        samples = sources.wall(here.experiment)
        pictures = [WallPicture(sample.label, sample.png_base64) for sample in samples]
        images = tuple(sample.index for sample in samples)
        methods = []
        for method in wall_methods(here):
            asked = sources.WallKey(here.experiment.name, method.name, method.fingerprint, shown.spec, recalibrate, images)
            methods.append(_on_wall(here, method, sources.wall_answers(asked) if measured else None))
    except StimcoreError as error:
        st.caption(plain(f"The pictures can't be shown: {error}"))
        return
    experiment = here.experiment
    picture_wall(pictures, methods, experiment.classes, tinted=experiment.image_shape[0] == 1, key="wall")


def _on_wall(here: Frame, method: MethodInfo, answers: WallAnswers | None) -> WallMethod:
    style = here.style(method)
    return WallMethod(
        name=style.label,
        glyph=style.glyph,
        color=style.color,
        classes=answers.classes if answers else None,
        confidence=answers.confidence if answers else None,
    )
