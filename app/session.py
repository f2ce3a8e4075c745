"""What one visitor's browser tab remembers, as typed values; and the one writer of the spec.

Streamlit keeps one untyped mapping per tab, `st.session_state`. Two kinds of values live in it. The values of widgets have the
keys of these widgets, which belong to the page: links, style sheets and tests use them. Everything else is grouped into small
objects, one per class, that `memory` returns. No other module reads or writes `st.session_state`.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from stimcore.subnets.topology import Topology
from stimcore.web import arrangement

Group = TypeVar("Group")
Value = TypeVar("Value")

SPEC = "spec"
"""Key of the architecture code: a text field that is bound to the address."""


@dataclass
class EditHistory:
    """Edits of the network on Break it.

    Attributes:
        undo: Texts of earlier arrangements, the latest last.
        refusal: Why the last edit was refused, until the page has taken it.
    """

    undo: list[str] = field(default_factory=list)
    refusal: str = ""


@dataclass
class Written:
    """What the page itself put into widgets.

    Attributes:
        values: Key of the widget -> value that counts.
        unseen: Keys of widgets that were not drawn since: the browser can't know their values yet.
    """

    values: dict[str, Any] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)


@dataclass
class Visit:
    """Where the visitor is, for the browser's buttons Back and Forward.

    Attributes:
        page: The page that ran last.
        spec_page: The page with the code of the network.
        experiment: The experiment whose network that page showed last.
        returned: What that page shows while its address has no spec, because Back or Forward led to it again; else empty.
    """

    page: str = ""
    spec_page: str = ""
    experiment: str = ""
    returned: str = ""


@dataclass
class LessonProgress:
    """Progress in the lesson.

    Attributes:
        step: Number of the open step, counted from 1; 0 while the lesson is closed.
    """

    step: int = 0


@dataclass
class Guesses:
    """What the visitor expected of one arrangement.

    Attributes:
        revealed: Text of the arrangement whose answers were revealed.
        percentages: Method -> guess in [0, 100]; only of sliders that were moved.
        moved: Key of a slider -> what it reported last, since answers were revealed last.
    """

    revealed: str = ""
    percentages: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int | None] = field(default_factory=dict)


@dataclass
class View:
    """How the pages are shown.

    Attributes:
        name: The value of `?view=` in the address: `class` for the teacher view.
    """

    name: str = ""


@dataclass
class Language:
    """In which language the pages are shown.

    Attributes:
        asked: The value of `?lang=` in the address; empty where the browser's language counts.
    """

    asked: str = ""


@dataclass
class FamilyRequests:
    """Families of sub-networks that the visitor asked to measure here.

    Attributes:
        keys: Family and fingerprint of the bundle.
    """

    keys: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class RunList:
    """Run folders that were in progress when the page Train last ran.

    Attributes:
        active: Their names; None before the first run of the page.
    """

    active: tuple[str, ...] | None = None


@dataclass
class Trainer:
    """What the visitor did on the page Train.

    Attributes:
        token: The admin token that was typed; empty before that.
        leave: Whether the visitor wants to open a finished run, so that the page that is drawn next leads to Break it.
    """

    token: str = ""
    leave: bool = False


@dataclass
class Picture:
    """The picture that sub-networks classify on Use it.

    Attributes:
        sample: Index of the evaluation image that was chosen last; None before the first choice.
        ignored_upload: Id of the uploaded file that a later choice of a sample has replaced; empty without one.
    """

    sample: int | None = None
    ignored_upload: str = ""


def memory_key(group: type[Group]) -> str:
    """Return the key of a group in `st.session_state`."""
    return f"memory {group.__name__}"


def memory(group: type[Group]) -> Group:
    """Return the visitor's object of a group; on first use it is made with its defaults."""
    key = memory_key(group)
    if key not in st.session_state:
        st.session_state[key] = group()
    return cast(Group, st.session_state[key])


# --- widgets that both the visitor and the page write ---


def write(key: str, value: Any) -> None:
    """Put a value into a widget, before it is drawn.

    Args:
        key: Key of the widget, whose `on_change` is `reported(key)` and whose value goes through `shown(key, value)`.
        value: In the widget's own type.
    """
    written = memory(Written)
    st.session_state[key] = written.values[key] = value
    if key == SPEC:
        memory(Visit).returned = ""
    # a poll may bring an edit of the picture before the message that the edit is worth: the widget is drawn after that one
    if _in_fragment():
        written.unseen.add(key)


def _in_fragment() -> bool:
    """Return whether only a fragment of the page runs, or is about to run."""
    context = get_script_run_ctx()
    return context is not None and bool(context.fragment_ids_this_run)


def shown(key: str, value: Value) -> Value:
    """Remember and return the value of a widget that was just drawn: from now on it counts."""
    written = memory(Written)
    written.values[key] = value
    written.unseen.discard(key)
    return value


def reported(key: str) -> Callable[[], None]:
    """Return what a widget calls when the browser reports another value of it than the page has.

    With every message the browser reports the values of all widgets, as far as it knows them. A poll of a fragment that it sent
    before it heard of a newer value reports the older one, and must not bring that back. Neither must the next message for the
    whole page, where the newer value was written while a fragment ran. A message may also report the widget together with
    another one whose change makes the page forget it; then there is no value, and none is remembered.

    Args:
        key: Key of the widget.
    """

    def take() -> None:
        values, unseen = memory(Written).values, memory(Written).unseen
        if key in values and (key in unseen or _in_fragment()):
            st.session_state[key] = values[key]
        elif key in st.session_state:
            before, values[key] = values.get(key), st.session_state[key]
            if key == SPEC:
                memory(Visit).returned = ""
                if before and before != values[key]:
                    memory(EditHistory).undo.append(before)

    return take


def value(key: str) -> Any:
    """Return the value of the widget with this key; None before it was drawn, and where nothing is chosen.

    That of a figure is what is selected in it, in the form of `st.plotly_chart`.
    """
    return st.session_state.get(key)


def forget(key: str) -> None:
    """Forget the value of a widget, before it is drawn: it shows what it shows at first.

    Args:
        key: Key of the widget, and of its parameter in the address.
    """
    written = memory(Written)
    written.values.pop(key, None)
    written.unseen.discard(key)
    st.session_state.pop(key, None)
    if key in st.query_params:
        # while the widget is on the page, Streamlit refuses this
        with contextlib.suppress(StreamlitAPIException):
            del st.query_params[key]


# --- the spec ---


def write_spec(topology: Topology, text: str) -> None:
    """Make a text the arrangement of Break it, unless the network has no such arrangement.

    The only writer of the spec: every edit (picture, buttons, lesson, links of other pages) passes here, so that each is
    checked against the network and can be undone. A refused edit leaves its reason in `EditHistory.refusal`.

    Args:
        topology: The network.
        text: Any form of the spec grammar; not trusted.
    """
    history = memory(EditHistory)
    before = st.session_state.get(SPEC) or str(arrangement.full(topology))
    wanted, history.refusal = arrangement.read_or_full(topology, text)
    if not history.refusal and str(wanted) != before:
        history.undo.append(before)
        write(SPEC, str(wanted))


def undo_spec(topology: Topology) -> None:
    """Take the last edit back; texts that were typed by hand and that the network does not have are passed over."""
    history = memory(EditHistory)
    while history.undo:
        text = history.undo.pop()
        if not arrangement.read_or_full(topology, text)[1]:
            write(SPEC, text)
            return


def forget_spec(opening: str = "") -> None:
    """Forget the spec and its history: another experiment was chosen, whose network has other blocks.

    Args:
        opening: What the field with the code shows from now on. Without it the field would take the spec from the address
            again: as long as it is on the page, the parameter belongs to it, and nobody else may delete it.
    """
    memory(EditHistory).undo.clear()
    memory(Visit).experiment = ""
    if opening:
        write(SPEC, opening)
        return
    memory(Visit).returned = ""
    forget(SPEC)


def returned_spec(experiment: str) -> str:
    """Return what the network was when the visitor left Break it, where Back or Forward leads there again; else nothing.

    When a visitor turns to another page, Streamlit first takes the spec out of the address of the one that is left, as another
    entry of the browser's history. Back leads to that entry, whose bare address would open the story. A bare address that was
    there before an edit on the same page does open the story. Called once in every run of a page.

    Args:
        experiment: Name of the experiment that the page shows.
    """
    context, visit = get_script_run_ctx(), memory(Visit)
    if context is None:
        return ""
    before, visit.page = visit.page, context.page_script_hash
    if visit.page != visit.spec_page:
        return ""
    if context.is_history_navigation:
        again = before != visit.page and experiment == visit.experiment and SPEC not in st.query_params
        visit.returned = memory(Written).values.get(SPEC, "") if again else ""
    return visit.returned


def remember_place(experiment: str) -> None:
    """Remember that this page has the field with the code, and whose network is in it."""
    visit = memory(Visit)
    visit.spec_page, visit.experiment = visit.page, experiment


def take_refusal() -> str:
    """Return why the last edit was refused and forget it; empty where it was not."""
    history = memory(EditHistory)
    refusal, history.refusal = history.refusal, ""
    return refusal


# --- values of other widgets ---


@dataclass(frozen=True)
class Edit:
    """An edit in the picture of a network.

    Attributes:
        number: Its number, counted by the picture; 0 before the first one.
        text: The arrangement that the visitor asks for; not trusted.
    """

    number: int = 0
    text: str = ""


def edit(key: str) -> Edit:
    """Return the last edit in the picture with this key."""
    sent = getattr(st.session_state.get(key), "edit", None)
    return Edit(int(sent["number"]), str(sent["text"])) if sent else Edit()


def clicked_language(key: str) -> str:
    """Return the code of the language whose link was just clicked, in the component with this key."""
    return str(getattr(st.session_state.get(key), "language", None) or "")


def guess_key(method: str, arrangement: str) -> str:
    """Return the key of a method's slider for an arrangement; each arrangement has sliders of its own."""
    return f"guess {method} {arrangement}"


def guess(method: str, arrangement: str) -> int | None:
    """Return the position of a method's slider for an arrangement in [0, 100]; None before it was drawn."""
    return cast(int | None, st.session_state.get(guess_key(method, arrangement)))


def guesses_first() -> bool:
    """Whether the visitor wants every answer covered until there is a guess."""
    return bool(st.session_state.get("guess_first"))


def upload() -> UploadedFile | None:
    """Return the picture that the visitor has uploaded."""
    return cast(UploadedFile | None, st.session_state.get("own"))


def chosen_experiment() -> str:
    """Return the name of the experiment that is chosen at the head of the page; empty before the first choice."""
    return str(st.session_state.get("experiment") or "")


def choose_experiment(name: str) -> None:
    """Choose the experiment of all pages; its network has other blocks, so that the spec is forgotten."""
    if st.session_state.get("experiment") != name:
        forget_spec()
    st.session_state["experiment"] = name


def choose_subnet(short: str) -> None:
    """Choose a sub-network in the list of the page Sub-networks."""
    write("subnet", short)


def choose_block(block: int) -> None:
    """Choose a block in the list of the page Damage."""
    write("block", str(block))


def add_new_runs(active: Sequence[str]) -> None:
    """Add runs that have begun since the page last ran to those that the page Train shows.

    Args:
        active: Names of the runs in progress.
    """
    runs = memory(RunList)
    begun = [] if runs.active is None else [name for name in active if name not in runs.active]
    runs.active = tuple(active)
    if begun and "runs" in st.session_state:
        st.session_state["runs"] = list(dict.fromkeys([*st.session_state["runs"], *begun]))
