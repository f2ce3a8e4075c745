"""Run folders on the server's machine, and trainings that visitors start, stop and continue."""

import streamlit as st

from app.sources import connection
from stimcore.serve.errors import NotFound
from stimcore.serve.types import RunInfo, RunRequest, TrainingOffer


@st.cache_data(ttl=2, show_spinner=False, max_entries=4)
def _runs_at(location: str) -> list[RunInfo]:
    return connection.client_at(location).runs()


def runs() -> list[RunInfo]:
    """Return the run folders on the server's machine, the last written first."""
    return _runs_at(connection.location())


@st.cache_data(ttl=5, show_spinner=False, max_entries=4)
def _offer_at(location: str) -> TrainingOffer:
    return connection.client_at(location).training_offer()


def training_offer() -> TrainingOffer:
    """Return what the server trains on request."""
    try:
        return _offer_at(connection.location())
    except NotFound:
        return TrainingOffer(allowed=False, reason="This model server is older than trainings by request.")


def start_run(request: RunRequest) -> RunInfo:
    """Have the server train a network.

    Raises:
        StimcoreError: The server refuses; the message has the reason.
    """
    started = connection.client().start_run(request)
    _runs_at.clear()
    return started


def stop_run(name: str) -> None:
    """Have the server stop a run.

    Raises:
        StimcoreError: The server refuses.
    """
    connection.client().stop_run(name)
    _runs_at.clear()


def continue_run(name: str) -> None:
    """Have the server continue a run.

    Raises:
        StimcoreError: The server refuses.
    """
    connection.client().continue_run(name)
    _runs_at.clear()
