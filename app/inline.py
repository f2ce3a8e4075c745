"""Inline components: a folder `NAME` with NAME.css and NAME.js beside its Python, drawn by the browser, no build step."""

from pathlib import Path

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer


def inline(folder: Path, html: str) -> ComponentRenderer:
    """Registers a folder's component; call it once, where the folder is imported.

    Args:
        folder: Its name is the component's.
        html: What the script finds.
    """
    css, js = ((folder / f"{folder.name}.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return st.components.v2.component(f"stimcore_{folder.name}", html=html, css=css, js=js)
