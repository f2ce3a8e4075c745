"""What belongs to a bundle: stored accuracies and hits, listed files, records of its training, evaluation images."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import streamlit as st

from app.sources import connection
from stimcore.analysis.result import Sweep
from stimcore.bundle.hits import Hits
from stimcore.serve.types import ExperimentInfo, MethodInfo, Networks, Sample


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
    return connection.client().sweep(bundle.experiment, bundle.method, kind)


def sweep(experiment: str, method: MethodInfo, kind: str) -> Sweep | None:
    """Return the stored accuracies of a family; None where the bundle has none."""
    return _sweep(BundleKey(experiment, method.name, method.fingerprint), kind) if kind in method.sweeps else None


@st.cache_resource(show_spinner=False, max_entries=64)
def _hits(bundle: BundleKey) -> Hits | None:
    return connection.client().hits(bundle.experiment, bundle.method)


def hits(experiment: str, method: MethodInfo) -> Hits | None:
    """Return which evaluation images the stored sub-networks classify correctly; None where the bundle stores none."""
    return _hits(BundleKey(experiment, method.name, method.fingerprint)) if method.hits else None


@st.cache_data(show_spinner=False, max_entries=64)
def _networks(bundle: BundleKey) -> Networks:
    return connection.client().networks(bundle.experiment, bundle.method)


def networks(experiment: str, method: MethodInfo) -> Networks:
    """Return the listed ONNX files of a bundle."""
    return _networks(BundleKey(experiment, method.name, method.fingerprint))


@st.cache_data(show_spinner=False, max_entries=64)
def _training(bundle: BundleKey) -> list[dict[str, Any]]:
    return connection.client().training(bundle.experiment, bundle.method)


def training(experiment: str, method: MethodInfo) -> Sequence[Mapping[str, Any]]:
    """Return the records of the epochs of a finished run."""
    return _training(BundleKey(experiment, method.name, method.fingerprint))


@st.cache_data(show_spinner=False, max_entries=16)
def _samples(bundle: BundleKey, count: int) -> list[Sample]:
    return connection.client().samples(bundle.experiment, count, 0)


def samples(experiment: ExperimentInfo, count: int = 8) -> list[Sample]:
    """Return evaluation images, the same ones every time."""
    first = experiment.methods[0]
    return _samples(BundleKey(experiment.name, first.name, first.fingerprint), count)


def onnx(experiment: str, method: str, spec: str) -> Callable[[], bytes]:
    """Return what fetches a sub-network as one self-contained ONNX file.

    Streamlit fetches a download in another thread, where there is no visitor: the client, which the server knows the visitor
    by, is looked up here.
    """
    return partial(connection.visitor_client().onnx, experiment, method, spec)
