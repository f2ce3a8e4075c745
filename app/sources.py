"""Everything that the pages show, asked from the model server and cached; the dashboard itself computes nothing.

`STIMCORE_SERVER` names a server (`STIMCORE_TOKEN` its token, or `STIMCORE_TOKEN_FILE` a file that holds it). Without it one is
started in the background for the folder `STIMCORE_EXPORTED`, by default `exported/` of this repository or the experiment of
an installation; `STIMCORE_RUNS`, by
default `runs/`, holds run folders.

What belongs to a bundle is cached under the bundle's fingerprint and never asked for again; what can change (the catalogue, the
server's status, runs in progress) for a few seconds, for all visitors together.
"""

import base64
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import streamlit as st

from app import session
from app.text import plain
from app.upload import ImageLimits
from stimcore.analysis.result import Sweep
from stimcore.bundle.hits import Hits
from stimcore.errors import StimcoreError
from stimcore.serve.client.client import Client
from stimcore.serve.client.embedded import EmbeddedServer
from stimcore.serve.errors import NotFound
from stimcore.serve.limits import Limits
from stimcore.serve.tokens import read_tokens
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
    RunRequest,
    Sample,
    Status,
    TrainingOffer,
    WallAnswers,
)
from stimcore.subnets.spec import Spec

HERE = Path(__file__).resolve().parent
INSTALLED = HERE.name != "app"
"""Whether this is the dashboard of an installation, where the package has another name and an experiment inside."""
MAX_WALLS = 4096
"""Answers on picture walls that are kept for all visitors, about 1 kB each."""
STORED_WALL_S = 0.15
"""Time in which the server sends stored answers; for others the page asks again later."""
JobForgotten = NotFound
"""Raised for a job that the server does not know, for instance after a restart."""


@dataclass(frozen=True)
class JobKey:
    """What the accuracies of a job depend on: equal keys have equal results.

    Attributes:
        experiment: Name of the experiment.
        method: Folder of the bundle.
        fingerprint: Of the bundle: one that replaces another under the same name has other numbers.
        specs: The sub-networks.
        recalibrate: Whether batch norms are re-calibrated.
        max_images: Only the first images, at most this many; all when None.
        interactive: Whether a visitor waits for this one number; such jobs go before samples of whole families.
    """

    experiment: str
    method: str
    fingerprint: str
    specs: tuple[Spec, ...]
    recalibrate: bool = True
    max_images: int | None = None
    interactive: bool = True


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


# --- the server ---


def exported_folder() -> Path:
    """Return the folder of bundles that a server started here serves."""
    return Path(os.environ.get("STIMCORE_EXPORTED") or (HERE if INSTALLED else HERE.parent) / "exported")


def runs_folder() -> Path:
    """Return the folder of run folders, which the page Train shows."""
    return Path(os.environ.get("STIMCORE_RUNS") or (Path.cwd() if INSTALLED else HERE.parent) / "runs")


def address() -> str:
    """Return the address of a server that runs already; empty when one is started here."""
    return os.environ.get("STIMCORE_SERVER", "").strip()


def _location() -> str:
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
def _client_at(location: str) -> Client:
    if address():
        return Client(location, read_tokens(os.environ).admin)
    return _embedded(Path(location)).client()


def _client() -> Client:
    """Return the client for everything that is the same for all visitors."""
    return _client_at(_location())


def visitor() -> str:
    """Return the random name of the browser tab that this run is for."""
    return session.memory(Connection).visitor


def _visitor_client() -> Client:
    connection = session.memory(Connection)
    if connection.client is None:
        # all visitors share the connections: a tab is remembered for minutes after it was closed, and would hold them as long
        connection.client = _client().with_id(connection.visitor, connection.address)
    return connection.client


# --- what changes ---


@st.cache_data(ttl=5, show_spinner=False, max_entries=4)
def _catalogue_at(location: str) -> Catalogue:
    return _client_at(location).catalogue()


def catalogue() -> Catalogue:
    """Return the experiments and methods that are served.

    Raises:
        StimcoreError: The server can't be reached, or can't be started; the message contains what to do.
    """
    return _catalogue_at(_location())


def rescan() -> None:
    """Have the server scan its folder again, and forget the cached catalogue and status."""
    _catalogue_at.clear()
    _status_at.clear()
    try:
        _client().rescan()
    except StimcoreError:
        return  # the page that is drawn next meets the same error and shows it


def empty_folder_help() -> str:
    """Return what to do where no experiment is served, as Markdown."""
    where = f"at the server {plain(address())}" if address() else f"in the folder {plain(exported_folder().name)}/"
    return (
        f"There are no trained networks {where} yet. Train one and export it: "
        "`python -m stimcore.train resnet20-fashion --method common`, then `python -m stimcore.export RUN_DIR --out "
        "exported/EXPERIMENT`. Or set STIMCORE_EXPORTED to a folder that has some."
    )


@st.cache_data(ttl=60, show_spinner=False, max_entries=4)
def _status_at(location: str) -> Status:
    return _client_at(location).status()


def provider_note() -> str:
    """Return why networks don't run on a GPU, in one sentence; empty on a GPU, and while the server gives no answer."""
    try:
        return _status_at(_location()).provider_note
    except StimcoreError:
        return ""


def image_limits() -> ImageLimits:
    """Return the largest picture that the server accepts; the usual limits while the server gives no answer."""
    try:
        status = _status_at(_location())
    except StimcoreError:
        return ImageLimits(Limits.image_bytes, Limits.image_pixels)
    return ImageLimits(status.image_bytes, status.image_pixels)


@st.cache_data(ttl=2, show_spinner=False, max_entries=4)
def _runs_at(location: str) -> list[RunInfo]:
    return _client_at(location).runs()


def runs() -> list[RunInfo]:
    """Return the run folders on the server's machine, the last written first."""
    return _runs_at(_location())


@st.cache_data(ttl=5, show_spinner=False, max_entries=4)
def _offer_at(location: str) -> TrainingOffer:
    return _client_at(location).training_offer()


def training_offer() -> TrainingOffer:
    """Return what the server trains on request."""
    try:
        return _offer_at(_location())
    except NotFound:
        return TrainingOffer(allowed=False, reason="This model server is older than trainings by request.")


def start_run(request: RunRequest) -> RunInfo:
    """Have the server train a network.

    Raises:
        StimcoreError: The server refuses; the message has the reason.
    """
    started = _client().start_run(request)
    _runs_at.clear()
    return started


def stop_run(name: str) -> None:
    """Have the server stop a run.

    Raises:
        StimcoreError: The server refuses.
    """
    _client().stop_run(name)
    _runs_at.clear()


def continue_run(name: str) -> None:
    """Have the server continue a run.

    Raises:
        StimcoreError: The server refuses.
    """
    _client().continue_run(name)
    _runs_at.clear()


def serves(experiment: str) -> bool:
    """Return whether the server has an experiment open at this moment."""
    if not any(one.name == experiment for one in catalogue().experiments):
        _catalogue_at.clear()
    return any(one.name == experiment for one in catalogue().experiments)


def admin_token() -> str | None:
    """Return the admin token of the server that `STIMCORE_SERVER` names; None where there is none."""
    return read_tokens(os.environ).admin


# --- jobs ---


def start(key: JobKey, *, fresh: bool) -> Job:
    """Start a job, or join the same job of another visitor.

    Args:
        key: What to evaluate.
        fresh: Measure although a result is known.
    """
    request = JobRequest(
        experiment=key.experiment,
        method=key.method,
        specs=tuple(map(str, key.specs)),
        recalibrate=key.recalibrate,
        max_images=key.max_images,
        fresh=fresh,
        interactive=key.interactive,
    )
    return _visitor_client().submit(request)


def job(job_id: str) -> Job:
    """Return a job as it is now. Asking counts as watching: the server drops jobs that nobody asks for.

    Raises:
        JobForgotten: The server does not know the job.
    """
    return _visitor_client().job(job_id)


def leave(job_id: str) -> None:
    """Report that this visitor no longer watches a job; the server ends it unless others do."""
    try:
        _visitor_client().cancel(job_id)
    except StimcoreError:
        return  # the job has ended, or the server has


# --- what belongs to a bundle ---


class BundleKey(NamedTuple):
    """What the caches of a bundle's answers depend on.

    Attributes:
        experiment: Name of the experiment.
        method: Folder of the bundle.
        fingerprint: Of the bundle: one that replaces another under the same name is asked about anew.
    """

    experiment: str
    method: str
    fingerprint: str


@st.cache_resource(show_spinner=False, max_entries=64)
def _sweep(bundle: BundleKey, kind: str) -> Sweep | None:
    # A resource, not data: a sweep is frozen, and thousands of results would be unpickled with every run of a page.
    return _client().sweep(bundle.experiment, bundle.method, kind)


def sweep(experiment: str, method: MethodInfo, kind: str) -> Sweep | None:
    """Return the stored accuracies of a family; None where the bundle has none."""
    return _sweep(BundleKey(experiment, method.name, method.fingerprint), kind) if kind in method.sweeps else None


@st.cache_resource(show_spinner=False, max_entries=64)
def _hits(bundle: BundleKey) -> Hits | None:
    return _client().hits(bundle.experiment, bundle.method)


def hits(experiment: str, method: MethodInfo) -> Hits | None:
    """Return which evaluation images the stored sub-networks classify correctly; None where the bundle stores none."""
    return _hits(BundleKey(experiment, method.name, method.fingerprint)) if method.hits else None


@st.cache_data(show_spinner=False, max_entries=64)
def _networks(bundle: BundleKey) -> Networks:
    return _client().networks(bundle.experiment, bundle.method)


def networks(experiment: str, method: MethodInfo) -> Networks:
    """Return the listed ONNX files of a bundle."""
    return _networks(BundleKey(experiment, method.name, method.fingerprint))


@st.cache_data(show_spinner=False, max_entries=64)
def _training(bundle: BundleKey) -> list[dict[str, Any]]:
    return _client().training(bundle.experiment, bundle.method)


def training(experiment: str, method: MethodInfo) -> Sequence[Mapping[str, Any]]:
    """Return the records of the epochs of a finished run."""
    return _training(BundleKey(experiment, method.name, method.fingerprint))


@st.cache_data(show_spinner=False, max_entries=16)
def _samples(bundle: BundleKey, count: int) -> list[Sample]:
    return _client().samples(bundle.experiment, count, 0)


def samples(experiment: ExperimentInfo, count: int = 8) -> list[Sample]:
    """Return evaluation images, the same ones every time."""
    first = experiment.methods[0]
    return _samples(BundleKey(experiment.name, first.name, first.fingerprint), count)


class WallKey(NamedTuple):
    """What the answers on the picture wall depend on.

    Attributes:
        experiment: Name of the experiment.
        method: Folder of the bundle.
        fingerprint: Of the bundle.
        spec: The sub-network.
        recalibrate: Whether batch norms are re-calibrated.
        images: The evaluation images of the wall, which change when a bundle that has chosen them is added.
    """

    experiment: str
    method: str
    fingerprint: str
    spec: Spec
    recalibrate: bool
    images: tuple[int, ...]


@st.cache_data(show_spinner=False, max_entries=16)
def _wall(experiment: str, fingerprints: tuple[str, ...]) -> list[Sample]:
    return _client().wall(experiment)


def wall(experiment: ExperimentInfo) -> list[Sample]:
    """Return the evaluation images of the picture wall, the same ones every time."""
    return _wall(experiment.name, tuple(method.fingerprint for method in experiment.methods))


@dataclass
class WallCalls:
    """Questions for answers on picture walls, shared by all visitors: equal ones are asked once.

    Attributes:
        pool: Threads that wait for the server.
        futures: The last `MAX_WALLS` questions.
        lock: Held while `futures` changes.
    """

    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, "wall"))
    futures: dict[WallKey, Future[WallAnswers]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@st.cache_resource(show_spinner=False)
def _wall_calls() -> WallCalls:
    return WallCalls()


def wall_answers(key: WallKey, wait_s: float = 0.0) -> WallAnswers | None:
    """Return the answers of a sub-network on the images of the picture wall; None while the server works on them.

    A run of the page must not wait for a network to be re-calibrated: what the page no longer shows would stay on the screen.

    Args:
        key: What is asked.
        wait_s: Time to wait for the answers.

    Raises:
        StimcoreError: The server has no answer. The next call asks again.
    """
    calls, client = _wall_calls(), _visitor_client()
    with calls.lock:
        future = calls.futures.get(key)
        if future is None:
            for old in list(calls.futures)[: max(0, len(calls.futures) + 1 - MAX_WALLS)]:
                del calls.futures[old]
            spec, recalibrate = str(key.spec), key.recalibrate
            future = calls.pool.submit(client.wall_answers, key.experiment, key.method, spec, recalibrate=recalibrate)
            calls.futures[key] = future
    try:
        return future.result(wait_s)
    except TimeoutError:
        return None
    except StimcoreError:
        with calls.lock:
            calls.futures.pop(key, None)
        raise


def classify(
    experiment: str, method: str, specs: Sequence[Spec], *, index: int | None = None, image: bytes | None = None
) -> Classification:
    """Return how sub-networks classify an evaluation image, or the visitor's, which is stored nowhere.

    Args:
        experiment: Name of the experiment.
        method: Folder of the bundle.
        specs: The sub-networks.
        index: An evaluation image; or
        image: the bytes of a PNG or JPEG.
    """
    encoded = None if image is None else base64.b64encode(image).decode()
    request = ClassifyRequest(method=method, specs=tuple(map(str, specs)), index=index, image_base64=encoded)
    return _visitor_client().classify(experiment, request)


def onnx(experiment: str, method: str, spec: str) -> bytes:
    """Return a sub-network as one self-contained ONNX file."""
    return _visitor_client().onnx(experiment, method, spec)
