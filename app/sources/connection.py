"""The model server that the dashboard asks, and the clients that ask it.

`STIMCORE_SERVER` names a server (`STIMCORE_TOKEN` its token, or `STIMCORE_TOKEN_FILE` a file that holds it). Without it one is
started in the background for the folder `STIMCORE_EXPORTED`, by default `exported/` of this repository or the experiment of
an installation; `STIMCORE_RUNS`, by default `runs/`, holds run folders.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import streamlit as st

from app import session
from stimcore.serve.client.client import Client
from stimcore.serve.client.embedded import EmbeddedServer
from stimcore.serve.tokens import read_tokens

DASHBOARD = Path(__file__).resolve().parents[1]
INSTALLED = DASHBOARD.name != "app"
"""Whether this is the dashboard of an installation, where the package has another name and an experiment inside."""


def _visitor_address() -> str:
    """Return the address that the visitor's browser connects from; empty where a page runs without a browser."""
    address = st.context.ip_address
    return address if isinstance(address, str) else ""


@dataclass
class Connection:
    """A browser tab's connection to the model server, which counts who watches a job.

    Attributes:
        visitor: Random name of the tab.
        address: Address of the visitor's machine, for the server's bounds per address; empty for this machine.
        client: Sends both with every request; None before the first.
    """

    visitor: str = field(default_factory=lambda: uuid4().hex)
    address: str = field(default_factory=_visitor_address)
    client: Client | None = None


def exported_folder() -> Path:
    """Return the folder of bundles that a server started here serves."""
    return Path(os.environ.get("STIMCORE_EXPORTED") or (DASHBOARD if INSTALLED else DASHBOARD.parent) / "exported")


def runs_folder() -> Path:
    """Return the folder of run folders, which the page Train shows."""
    return Path(os.environ.get("STIMCORE_RUNS") or (Path.cwd() if INSTALLED else DASHBOARD.parent) / "runs")


def address() -> str:
    """Return the address of a server that runs already; empty when one is started here."""
    return os.environ.get("STIMCORE_SERVER", "").strip()


def location() -> str:
    """Return where answers come from, an address or a folder: what the caches of changing answers depend on."""
    return address() or str(exported_folder())


def training_arguments(environment: Mapping[str, str]) -> list[str]:
    """Return the arguments that let a server which is started here train what the operator has listed.

    Args:
        environment: Environment variables. `STIMCORE_TRAINING=off` allows no training, `STIMCORE_TRAIN_FOLDERS` lists folders
            of pictures (separated as in `PATH`), `STIMCORE_TRAIN_NETWORKS` own networks as `MODULE:FUNCTION`, with commas.

    Example:
        >>> training_arguments({"STIMCORE_TRAIN_NETWORKS": "mine:net"})
        ['--allow-training', '--train-network', 'mine:net']
        >>> training_arguments({"STIMCORE_TRAINING": "off"})
        []
    """
    if environment.get("STIMCORE_TRAINING", "").strip().lower() in ("off", "0", "no", "false"):
        return []
    folders = filter(None, environment.get("STIMCORE_TRAIN_FOLDERS", "").split(os.pathsep))
    networks = filter(None, map(str.strip, environment.get("STIMCORE_TRAIN_NETWORKS", "").split(",")))
    listed = [("--train-folder", name) for name in folders] + [("--train-network", name) for name in networks]
    return ["--allow-training", *(word for pair in listed for word in pair)]


@st.cache_resource(show_spinner="Starting the model server …")
def _embedded(folder: Path) -> EmbeddedServer:
    server = EmbeddedServer(folder, runs=runs_folder(), arguments=training_arguments(os.environ))
    server.wait_ready()
    return server


@st.cache_resource(show_spinner=False, max_entries=8)
def client_at(location: str) -> Client:
    """Return the client of a server: the caches of answers pass the `location()` that they depend on."""
    if address():
        return Client(location, read_tokens(os.environ).admin)
    return _embedded(Path(location)).client()


def client() -> Client:
    """Return the client for everything that is the same for all visitors."""
    return client_at(location())


def visitor() -> str:
    """Return the random name of the browser tab that this run is for."""
    return session.memory(Connection).visitor


def visitor_client() -> Client:
    """Return the client of the browser tab that this run is for, which the server knows the tab by."""
    connection = session.memory(Connection)
    if connection.client is None:
        # all visitors share the connections: a tab is remembered for minutes after it was closed, and would hold them as long
        connection.client = client().with_id(connection.visitor, connection.address)
    return connection.client


def admin_token() -> str | None:
    """Return the admin token of the server that `STIMCORE_SERVER` names; None where there is none."""
    return read_tokens(os.environ).admin
