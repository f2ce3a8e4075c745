"""The best sub-network for a budget: accuracy over cost, a slider, and the chosen network as a file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from app.chart import chart
from app.frame import Frame, warn_of_unknown
from app.sources import bundles
from app.text import code, images, plain, three_digits
from stimcore.analysis.comparisons import Option, best_within
from stimcore.data.preprocessing import Preprocessing
from stimcore.data.program import classify_program
from stimcore.figures.pareto import describe_timing, pareto_figure
from stimcore.serve.types import MethodInfo, NetworkInfo, Networks

TIME, WORK = "measured time", "multiply-adds"


@dataclass(frozen=True)
class Offer:
    """The networks that can be downloaded, with their costs in one unit.

    Attributes:
        listed: Method -> its listed files.
        groups: Per method the networks as points of the figure.
        unit: Of the costs, in words.
        timed: Whether costs are measured times; otherwise they are multiply-adds.
        has_times: Whether times were measured at all.
    """

    listed: Mapping[str, Networks]
    groups: Sequence[tuple[MethodInfo, Sequence[Option]]]
    unit: str
    timed: bool
    has_times: bool

    @property
    def options(self) -> list[Option]:
        """The networks of all methods."""
        return [option for _, options in self.groups for option in options]

    def entry(self, option: Option) -> tuple[MethodInfo, NetworkInfo]:
        """Return the method and the listed file of a network."""
        method = next(m for m, _ in self.groups if m.name == option.method)
        return method, next(n for n in self.listed[option.method].networks if n.file == option.file)


def budget(here: Frame) -> None:
    """Draw accuracy over cost, the slider, and the best network within the budget."""
    offer = _offer(here)
    if not offer.options:
        st.info("No network of this experiment is listed for download.")
        return
    if len(offer.options) == len(offer.groups):
        _full_networks_only(here, offer)
        return
    costs = [option.cost for option in offer.options]
    low, high = math.ceil(100 * min(costs)) / 100, math.ceil(100 * max(costs)) / 100  # at its left end something is offered
    limit = _slider(offer, low, high) if high > low else None
    best = best_within(offer.options, high if limit is None else limit)
    left, right = st.columns([3, 2], gap="large")
    with left:
        figure = pareto_figure([(here.style(m), options) for m, options in offer.groups], best, limit, offer.unit)
        chart(figure, "pareto", f"Accuracy over {offer.unit}, with the best sub-network for each budget")
        st.caption("Faint: every sub-network. Lines: the best for what it costs.")
        if offer.timed:
            measured_on = next((n.latency_on for n in offer.listed.values() if n.latency_on), {})
            st.caption(f"● {plain(describe_timing(measured_on))}")
        elif not offer.has_times:
            st.caption("Cost is counted in multiply-adds: times were not measured for this bundle.")
    with right:
        if best is None:
            st.warning("No sub-network is that cheap.")
        else:
            _download(here, offer, best)


def _offer(here: Frame) -> Offer:
    listed = {m.name: bundles.networks(here.experiment.name, m) for m in here.methods}
    has_times = all(any(n.latency_ms for n in networks.networks) for networks in listed.values())
    timed = has_times and _cost_choice() == TIME
    groups = [(m, _options(here, m, listed[m.name].networks, timed)) for m in here.methods]
    unit = "ms per image" if timed else "million multiply-adds per image"
    return Offer(listed, groups, unit, timed, has_times)


def _options(here: Frame, method: MethodInfo, networks: Sequence[NetworkInfo], timed: bool) -> list[Option]:
    options = []
    for network in networks:
        cost = network.latency_ms.get("batch1_p50") if timed else network.macs / 1e6
        if cost is not None:
            name = here.topology.short(here.topology.parse(network.spec))
            options.append(
                Option(name, network.accuracy_pct, float(cost), method=method.name, file=network.file, spec=network.spec)
            )
    return options


def _cost_choice() -> str:
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


def _slider(offer: Offer, low: float, high: float) -> float:
    warn_of_unknown("budget", lambda text: _is_between(text, low, high))
    return st.slider(
        f"What you can afford ({offer.unit})",
        low,
        high,
        value=round(low + 0.4 * (high - low), 2),
        key="budget",
        bind="query-params",
        format="%.2f",
        help="Measured time for one image on the machine named below." if offer.timed else "How much a network has to compute.",
    )


def _is_between(text: str, low: float, high: float) -> bool:
    """Return whether a text is a number from `low` to `high`."""
    try:
        return low <= float(text) <= high
    except ValueError:
        return False


def _full_networks_only(here: Frame, offer: Offer) -> None:
    """Draw the best full network where no sub-network is listed, and how to list more."""
    _download(here, offer, max(offer.options, key=lambda option: option.accuracy_pct))
    st.info(
        "No sub-network is listed in this experiment, only whole networks. "
        + code(f"python -m stimcore.export RUN_DIR --out exported/{here.experiment.name} --subnets ordered")
        + " lists all of them."
    )


def check_in_words(entry: NetworkInfo, evaluation_images: int) -> str:
    """Return how a file was compared with PyTorch: on all evaluation images, or on a sample of them."""
    agreement = (
        f"both choose the same class for {100 * entry.agreement:.2f} % of them. The outputs differ by at most "
        f"{entry.parity:.1e} of the largest output."
    )
    if entry.correct_torch is None:
        return (
            f"Sampled: compared with PyTorch on {entry.checked_images:,} of {images(evaluation_images)}; {agreement} "
            f"{entry.correct:,} of all are right in onnxruntime."
        )
    return (
        f"Checked against PyTorch on {images(evaluation_images)}: {entry.correct:,} right in onnxruntime, "
        f"{entry.correct_torch:,} in PyTorch; {agreement}"
    )


def _download(here: Frame, offer: Offer, option: Option) -> None:
    """Draw the chosen network: what it is, its file, how the file was checked, and code that runs it."""
    method, entry = offer.entry(option)
    st.subheader(plain(f"{option.name}, {here.label(method)}"), anchor=False)
    st.markdown(
        f"**{option.accuracy_pct:.1f} %** right at **{three_digits(option.cost)} {offer.unit}**; "
        f"{entry.parameters:,} parameters. The full network: {method.main.accuracy_pct:.1f} %."
    )
    file_name = f"{here.experiment.name}-{method.name}-{option.name}.onnx"
    st.download_button(
        "Download ONNX",
        data=bundles.onnx(here.experiment.name, method.name, option.spec),
        file_name=file_name,
        mime="application/onnx",
        on_click="ignore",
        key="download",
        type="primary",
        icon=":material/download:",
    )
    st.markdown(check_in_words(entry, here.experiment.evaluation_images))
    with st.expander("Code to run it"):
        st.markdown("Save it as `classify.py`, next to the file. It needs `pip install pillow numpy onnxruntime`.")
        steps = Preprocessing.from_dict(here.experiment.preprocessing)
        st.code(classify_program(steps, here.experiment.classes, file_name), language="python")
