"""Page config and navigation: `streamlit run app/main.py`.

Streamlit imports this file once as the web application and runs it as a script for every visitor.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # works from a checkout without an installed package

import streamlit as st  # noqa: E402  # the path above comes first

from app.web import middleware  # noqa: E402  # the path above comes first


def navigate() -> None:
    """Runs the page that the visitor asked for."""
    st.set_page_config(
        page_title="stimcore: break a network",
        page_icon=str(ROOT / "app" / "icon.png"),
        layout="wide",
        initial_sidebar_state="collapsed",
    )
    pages = [
        st.Page("views/break_it.py", title="Break it", default=True),
        st.Page("views/subnetworks.py", title="Sub-networks", url_path="subnetworks"),
        st.Page("views/damage.py", title="Damage", url_path="damage"),
        st.Page("views/training.py", title="Training", url_path="training"),
        st.Page("views/use_it.py", title="Use it", url_path="use-it"),
    ]
    st.navigation(pages, position="top").run()


if __name__ == "__main__":
    navigate()
else:
    streamlit_app = st.App(__file__, middleware=middleware())
