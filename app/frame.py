"""The frame around every page: which experiment, which methods, what stands in the way, and words for provenance."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from app import sources
from app.link import copy_link
from stimcore.errors import StimcoreError
from stimcore.figures.style import Style, style, variant
from stimcore.serve.types import Catalogue, ExperimentInfo, MethodInfo
from stimcore.subnets.topology import Topology


@dataclass(frozen=True)
class Frame:
    """What a page is about.

    Attributes:
        experiment: The chosen one.
        methods: The chosen whole networks, in the order of the catalogue.
        twins: Sub-networks that were trained alone.
        classroom: Whether this is projected: large, and answers covered first.
    """

    experiment: ExperimentInfo
    methods: tuple[MethodInfo, ...]
    twins: tuple[MethodInfo, ...]
    classroom: bool

    @property
    def topology(self) -> Topology:
        """Of the main network."""
        return Topology.from_dict(self.experiment.topology)

    def style(self, method: MethodInfo) -> Style:
        """How a method looks on every page."""
        alike = [m.name for m in self.experiment.methods if m.method == method.method and m.spec is None]
        return variant(style(method), alike.index(method.name)) if len(alike) > 1 and method.name in alike else style(method)


def is_classroom() -> bool:
    """Whether the visitor asked for `?view=class`; kept from page to page."""
    asked = st.query_params.get("view")
    if asked is not None:
        st.session_state["view"] = asked
    classroom = st.session_state.get("view") == "class"
    if classroom and asked is None:
        st.query_params["view"] = "class"
    return classroom


def _turn(view: str) -> None:
    st.session_state["view"] = view
    if view:
        st.query_params["view"] = view
    else:
        st.query_params.pop("view", None)


def frame(title: str, lead: str, *, several: bool = True, beside: Callable[[ExperimentInfo], None] | None = None) -> Frame:
    """Draws the head of a page and returns what it is about; stops the page with a sentence where there is nothing to show.

    Args:
        title: Heading.
        lead: One or two sentences under it.
        several: Whether the page can show more than one method.
        beside: Draws more controls into the head.
    """
    classroom = is_classroom()
    st.html(_QUIET + (_LARGE if classroom else "") + (_DARK if st.context.theme.type == "dark" else ""))
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key="head"):
        st.title(title, anchor=False, width="content")
        with st.container(horizontal=True, vertical_alignment="center", width="content", key="head_controls"):
            more = st.container(width="content", key="more")
            _view(classroom)
            link = st.container(width="content", key="link")
    if not classroom:
        st.markdown(lead)
    catalogue = _catalogue()
    asked = st.query_params.get("experiment", ""), st.query_params.get_all("methods")
    with st.container(horizontal=True, vertical_alignment="bottom", key="choices", gap="small"):
        experiment = _experiment(catalogue)
        whole = tuple(m for m in experiment.methods if m.spec is None)
        methods = _methods(whole) if several and len(whole) > 2 else whole
    if beside and not classroom:
        with more:
            beside(experiment)
    with link:
        copy_link(experiment.name)
    if asked[0] not in ("", *(e.name for e in catalogue.experiments)):
        st.warning(f"This address asks for an experiment that isn't here. Showing {plain(experiment.name)}.")
    elif len(whole) > 2 and set(asked[1]) - {"", *(style(m).label for m in whole)}:
        st.warning("This address asks for a training method that isn't here.")
    _problems(catalogue)
    if not methods:
        st.info("No training method is chosen. Choose at least one above.")
        st.stop()
    return Frame(experiment, methods, tuple(m for m in experiment.methods if m.spec is not None), classroom)


def _view(classroom: bool) -> None:
    if classroom:
        st.button("Leave teacher view", key="view_button", on_click=_turn, args=("",))
    else:
        st.button(
            "Teacher view",
            key="view_button",
            on_click=_turn,
            args=("class",),
            help=(
                "For a projector: large type, only the network and its answers, and answers stay covered until you reveal them."
            ),
        )


_QUIET = """<style>
.stMain .block-container { padding-top: 4rem; padding-bottom: 3rem; max-width: 80rem; }
@media (min-width: 760px) { .stMain .block-container { padding-left: 2rem; padding-right: 2rem; } }
.js-plotly-plot :is(text[class$="title"], g[class$="tick"] text) { fill: currentColor !important; }
.stMain [class*="st-key-csv_"] { margin-top: -1.6rem; }
.stMain [class*="st-key-sample_"] .stElementToolbar { display: none; }
.stMain :is(.stButton, .stDownloadButton, .stLinkButton, .stButtonGroup) button { min-height: 44px; }
.stMain h1 { padding: 0; }
</style>"""
_DARK = """<style>.stMain button[kind^="primary"] p, .stMain button[kind^="primary"] span { color: #101010; }</style>"""
_LARGE = """<style>
.stMain :is(p, li) { font-size: 1.3rem; } .stMain h1 { font-size: 2.4rem; } .stMain button p { font-size: 1.15rem; }
</style>"""


def _catalogue() -> Catalogue:
    try:
        catalogue = sources.catalogue()
    except StimcoreError as error:
        st.error(plain(str(error)), title="The model server can't be reached" if error.code == "unavailable" else None)
        st.button("Try again", type="primary", on_click=sources.forget)
        st.stop()
    if not catalogue.experiments:
        _problems(catalogue)
        st.info(sources.nothing_here())
        st.button("Look again", type="primary", on_click=sources.forget)
        st.stop()
    return catalogue


def _experiment(catalogue: Catalogue) -> ExperimentInfo:
    by_name = {e.name: e for e in catalogue.experiments}
    first = max(catalogue.experiments, key=_tells).name
    if len(by_name) == 1:
        return by_name[first]
    name = st.selectbox(
        "Experiment",
        list(by_name),
        index=list(by_name).index(first),
        key="experiment",
        bind="query-params",
        on_change=_forget_spec,
        width=340,
        help="One network and data set, trained in several ways.",
    )
    return by_name[name or first]


def _tells(experiment: ExperimentInfo) -> tuple[bool, bool, int]:
    """How well an experiment shows what this is about: the one that does best is opened first."""
    whole = {m.method for m in experiment.methods if m.spec is None}
    rich = sum(m.num_networks > 1 for m in experiment.methods)
    return {"common", "stimulative"} <= whole, not experiment.topology["ordered_only"], rich


def _forget_spec() -> None:
    st.session_state.pop("spec", None)
    if "spec" in st.query_params:
        del st.query_params["spec"]


def _methods(whole: Sequence[MethodInfo]) -> tuple[MethodInfo, ...]:
    by_name = {m.name: m for m in whole}
    names = list(by_name)
    chosen = st.pills(
        "Training methods",
        names,
        default=names[:2],
        selection_mode="multi",
        key="methods",
        bind="query-params",
        format_func=lambda name: style(by_name[name]).label,
        wrap=True,
        help="Every method trained the same network on the same images.",
    )
    return tuple(by_name[n] for n in names if n in (chosen or []))


def _problems(catalogue: Catalogue) -> None:
    for problem in catalogue.problems:
        st.warning(plain(f"{problem.path} could not be opened: {problem.message}"))


def plain(text: str) -> str:
    """Text that came from outside, so that it is shown as it is: no links, pictures or formulas."""
    return re.sub(r"([\\`*_\[\]<>$:~#|])", r"\\\1", text)


def images(count: int) -> str:
    """`10,000 images`."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def footer(frame: Frame) -> None:
    """What is shown, how it was trained, and on what networks run here: once, in plain words."""
    experiment = frame.experiment
    labels = sorted({m.label for m in frame.methods})
    note = sources.status_note()
    device = f" Networks run on this machine's processor: {note.rstrip('.')}." if note else ""
    st.caption(
        f"{frame.topology.network} on {experiment.dataset}, {len(experiment.classes)} classes. Accuracies are measured on "
        f"{images(experiment.evaluation_images)} that were not used in training. Label of the training: "
        f"{', '.join(labels)}.{device}"
    )
