"""What sub-networks see in one picture: a sample or an upload, and the answer of every sub-network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app import notices, session
from app.frame import Frame, tell_unknown
from app.language import words
from app.sources import bundles, evaluations, server
from app.text import as_sentence, plain
from app.upload import UploadError, read_upload
from stimcore.data.preprocessing import Preprocessing
from stimcore.errors import StimcoreError
from stimcore.serve.types import Classification, MethodInfo, Sample
from stimcore.subnets.families import count
from stimcore.web.ensemble import ensemble


@dataclass(frozen=True)
class ChosenPicture:
    """The picture to classify: an evaluation image, or one that was uploaded.

    Attributes:
        index: Of the evaluation image; None for an upload.
        upload: The upload as a PNG; None for an evaluation image.
        class_name: The right answer; empty for an upload.
    """

    index: int | None = None
    upload: bytes | None = None
    class_name: str = ""


class Votes:
    """The answers of one method's sub-networks.

    Args:
        here: The page.
        method: The bundle.
        answer: From the server, the full network last.
    """

    def __init__(self, here: Frame, method: MethodInfo, answer: Classification) -> None:
        self.title, self.class_names = here.title(method), list(here.experiment.classes)
        self.subnets = [here.topology.short(here.topology.parse(str(r.spec))) for r in answer.results]
        self.best = [max(range(len(self.class_names)), key=r.probabilities.__getitem__) for r in answer.results]
        self.probabilities = [r.probabilities[best] for r, best in zip(answer.results, self.best, strict=True)]

    @property
    def summary(self) -> str:
        """The answer of the whole network and the number of sub-networks that agree, as Markdown."""
        agreeing = sum(best == self.best[-1] for best in self.best)
        return (
            f"**{plain(self.title)}**: the whole network says **{plain(self.class_names[self.best[-1]])}**; "
            f"**{agreeing} of {len(self.best)}** sub-networks agree."
        )

    def cell(self, row: int) -> str:
        """Return a sub-network's answer and its probability."""
        return f"{self.class_names[self.best[row]]}, {100 * self.probabilities[row]:.0f} %"


def votes(here: Frame) -> None:
    """Draw the choice of a picture and what the sub-networks of every method see in it."""
    st.subheader(words().say("picture.title"), anchor=False)
    st.markdown(words().say("picture.lead"))
    samples = bundles.samples(here.experiment)
    try:
        picture = _choose_picture(samples, Preprocessing.from_dict(here.experiment.preprocessing))
    except UploadError as error:
        st.error(as_sentence(error))
        return
    if picture is not None:
        _draw_votes(here, picture)


def _choose_picture(samples: Sequence[Sample], preprocessing: Preprocessing) -> ChosenPicture | None:
    """Draw the samples and the field for an upload; return the chosen picture, None where there is none.

    Raises:
        UploadError: The upload can't be read.
    """
    with st.container(horizontal=True, key="samples", gap="small"):
        for shown in samples:
            with st.container(width=96, key=f"sample_{shown.index}"):
                st.image(_in_page(shown.png_base64), width=72, alt=f"{shown.label_name}, test image {shown.index}")
                st.button(plain(shown.label_name), key=f"take_{shown.index}", on_click=_choose_sample, args=(shown.index,))
    limits = server.image_limits()
    uploaded = st.file_uploader(
        f"Your own image (PNG or JPEG, at most {limits.megabytes}; it is not stored)",
        type=["png", "jpg", "jpeg"],
        max_upload_size=math.ceil(limits.num_bytes / 1e6),  # whole megabytes; the exact limit is checked when it is read
        key="own",
    )
    index = _chosen_index(samples)
    for sentence in notices.told("sample", (session.chosen_experiment(), index)):
        st.warning(sentence)
    if uploaded is not None and uploaded.file_id != session.memory(session.Picture).ignored_upload:
        return ChosenPicture(upload=read_upload(uploaded.getvalue(), limits, preprocessing))
    if index is None:
        return None
    return ChosenPicture(index, class_name=next((s.label_name for s in samples if s.index == index), ""))


def _in_page(png_base64: str) -> str:
    """Return a picture as an address that holds it.

    Streamlit would store the bytes and forget them with the next picture, while a slow browser is still asking for them.
    """
    return f"data:image/png;base64,{png_base64}"


def _choose_sample(index: int) -> None:
    """Choose a sample, put it into the address, and set an earlier upload aside."""
    chosen, uploaded = session.memory(session.Picture), session.upload()
    chosen.sample, chosen.ignored_upload = index, uploaded.file_id if uploaded else ""
    st.query_params["sample"] = str(index)


def _chosen_index(samples: Sequence[Sample]) -> int | None:
    """Return the sample that the address names, else the one chosen last, else the first; None where there are none."""
    chosen = session.memory(session.Picture)
    by_text = {str(s.index): s.index for s in samples}
    asked = st.query_params.get("sample", "")
    if asked in by_text:
        chosen.sample = by_text[asked]
    elif asked:
        tell_unknown("sample", asked)
        del st.query_params["sample"]
        chosen.sample = None
    return next(iter(by_text.values()), None) if chosen.sample is None else chosen.sample


def _draw_votes(here: Frame, picture: ChosenPicture) -> None:
    """Draw, per method, how many sub-networks agree with the whole, and a table of their answers."""
    specs, experiment = ensemble(here.topology), here.experiment.name
    try:
        with st.spinner("Asking all sub-networks …"):
            answers = [
                evaluations.classify(experiment, m.name, specs, index=picture.index, image=picture.upload) for m in here.methods
            ]
    except StimcoreError as error:
        st.error(as_sentence(error))
        st.button("Try again", key="ask_again")
        return
    left, right = st.columns([1, 7], gap="large")
    left.image(
        _in_page(answers[0].png_base64),
        width=96,
        caption=f"{plain(picture.class_name)}, as the networks see it" if picture.class_name else "as the networks see it",
        alt="The image as the networks see it",
    )
    with right:
        by_method = [Votes(here, method, answer) for method, answer in zip(here.methods, answers, strict=True)]
        for method_votes in by_method:
            st.markdown(method_votes.summary)
        rows = range(len(specs))
        table = [
            {"Sub-network": by_method[0].subnets[i], **{plain(v.title): plain(v.cell(i)) for v in by_method}} for i in rows
        ]
        st.table(table, border="horizontal", hide_index=True, height=320)
        st.caption("What each sub-network says, and how sure it is. The full network stands last.")
    total = count(here.topology, "ordered")
    if len(specs) < total:
        st.caption(f"A sample of {len(specs)} out of {total:,} ordered sub-networks.")
