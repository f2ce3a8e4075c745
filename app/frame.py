"""The frame around every page: its head, the choice of experiment and methods, problems, and where the numbers come from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import streamlit as st

from app import notices, session, watch
from app.components import copy_link, fit_to_paper, language_links
from app.language import keep_language, words
from app.networks import one_per_run
from app.sources import server
from app.story import story
from app.text import as_sentence, plain
from stimcore.analysis.networks import method_position
from stimcore.errors import StimcoreError
from stimcore.figures.style import Style, method_style, variant
from stimcore.serve.types import Catalogue, ExperimentInfo, MethodInfo
from stimcore.subnets.topology import Topology
from stimcore.web.arrangement import Arrangement

MAX_SHOWN_CHARS = 40
"""Characters of an address that a page repeats."""


@dataclass(frozen=True)
class Frame:
    """What a page is about.

    Attributes:
        experiment: The chosen one.
        methods: The chosen main networks, in the order of Table r3.
        twins: Sub-networks of the experiment that were trained alone.
        classroom: Whether the page is projected: large, with answers covered first.
        returned: What Break it shows instead of the story, because the browser's button Back led to it; usually empty.
    """

    experiment: ExperimentInfo
    methods: tuple[MethodInfo, ...]
    twins: tuple[MethodInfo, ...]
    classroom: bool
    returned: str = ""

    @cached_property
    def topology(self) -> Topology:
        """The experiment's main network."""
        return Topology.from_dict(self.experiment.topology)

    @cached_property
    def _runs(self) -> list[MethodInfo]:
        # Kept: a poll asks for styles and labels about ten times, and comparing all bundles was a fifth of its cost.
        return one_per_run(self.experiment)

    def style(self, method: MethodInfo) -> Style:
        """Return how a method is drawn, the same on every page; several bundles of one method differ in their symbols."""
        alike = [m.name for m in self._runs if m.method == method.method and m.spec is None]
        style = method_style(method.method, method.name)
        return variant(style, alike.index(method.name)) if len(alike) > 1 and method.name in alike else style

    def label(self, method: MethodInfo) -> str:
        """Return a method's name for a reader."""
        return words().term(self.style(method).label)

    def title(self, method: MethodInfo) -> str:
        """Return a method's symbol and name, as the first cell of a table's row."""
        return f"{self.style(method).glyph} {self.label(method)}"


def frame(
    title: str,
    lead: str = "",
    *,
    several: bool = True,
    extra: Callable[[ExperimentInfo], None] | None = None,
    in_class: Callable[[], None] | None = None,
) -> Frame:
    """Draw the head of a page and return what the page is about.

    Where there is nothing to show, the page ends here with a sentence on what to do.

    Args:
        title: Heading.
        lead: One or two sentences under it, as Markdown.
        several: Whether the page can show more than one method.
        extra: Draws more controls into the head, except in class view.
        in_class: Draws more controls into the head of class view.
    """
    keep_language()
    say, classroom = words().say, is_classroom()
    st.html(f"<style>{_STYLE}{_LARGE if classroom else ''}{_DARK if st.context.theme.type == 'dark' else ''}</style>")
    head = st.container(horizontal=True, vertical_alignment="center", key="head", gap="small")
    with head:
        st.title(title, anchor=False, width="content")
    if lead and not classroom:
        st.markdown(lead)
    catalogue = _catalogue()
    # Read before the widgets are drawn: a widget removes from the address what it does not offer.
    asked_experiment, asked_methods = st.query_params.get("experiment", ""), st.query_params.get_all("methods")
    with head, st.container(horizontal=True, vertical_alignment="center", width="content", key="choices", gap="small"):
        experiment = _experiment(catalogue)
        runs = one_per_run(experiment)
        main_networks = tuple(m for m in runs if m.spec is None)
        methods = _methods(main_networks) if several and len(main_networks) > 2 else main_networks
    returned = session.returned_spec(experiment.name)
    with head, st.container(horizontal=True, vertical_alignment="center", width="content", key="head_controls", gap="small"):
        if extra and not classroom:
            with st.container(width="content", key="more"):
                extra(experiment)
        if in_class and classroom:
            in_class()
        _view_button(classroom)
        with st.container(width="content", key="link"):
            copy_link(experiment.name, returned)
    if asked_experiment not in ("", *(e.name for e in catalogue.experiments)):
        notices.tell("address", say("page.no_experiment", name=plain(experiment.name)))
    elif len(main_networks) > 2 and set(asked_methods) - {"", *(method_style(m.method, m.name).label for m in main_networks)}:
        notices.tell("address", say("page.no_method"))
    for sentence in notices.told("address", (experiment.name, *(m.name for m in methods))):
        st.warning(sentence)
    _problems(catalogue)
    if not methods:
        st.info(say("page.none_chosen"))
        st.stop()
    return Frame(experiment, methods, tuple(m for m in runs if m.spec is not None), classroom, returned)


def warn_of_unknown(key: str, known: Callable[[str], bool]) -> None:
    """Say that the address asks for what a page does not have, until the visitor chooses.

    What the visitor has chosen before, and what another experiment, method or unit does not have, is forgotten without a word.
    Called before the field is drawn, which removes from the address what it does not offer.

    Args:
        key: Of the field and of the parameter.
        known: Whether the field can show a value.
    """
    asked, chosen = st.query_params.get(key, ""), session.value(key)
    if asked and not known(asked):
        if asked not in (str(chosen), f"{chosen:g}" if isinstance(chosen, float) else ""):
            tell_unknown(key, asked)
        asked = ""
    if chosen is not None and not known(str(chosen)):
        session.forget(key)
    for sentence in notices.told(key, (session.chosen_experiment(), asked)):
        st.warning(sentence)


def tell_unknown(key: str, asked: str) -> None:
    """Have the place of a parameter say that the address asks for a value which isn't here."""
    notices.tell(key, words().say("page.no_value", value=plain(asked[:MAX_SHOWN_CHARS])))


def footer(here: Frame) -> None:
    """Draw where the page's numbers come from: network, images, how it was trained, and what runs networks here."""
    experiment = here.experiment
    labels, texts = sorted({m.label for m in here.methods}), words()
    note = server.provider_note()
    device = " " + texts.say("page.source_device", note=plain(note.rstrip("."))) if note else ""
    source = texts.say(
        "page.source",
        network=plain(here.topology.network),
        dataset=plain(experiment.dataset),
        classes=len(experiment.classes),
        images=texts.images(experiment.evaluation_images),
        training=plain(", ".join(labels)),
    )
    st.caption(source + device)
    language_links()
    fit_to_paper()


def open_in_break_it(topology: Topology, arrangement: Arrangement) -> None:
    """Draw the button that opens an arrangement on the page Break it."""
    if st.button("Open in Break it", key="open"):
        session.write_spec(topology, str(arrangement))
        st.switch_page("views/break_it.py", query_params={"spec": str(arrangement)})


# --- teacher view ---


def is_classroom() -> bool:
    """Return whether the visitor asked for the teacher view, by `?view=class`; the choice holds from page to page."""
    view, asked = session.memory(session.View), st.query_params.get("view")
    if asked is not None:
        view.name = asked
    classroom = view.name == "class"
    if classroom and asked is None:
        st.query_params["view"] = "class"
    return classroom


def _choose_view(name: str) -> None:
    session.memory(session.View).name = name
    if name:
        st.query_params["view"] = name
    else:
        st.query_params.pop("view", None)


def _view_button(classroom: bool) -> None:
    if classroom:
        st.button(words().say("page.leave_teacher_view"), key="view_button", on_click=_choose_view, args=("",))
    else:
        st.button(
            words().say("page.teacher_view"),
            key="view_button",
            on_click=_choose_view,
            args=("class",),
            help=words().say("page.teacher_view_help"),
        )


_STYLE = (Path(__file__).with_name("style.css")).read_text(encoding="utf-8")
_DARK = """.stMain button[kind^="primary"] p, .stMain button[kind^="primary"] span { color: #101010; }"""
_LARGE = """
.stMain :is(p, li) { font-size: 1.3rem; } .stMain h1 { font-size: 1.9rem; } .stMain button p { font-size: 1.15rem; }
.st-key-sentence .stMarkdown p { font-size: 1.7rem; } .st-key-sentence .stMarkdown p + p { font-size: 1.2rem; }
@media (max-width: 759px) { .stMain :is(p, li), .st-key-sentence .stMarkdown p { font-size: 1.15rem; } }
"""


# --- experiment and methods ---


def _catalogue() -> Catalogue:
    try:
        catalogue = server.catalogue()
    except StimcoreError as error:
        st.error(as_sentence(error), title="The model server can't be reached" if error.code == "unavailable" else None)
        st.button("Try again", type="primary", on_click=watch.reload)
        st.stop()
    if not catalogue.experiments:
        _problems(catalogue)
        st.info(server.empty_folder_help())
        st.button("Look again", type="primary", on_click=watch.reload)
        st.stop()
    return catalogue


def _experiment(catalogue: Catalogue) -> ExperimentInfo:
    by_name = {e.name: e for e in catalogue.experiments}
    first = max(catalogue.experiments, key=_instructive).name
    if len(by_name) == 1:
        return by_name[first]
    name = st.selectbox(
        words().say("page.experiment"),
        list(by_name),
        index=list(by_name).index(first),
        key="experiment",
        bind="query-params",
        on_change=_open_story,
        args=(by_name,),
        label_visibility="collapsed",
        width=260,
        help=words().say("page.experiment_help"),
    )
    return by_name[name or first]


def _open_story(by_name: Mapping[str, ExperimentInfo]) -> None:
    """Let Break it open on the story of the experiment that was just chosen, whose network has other blocks."""
    chosen = by_name.get(session.chosen_experiment())
    session.forget_spec(story(chosen, Topology.from_dict(chosen.topology)) if chosen else "")


def _instructive(experiment: ExperimentInfo) -> tuple[bool, bool, int]:
    """Return a key that sorts experiments by how well they show loafing; the page opens on the largest.

    Best is one with both common and stimulative training, blocks that can be deleted, and many listed sub-networks.
    """
    main_networks = {m.method for m in experiment.methods if m.spec is None}
    num_listing = sum(m.num_networks > 1 for m in experiment.methods)
    return {"common", "stimulative"} <= main_networks, not experiment.topology["ordered_only"], num_listing


def _methods(main_networks: Sequence[MethodInfo]) -> tuple[MethodInfo, ...]:
    by_name = {m.name: m for m in main_networks}
    names = list(by_name)
    with st.popover(words().say("page.methods"), key="methods_popover"):
        chosen = st.pills(
            words().say("page.training_methods"),
            names,
            default=names[:2],
            selection_mode="multi",
            key="methods",
            bind="query-params",
            format_func=lambda name: plain(method_style(by_name[name].method, name).label),
            wrap=True,
            help=words().say("page.methods_help"),
        )
    selected = [by_name[name] for name in names if name in (chosen or [])]
    return tuple(sorted(selected, key=lambda method: method_position(method.method)))


def _problems(catalogue: Catalogue) -> None:
    for problem in catalogue.problems:
        st.warning(plain(f"{problem.path} could not be opened: {problem.message}"))
