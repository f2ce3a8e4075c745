"""The language of a visitor: the one in the address (`?lang=de`), which holds from page to page, else the browser's."""

import streamlit as st

from app import session
from stimcore.web.words import Words, choose, words_of


def words() -> Words:
    """Return the texts of the visitor's language."""
    asked = st.query_params.get("lang")
    if asked is not None:
        session.memory(session.Language).asked = asked
    return words_of(choose(session.memory(session.Language).asked, st.context.locale))


def keep_language() -> None:
    """Put the language that the visitor asked for into the address again, which another page has cleared."""
    asked = session.memory(session.Language).asked
    if asked and "lang" not in st.query_params:
        st.query_params["lang"] = asked


def speak(code: str) -> None:
    """Show the pages in a language from now on; the address has it too."""
    session.memory(session.Language).asked = code
    st.query_params["lang"] = code
