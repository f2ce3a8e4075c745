"""The language of a visitor: the one in the address (`?lang=de`), which holds from page to page, else the browser's."""

import html
from urllib.parse import urlencode

import streamlit as st

from app import session
from stimcore.web.words import LANGUAGES, Words, choose, words_of


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


def language_links() -> None:
    """Draw a link to this page in every language."""
    here, links = words(), []
    for code in LANGUAGES:
        name = words_of(code).say("language.name")
        # a name may stand several times in the address: a method each
        query = urlencode({**{key: st.query_params.get_all(key) for key in st.query_params}, "lang": code}, doseq=True)
        current = ' aria-current="true"' if code == here.code else ""
        links.append(f'<a href="?{html.escape(query)}" lang="{code}" target="_self"{current}>{name}</a>')
    label = html.escape(here.say("page.language"))
    st.html(f'<nav class="languages" aria-label="{label}">{" ".join(links)}</nav>')
