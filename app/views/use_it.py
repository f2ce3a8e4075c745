"""Use it: the best sub-network for a budget, as a file to run elsewhere; and what sub-networks say of one image."""

import base64
from collections.abc import Sequence

import streamlit as st

from app import sources
from app.figures import pareto
from app.frame import Frame, footer, frame, images
from app.own_image import UploadError, checked
from app.show import show
from stimcore.enumerate import count, ordered, sample
from stimcore.errors import StimcoreError
from stimcore.serving.wire import Classification, MethodInfo, NetworkInfo

S = st.session_state
LEAD = (
    "A network that was trained so that its parts work can be cut to size afterwards, without any training. Say what you can "
    "afford; take the best sub-network for it as an ONNX file."
)
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


def budget(here: Frame) -> None:
    """Pareto figure, budget, download."""
    listed = {m.name: sources.networks(here.experiment.name, m) for m in here.methods}
    timed = all(any(n.latency_ms for n in found.networks) for found in listed.values())
    unit = "ms per image" if timed else "million multiply-adds per image"
    groups = [(m, options(here, m, listed[m.name].networks, timed)) for m in here.methods]
    every = [o for _, found in groups for o in found]
    if not every:
        st.info("No network of this experiment is listed for download.")
        return
    low, high = min(o.cost for o in every), max(o.cost for o in every)
    limit = high
    if high > low:
        limit = st.slider(
            f"What you can afford ({unit})",
            low,
            high,
            value=low + 0.4 * (high - low),
            key="budget",
            format="%.2f",
            help="Measured time for one image on the machine named below." if timed else "How much a network has to compute.",
        )
    chosen = pareto.within(every, limit)
    figure = pareto.chart([(here.style(m), found) for m, found in groups], chosen, limit if high > low else None, unit)
    left, right = st.columns([3, 2], gap="large")
    with left:
        show(figure, "pareto", f"Accuracy over {unit}, with the best sub-network for each budget")
        if timed:
            on = next((found.latency_on for found in listed.values() if found.latency_on), {})
            st.caption(f"● {pareto.timing(on)}")
        else:
            st.caption("Cost is counted in multiply-adds: times were not measured for this bundle.")
    with right:
        if chosen is None:
            st.warning("No sub-network is that cheap.")
        else:
            method = next(m for m in here.methods if m.name == chosen.method)
            entry = next(n for n in listed[chosen.method].networks if n.file == chosen.file)
            download(here, method, chosen, entry, unit)


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
                st.button(
                    found.label_name, key=f"take_{found.index}", on_click=lambda i=found.index: S.update(sample=i, upload=None)
                )
    upload = st.file_uploader(
        "Your own image (PNG or JPEG, at most 2 MB; it is not stored)",
        type=["png", "jpg", "jpeg"],
        max_upload_size=2,
        key="own",
    )
    index: int | None = S.get("sample", samples[0].index if samples else None)
    image: bytes | None = None
    if upload is not None:
        try:
            image, index = checked(upload.getvalue()), None
        except UploadError as error:
            st.error(str(error))
            return
    if index is None and image is None:
        return
    truth = next((s.label_name for s in samples if s.index == index), "")
    votes(here, index, image, truth)


def votes(here: Frame, index: int | None, image: bytes | None, truth: str) -> None:
    """Per method: how many sub-networks agree with the whole, and a table of what they say."""
    specs = judges(here)
    found: list[tuple[MethodInfo, Classification]] = []
    try:
        with st.spinner("Asking all sub-networks …"):
            for method in here.methods:
                found.append((method, sources.classify(here.experiment.name, method.name, specs, index=index, image=image)))
    except StimcoreError as error:
        st.error(str(error))
        return
    classes = here.experiment.classes
    columns = st.columns([1, *[3] * len(found)], gap="large")
    columns[0].image(
        base64.b64decode(found[0][1].png_base64),
        width=96,
        caption="as the networks see it",
        alt="The image as the networks see it",
    )
    for column, (method, answer) in zip(columns[1:], found, strict=True):
        best = [max(range(len(classes)), key=lambda i, r=r: r.probabilities[i]) for r in answer.results]  # type: ignore[misc]
        whole = best[-1]
        agree = sum(b == whole for b in best)
        with column:
            st.markdown(
                f"**{here.style(method).glyph} {here.style(method).label}**: the whole network says **{classes[whole]}**"
                + (f" (it is: {truth})" if truth else "")
                + f"; **{agree} of {len(best)}** sub-networks agree."
            )
            st.dataframe(
                [
                    {
                        "Sub-network": here.topology.short(here.topology.parse(r.spec)),
                        "says": classes[b],
                        "how sure": r.probabilities[b],
                    }
                    for r, b in zip(answer.results, best, strict=True)
                ],
                column_config={"how sure": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)},
                hide_index=True,
                height=300,
                key=f"votes_{method.name}",
            )
    if len(specs) < count(here.topology, "ordered"):
        st.caption(
            f"A sample of {len(specs)} out of {count(here.topology, 'ordered'):,} ordered sub-networks, the full one last."
        )


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
        st.error(str(error))
        st.button("Try again", on_click=sources.forget)
    footer(here)


if __name__ == "__main__":
    page()
