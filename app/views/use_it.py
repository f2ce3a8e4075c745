"""The page Use it: the best sub-network for a budget as a file, and what sub-networks see in one picture."""

import streamlit as st

from app import watch
from app.frame import footer, frame
from app.language import words
from app.panels.budget import budget
from app.panels.votes import votes
from app.text import as_sentence
from stimcore.errors import StimcoreError


def page() -> None:
    """Draw the page."""
    here = frame(words().say("page.use_it"), words().say("use_it.lead"))
    try:
        budget(here)
        votes(here)
    except StimcoreError as error:
        st.error(as_sentence(error))
        st.button("Try again", on_click=watch.reload)
    footer(here)


if __name__ == "__main__":
    page()
