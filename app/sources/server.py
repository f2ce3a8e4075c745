"""What the model server has open and how it is: its catalogue, which another export changes, and its limits."""

import streamlit as st

from app.sources import connection
from app.text import plain
from app.upload import ImageLimits
from stimcore.errors import StimcoreError
from stimcore.serve.limits import Limits
from stimcore.serve.types import Catalogue, Status


@st.cache_data(ttl=5, show_spinner=False, max_entries=4)
def _catalogue_at(location: str) -> Catalogue:
    return connection.client_at(location).catalogue()


def catalogue() -> Catalogue:
    """Return the experiments and methods that are served.

    Raises:
        StimcoreError: The server can't be reached, or can't be started; the message contains what to do.
    """
    return _catalogue_at(connection.location())


def rescan() -> None:
    """Have the server scan its folder again, and forget the cached catalogue and status."""
    _catalogue_at.clear()
    _status_at.clear()
    try:
        connection.client().rescan()
    except StimcoreError:
        return  # the page that is drawn next meets the same error and shows it


def empty_folder_help() -> str:
    """Return what to do where no experiment is served, as Markdown."""
    address, folder = connection.address(), connection.exported_folder()
    where = f"at the server {plain(address)}" if address else f"in the folder {plain(folder.name)}/"
    return (
        f"There are no trained networks {where} yet. Train one and export it: "
        "`python -m stimcore.train resnet20-fashion --method common`, then `python -m stimcore.export RUN_DIR --out "
        "exported/EXPERIMENT`. Or set STIMCORE_EXPORTED to a folder that has some."
    )


@st.cache_data(ttl=60, show_spinner=False, max_entries=4)
def _status_at(location: str) -> Status:
    return connection.client_at(location).status()


def provider_note() -> str:
    """Return why networks don't run on a GPU, in one sentence; empty on a GPU, and while the server gives no answer."""
    try:
        return _status_at(connection.location()).provider_note
    except StimcoreError:
        return ""


def image_limits() -> ImageLimits:
    """Return the largest picture that the server accepts; the usual limits while the server gives no answer."""
    try:
        status = _status_at(connection.location())
    except StimcoreError:
        return ImageLimits(Limits.image_bytes, Limits.image_pixels)
    return ImageLimits(status.image_bytes, status.image_pixels)


def serves(experiment: str) -> bool:
    """Return whether the server has an experiment open at this moment."""
    if not any(one.name == experiment for one in catalogue().experiments):
        _catalogue_at.clear()
    return any(one.name == experiment for one in catalogue().experiments)
