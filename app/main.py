"""Start of the dashboard: `streamlit run app/main.py`.

Streamlit imports this file once as the web application, for its middleware, and runs it as a script for every visitor.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # In a bare checkout nothing is installed, and Streamlit puts only the folder of this script on the path.
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402  # imports come after the path is set

from app.access import announcement  # noqa: E402  # imports come after the path is set
from app.language import words  # noqa: E402  # imports come after the path is set
from app.middleware import middleware  # noqa: E402  # imports come after the path is set
from stimcore import files  # noqa: E402  # imports come after the path is set

NUM_DESCRIPTORS = 4096
"""File descriptors that the process may have. Streamlit keeps three for every tab, for two minutes after it was closed, and up
to 128 such tabs: more than the 256 that some systems allow."""


def navigate() -> None:
    """Run the page that the visitor asked for."""
    st.set_page_config(
        page_title="stimcore: break a network",
        page_icon=str(Path(__file__).with_name("icon.png")),
        layout="wide",
        initial_sidebar_state="collapsed",
    )
    say = words().say
    pages = [
        st.Page("views/break_it.py", title=say("page.break_it"), default=True),
        st.Page("views/subnetworks.py", title=say("page.subnetworks"), url_path="subnetworks"),
        st.Page("views/damage.py", title=say("page.damage"), url_path="damage"),
        st.Page("views/train.py", title=say("page.train"), url_path="train"),
        st.Page("views/training.py", title="Training", url_path="training", visibility="hidden"),
        st.Page("views/use_it.py", title=say("page.use_it"), url_path="use-it"),
    ]
    st.navigation(pages, position="top").run()


if __name__ == "__main__":
    navigate()
else:
    files.allow_descriptors(NUM_DESCRIPTORS)
    if others := announcement(str(st.get_option("server.address") or ""), st.get_option("server.port")):
        print(others, flush=True)
    streamlit_app = st.App(__file__, middleware=middleware())
