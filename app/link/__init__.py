"""The button that copies the address of what is on the screen; an inline component, because only the browser may."""

from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent
_HTML = """<button type="button">Copy link</button>
<label hidden>Copy this link: <input readonly aria-label="Link to this view"></label>
<span class="heard" aria-live="polite"></span>
"""
_component = st.components.v2.component(
    "stimcore_link",
    html=_HTML,
    css=(_HERE / "link.css").read_text(encoding="utf-8"),
    js=(_HERE / "link.js").read_text(encoding="utf-8"),
)


def copy_link(experiment: str) -> None:
    """Draws the button.

    Args:
        experiment: Stands in every copied link, so that it means the same where the list of experiments begins with another.
    """
    _component(key="copy_link", data={"experiment": experiment})
