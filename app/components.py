"""The browser components of `stimcore.web`, registered with Streamlit.

Streamlit registers a component once per process, when this module is imported, and mounts it in an open shadow root.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from app import session
from app.access import shared_address
from app.language import speak, words
from stimcore.subnets.topology import Topology
from stimcore.web import diagram as web_diagram
from stimcore.web import lanes as web_lanes
from stimcore.web import wall as web_wall
from stimcore.web.arrangement import Arrangement
from stimcore.web.component import Component
from stimcore.web.words import LANGUAGES, words_of


def _register(name: str) -> ComponentRenderer:
    component = Component.load(name)
    return st.components.v2.component(f"stimcore_{name}", html=component.html, css=component.css, js=component.js)


_diagram, _lanes, _languages, _link, _wall = map(_register, ("diagram", "lanes", "languages", "link", "wall"))

_paper = st.components.v2.component("stimcore_paper", js=Path(__file__).with_name("paper.js").read_text(encoding="utf-8"))


def diagram(topology: Topology, arrangement: Arrangement, *, large: bool, key: str, on_edit: Callable[[], None]) -> None:
    """Draw the clickable picture of a network.

    Args:
        topology: The network.
        arrangement: What to draw.
        large: Draw it for a projector.
        key: Of the component; inside `on_edit`, `app.session.edit(key).text` is what the visitor asks for.
        on_edit: Called after every edit.
    """
    data = web_diagram.payload(topology, str(arrangement), edits=session.edit(key).number, large=large, words=words())
    _diagram(key=key, data=data, on_edit_change=on_edit)


def lanes(rows: Sequence[web_lanes.Lane], *, done: bool, large: bool, key: str) -> None:
    """Draw accuracy lanes.

    Args:
        rows: One per training method.
        done: Whether the numbers are final.
        large: Draw them for a projector.
        key: Of the component.
    """
    _lanes(key=key, data=web_lanes.payload(rows, done=done, large=large, words=words()))


def picture_wall(
    pictures: Sequence[web_wall.WallPicture],
    methods: Sequence[web_wall.WallMethod],
    classes: Sequence[str],
    *,
    tinted: bool,
    key: str,
) -> None:
    """Draw the picture wall.

    Args:
        pictures: The pictures, the same for every method.
        methods: What each method's network says to them.
        classes: Names of the classes.
        tinted: Give the pictures the colour of the method that is right.
        key: Of the component.
    """
    _wall(key=key, data=web_wall.payload(pictures, methods, classes, tinted=tinted, words=words()))


def copy_link(experiment: str, spec: str) -> None:
    """Draw the button that copies the page's address.

    Args:
        experiment: Put into every copied link, so that it opens the same one on a server that lists others first.
        spec: Put into the page's address in place, where that lacks the network that the page shows; usually empty.
    """
    data = {"experiment": experiment, "spec": spec, "address": shared_address(), "words": words().section("link")}
    _link(key="copy_link", data=data)


def fit_to_paper() -> None:
    """Have the browser print figures in the width of the paper; nothing is drawn."""
    _paper(key="paper")


def language_links() -> None:
    """Draw a link to this page in every language; a click changes the language of this visit, which goes on as it is."""
    here, links = words(), []
    for code in LANGUAGES:
        # a name may stand several times in the address: a method each
        query = urlencode({**{key: st.query_params.get_all(key) for key in st.query_params}, "lang": code}, doseq=True)
        name = words_of(code).say("language.name")
        links.append({"code": code, "name": name, "address": f"?{query}", "current": code == here.code})
    data = {"label": here.say("page.language"), "links": links}
    _languages(key="languages", data=data, on_language_change=lambda: speak(session.clicked_language("languages")))
