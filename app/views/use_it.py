"""Use it: the best sub-network for a budget, as a file to run elsewhere; and what sub-networks say of one image."""

import base64
import math
from collections.abc import Mapping, Sequence

import streamlit as st

from app import sources
from app.frame import Frame, footer, frame, images, plain
from app.own_image import UploadError, checked
from app.show import show
from stimcore.errors import StimcoreError
from stimcore.figures import pareto
from stimcore.serve.types import Classification, MethodInfo, NetworkInfo, Networks, Sample
from stimcore.subnets.families import count, ordered, sample

S = st.session_state
LEAD = (
    "A network that was trained so that its parts work can be cut to size afterwards, without any training. Say what you can "
    "afford; take the best sub-network for it as an ONNX file."
)
TIME, WORK = "measured time", "multiply-adds"
ASKED = 60
"""Sub-networks that judge an image, at most."""


def options(here: Frame, method: MethodInfo, networks: Sequence[NetworkInfo], timed: bool) -> list[pareto.Option]:
    """The listed networks of a bundle as points."""
    made = []
    for network in networks:
        cost = network.latency_ms.get("batch1_p50") if timed else network.macs / 1e6
        if cost is not None:
            name = here.topology.short(here.topology.parse(network.spec))
            made.append(pareto.Option(method.name, network.file, network.spec, name, network.accuracy_pct, float(cost)))
    return made


def cost_in() -> str:
    """What counts: `TIME` or `WORK`."""
    return str(
        st.segmented_control(
            "What counts",
            [TIME, WORK],
            default=TIME,
            required=True,
            key="cost",
            bind="query-params",
            help="Time was measured on one machine and differs on yours; multiply-adds are the same everywhere.",
        )
    )


def budget(here: Frame) -> None:
    """Pareto figure, budget, download."""
    listed = {m.name: sources.networks(here.experiment.name, m) for m in here.methods}
    measured = all(any(n.latency_ms for n in found.networks) for found in listed.values())
    timed = measured and cost_in() == TIME
    unit = "ms per image" if timed else "million multiply-adds per image"
    groups = [(m, options(here, m, listed[m.name].networks, timed)) for m in here.methods]
    every = [o for _, found in groups for o in found]
    if not every:
        st.info("No network of this experiment is listed for download.")
        return
    if len(every) == len(groups):
        whole_only(here, groups, listed, unit)
        return
    low, high = math.floor(100 * min(o.cost for o in every)) / 100, math.ceil(100 * max(o.cost for o in every)) / 100
    limit = high
    if high > low:
        limit = st.slider(
            f"What you can afford ({unit})",
            low,
            high,
            value=round(low + 0.4 * (high - low), 2),
            key="budget",
            bind="query-params",
            format="%.2f",
            help="Measured time for one image on the machine named below." if timed else "How much a network has to compute.",
        )
    chosen = pareto.within(every, limit)
    figure = pareto.chart([(here.style(m), found) for m, found in groups], chosen, limit if high > low else None, unit)
    left, right = st.columns([3, 2], gap="large")
    with left:
        show(figure, "pareto", f"Accuracy over {unit}, with the best sub-network for each budget")
        st.caption("Faint: every sub-network. Lines: the best for what it costs.")
        if timed:
            on = next((found.latency_on for found in listed.values() if found.latency_on), {})
            st.caption(f"● {pareto.timing(on)}")
        elif not measured:
            st.caption("Cost is counted in multiply-adds: times were not measured for this bundle.")
    with right:
        if chosen is None:
            st.warning("No sub-network is that cheap.")
        else:
            method = next(m for m in here.methods if m.name == chosen.method)
            entry = next(n for n in listed[chosen.method].networks if n.file == chosen.file)
            download(here, method, chosen, entry, unit)


def whole_only(
    here: Frame, groups: Sequence[tuple[MethodInfo, list[pareto.Option]]], listed: Mapping[str, Networks], unit: str
) -> None:
    """Where no sub-network is listed: the best whole network, and how to list more."""
    best = max((o for _, found in groups for o in found), key=lambda o: o.accuracy_pct)
    method = next(m for m in here.methods if m.name == best.method)
    download(here, method, best, next(n for n in listed[best.method].networks if n.file == best.file), unit)
    st.info(
        "No sub-network is listed in this experiment, only whole networks. `python -m stimcore.export RUN_DIR --out "
        f"exported/{here.experiment.name} --subnets ordered` lists all of them."
    )


def download(here: Frame, method: MethodInfo, chosen: pareto.Option, entry: NetworkInfo, unit: str) -> None:
    """The chosen network: what it is, the file, how it was checked, and code."""
    st.subheader(f"{chosen.name}, {here.style(method).label.lower()}", anchor=False)
    st.markdown(
        f"**{chosen.accuracy_pct:.1f} %** right at **{chosen.cost:.3g} {unit}**; {entry.parameters:,} "
        f"parameters. The full network: "
        f"{method.main.accuracy_pct:.1f} %."
    )
    name = f"{here.experiment.name}-{method.name}-{chosen.name}.onnx"
    st.download_button(
        "Download ONNX",
        data=lambda: sources.onnx(here.experiment.name, method.name, chosen.spec),
        file_name=name,
        mime="application/onnx",
        on_click="ignore",
        key="download",
        type="primary",
        icon=":material/download:",
    )
    st.markdown(
        f"Checked against PyTorch on {images(here.experiment.evaluation_images)}: {entry.correct:,} right in onnxruntime, "
        f"{entry.correct_torch:,} in torch; both name the same class for {100 * entry.agreement:.2f} % of "
        f"them; largest difference of "
        f"outputs {entry.parity:.1e} of the largest output."
    )
    with st.expander("Code to run it"):
        st.code(code(here, name), language="python")


def code(here: Frame, name: str) -> str:
    """A program that runs the file on one image."""
    experiment = here.experiment
    channels, height, width = experiment.image_shape
    mean, std = [round(float(v), 6) for v in experiment.mean], [round(float(v), 6) for v in experiment.std]
    mode = "L" if channels == 1 else "RGB"
    return f'''import numpy as np
import onnxruntime as ort
from PIL import Image

CLASSES = {list(experiment.classes)}
MEAN, STD = np.float32({mean}), np.float32({std})

image = Image.open("image.png").convert("{mode}").resize(({width}, {height}))
pixels = np.asarray(image, np.float32).reshape({height}, {width}, {channels}) / 255
batch = ((pixels - MEAN) / STD).transpose(2, 0, 1)[None]
session = ort.InferenceSession("{name}")
(logits,) = session.run(["logits"], {{"images": batch}})
print(CLASSES[int(logits[0].argmax())])
'''


def judge(here: Frame) -> None:
    """One image, and what sub-networks say of it."""
    st.subheader("What do the sub-networks say?", anchor=False)
    st.markdown("Choose a picture, or bring your own. If parts loaf, the small sub-networks disagree with the whole.")
    samples = sources.samples(here.experiment)
    with st.container(horizontal=True, key="samples", gap="small"):
        for found in samples:
            with st.container(width=96, key=f"sample_{found.index}"):
                st.image(base64.b64decode(found.png_base64), width=72, alt=f"{found.label_name}, test image {found.index}")
                st.button(found.label_name, key=f"take_{found.index}", on_click=take, args=(found.index,))
    upload = st.file_uploader(
        "Your own image (PNG or JPEG, at most 2 MB; it is not stored)",
        type=["png", "jpg", "jpeg"],
        max_upload_size=2,
        key="own",
    )
    index = taken(samples)
    image: bytes | None = None
    if upload is not None and upload.file_id != S.get("set_aside"):
        try:
            image, index = checked(upload.getvalue()), None
        except UploadError as error:
            st.error(plain(str(error)))
            return
    if index is None and image is None:
        return
    truth = next((s.label_name for s in samples if s.index == index), "")
    votes(here, index, image, truth)


def take(index: int) -> None:
    """A sample was chosen: the address says so, and an own image that was there before no longer counts."""
    upload = S.get("own")
    S.update(sample=index, set_aside=upload.file_id if upload else None)
    st.query_params["sample"] = str(index)


def taken(samples: Sequence[Sample]) -> int | None:
    """The sample that the address names, else the one chosen last, else the first; None where there are none."""
    known = {str(s.index): s.index for s in samples}
    asked = st.query_params.get("sample", "")
    if asked in known:
        S["sample"] = known[asked]
    elif asked:
        del st.query_params["sample"]
        S.pop("sample", None)
    chosen: int | None = S.get("sample", next(iter(known.values()), None))
    return chosen


def votes(here: Frame, index: int | None, image: bytes | None, truth: str) -> None:
    """Per method: how many sub-networks agree with the whole, and a table of what they say."""
    specs = judges(here)
    found: list[tuple[MethodInfo, Classification]] = []
    try:
        with st.spinner("Asking all sub-networks …"):
            for method in here.methods:
                found.append((method, sources.classify(here.experiment.name, method.name, specs, index=index, image=image)))
    except StimcoreError as error:
        st.error(plain(str(error)))
        st.button("Try again", key="ask_again")
        return
    left, right = st.columns([1, 7], gap="large")
    left.image(
        base64.b64decode(found[0][1].png_base64),
        width=96,
        caption=f"{truth}, as the networks see it" if truth else "as the networks see it",
        alt="The image as the networks see it",
    )
    with right:
        answers = [Answers(here, method, answer) for method, answer in found]
        for one in answers:
            st.markdown(one.words)
        every_vote(here, answers)
    if len(specs) < count(here.topology, "ordered"):
        st.caption(f"A sample of {len(specs)} out of {count(here.topology, 'ordered'):,} ordered sub-networks.")


class Answers:
    """What the sub-networks of one method say of the image.

    Args:
        here: The page.
        method: Of the whole network.
        answer: From the server, the full network last.
    """

    def __init__(self, here: Frame, method: MethodInfo, answer: Classification) -> None:
        look, self.names = here.style(method), list(here.experiment.classes)
        self.title = f"{look.glyph} {look.label}"
        self.specs = [here.topology.short(here.topology.parse(r.spec)) for r in answer.results]
        self.best = [max(range(len(self.names)), key=r.probabilities.__getitem__) for r in answer.results]
        self.sure = [r.probabilities[b] for r, b in zip(answer.results, self.best, strict=True)]

    @property
    def words(self) -> str:
        """One sentence."""
        agree = sum(b == self.best[-1] for b in self.best)
        return (
            f"**{self.title}**: the whole network says **{self.names[self.best[-1]]}**; "
            f"**{agree} of {len(self.best)}** sub-networks agree."
        )


def every_vote(here: Frame, answers: Sequence[Answers]) -> None:
    """A row per sub-network, and what it says after each training."""
    st.dataframe(
        [
            {
                "Sub-network": answers[0].specs[row],
                **{a.title: f"{a.names[a.best[row]]}, {100 * a.sure[row]:.0f} %" for a in answers},
            }
            for row in range(len(answers[0].specs))
        ],
        hide_index=True,
        height=320,
        key="votes",
    )
    st.caption("What each sub-network says, and how sure it is. The full network stands last.")


def judges(here: Frame) -> list[str]:
    """Ordered sub-networks from shallow to deep, the full one last; of a large family a seeded sample."""
    import random

    topology = here.topology
    few = count(topology, "ordered") <= ASKED
    chosen = list(ordered(topology)) if few else sample(topology, "ordered", ASKED - 1, random.Random(0))
    chosen = sorted((s for s in chosen if s != topology.full), key=lambda s: len(s.blocks))
    return [str(s) for s in [*chosen, topology.full]]


def page() -> None:
    """Draws the page."""
    here = frame("Use it", LEAD)
    try:
        budget(here)
        judge(here)
    except StimcoreError as error:
        st.error(plain(str(error)))
        st.button("Try again", on_click=sources.forget)
    footer(here)


if __name__ == "__main__":
    page()
