"""The only door to the model server, with all caching. Everything a page shows comes through here; nothing is computed.

`STIMCORE_SERVER` names a server (`STIMCORE_TOKEN` its token). Without it one is started in the background for the folder
`STIMCORE_EXPORTED`, by default `exported/` of this repository; `STIMCORE_RUNS`, by default `runs/`, holds run folders.
"""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import streamlit as st

from stimcore.errors import StimcoreError
from stimcore.serve.client.client import Client
from stimcore.serve.client.embedded import Embedded
from stimcore.serve.errors import NotFound
from stimcore.serve.types import (
    Catalogue,
    Classification,
    ClassifyRequest,
    ExperimentInfo,
    Job,
    JobRequest,
    MethodInfo,
    Networks,
    RunInfo,
    Sample,
    Status,
)

ROOT = Path(__file__).resolve().parent.parent
Forgotten = NotFound
"""What a question about a job says after the server was restarted."""


@dataclass(frozen=True)
class Ask:
    """What identifies accuracies of sub-networks of one bundle.

    Attributes:
        experiment: Name.
        method: Name of the bundle.
        fingerprint: Of the bundle: a bundle that is replaced under the same name has other numbers.
        specs: In long form.
        recalibrate: Whether batch norms are re-calibrated.
        max_images: Only the first so many; all when None.
        interactive: Whether somebody looks at this one number; goes before samples of whole families.
    """

    experiment: str
    method: str
    fingerprint: str
    specs: tuple[str, ...]
    recalibrate: bool = True
    max_images: int | None = None
    interactive: bool = True


def folder() -> Path:
    """Where bundles are looked for when this program starts the server itself."""
    return Path(os.environ.get("STIMCORE_EXPORTED") or ROOT / "exported")


def address() -> str:
    """Of a server that was started by someone else; empty when this program starts one."""
    return os.environ.get("STIMCORE_SERVER", "").strip()


@st.cache_resource(show_spinner="Starting the model server …")
def _embedded(path: Path) -> Embedded:
    server = Embedded(path, runs=Path(os.environ.get("STIMCORE_RUNS") or ROOT / "runs"))
    server.wait_ready()
    return server


def _server(visitor: str | None = None) -> Client:
    if address():
        return Client(address(), os.environ.get("STIMCORE_TOKEN") or None, visitor)
    return _embedded(folder()).client(visitor)


@st.cache_resource(show_spinner=False, max_entries=8)
def _shared(where: str) -> Client:
    return _server()


def _client() -> Client:
    """For everything that is the same for all visitors."""
    return _shared(address() or str(folder()))


def visitor() -> str:
    """A random name of the browser tab that this run is for."""
    return str(st.session_state.setdefault("visitor", uuid4().hex))


def _own() -> Client:
    """This visitor's: the server counts who watches an evaluation."""
    state = st.session_state
    if "client" not in state:
        state["client"] = _server(visitor())
    return cast(Client, state["client"])


@st.cache_data(ttl=5, show_spinner=False, max_entries=4)
def _catalogue(where: str) -> Catalogue:
    return _client().catalogue()


def catalogue() -> Catalogue:
    """Everything that is served.

    Raises:
        StimcoreError: The server can't be reached, or can't be started; says what to do.
    """
    return _catalogue(address() or str(folder()))


def forget() -> None:
    """Looks again: at the server, and at its folder."""
    _catalogue.clear()
    _status.clear()
    st.session_state.pop("watched", None)
    try:
        _client().rescan()
    except StimcoreError:
        return  # the page that follows says it


def nothing_here() -> str:
    """What to do about an empty folder, in words."""
    where = f"the server at {address()}" if address() else f"the folder {folder().name}/"
    return (
        f"There are no trained networks in {where} yet. Train one and export it: "
        "`python -m stimcore.train resnet20-fashion --method common`, then `python -m stimcore.export RUN_DIR --out "
        "exported/EXPERIMENT`. Or let STIMCORE_EXPORTED name a folder that has some."
    )


@st.cache_data(ttl=60, show_spinner=False, max_entries=4)
def _status(where: str) -> Status:
    return _client().status()


def status_note() -> str:
    """Why networks don't run on a GPU here, in one sentence; empty on a GPU, and while the server can't say."""
    try:
        return _status(address() or str(folder())).provider_note
    except StimcoreError:
        return ""


def provider_words(provider: str) -> str:
    """onnxruntime's name of what runs networks, for a reader."""
    return {"CPUExecutionProvider": "on the processor", "CUDAExecutionProvider": "on the GPU"}.get(provider, provider or "here")


def start(ask: Ask, *, fresh: bool) -> Job:
    """Begins an evaluation, or joins the one that others watch."""
    request = JobRequest(
        experiment=ask.experiment,
        method=ask.method,
        specs=ask.specs,
        recalibrate=ask.recalibrate,
        max_images=ask.max_images,
        fresh=fresh,
        interactive=ask.interactive,
    )
    return _own().submit(request)


def job(id_: str) -> Job:
    """Where an evaluation is; asking counts as watching.

    Raises:
        NotFound: The server doesn't know it (any more).
    """
    return _own().job(id_)


def leave(id_: str) -> None:
    """This visitor no longer cares; the work ends unless others do."""
    try:
        _own().cancel(id_)
    except StimcoreError:
        return  # it has ended, or the server has


@st.cache_data(show_spinner=False, max_entries=64)
def _sweep(experiment: str, method: str, fingerprint: str, kind: str) -> dict[str, Any] | None:
    return _client().sweep(experiment, method, kind)


def sweep(experiment: str, method: MethodInfo, kind: str) -> dict[str, Any] | None:
    """Stored accuracies of a family in the form of `stimcore.sweep`; None where none are stored."""
    return _sweep(experiment, method.name, method.fingerprint, kind) if kind in method.sweeps else None


@st.cache_data(show_spinner=False, max_entries=64)
def _networks(experiment: str, method: str, fingerprint: str) -> Networks:
    return _client().networks(experiment, method)


def networks(experiment: str, method: MethodInfo) -> Networks:
    """The listed ONNX files of a bundle."""
    return _networks(experiment, method.name, method.fingerprint)


@st.cache_data(show_spinner=False, max_entries=64)
def _training(experiment: str, method: str, fingerprint: str) -> list[dict[str, Any]]:
    return _client().training(experiment, method)


def training(experiment: str, method: MethodInfo) -> list[dict[str, Any]]:
    """Records of the epochs of a finished run."""
    return _training(experiment, method.name, method.fingerprint)


@st.cache_data(ttl=2, show_spinner=False, max_entries=4)
def _runs(where: str) -> list[RunInfo]:
    return _client().runs()


def runs() -> list[RunInfo]:
    """Run folders on the server's machine, the last written first."""
    return _runs(address() or str(folder()))


@st.cache_data(show_spinner=False, max_entries=16)
def _samples(experiment: str, fingerprint: str, count: int) -> list[Sample]:
    return _client().samples(experiment, count, 0)


def samples(experiment: ExperimentInfo, count: int = 8) -> list[Sample]:
    """Evaluation images, the same ones every time."""
    return _samples(experiment.name, experiment.methods[0].fingerprint, count)


def classify(
    experiment: str, method: str, specs: Sequence[str], *, index: int | None = None, image: bytes | None = None
) -> Classification:
    """What sub-networks say of an evaluation image, or of the visitor's own, which is stored nowhere."""
    encoded = None if image is None else base64.b64encode(image).decode()
    request = ClassifyRequest(method=method, specs=tuple(specs), index=index, image_base64=encoded)
    return _client().classify(experiment, request)


def onnx(experiment: str, method: str, spec: str) -> bytes:
    """A sub-network as one self-contained ONNX file."""
    return _client().onnx(experiment, method, spec)
