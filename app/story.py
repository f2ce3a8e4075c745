"""The story that Break it opens on: the stored state of an experiment that shows the difference between its methods best."""

from collections.abc import Sequence

import streamlit as st

from app.sources import bundles
from stimcore.analysis.contrast import Contrast, clearest, contrasts
from stimcore.analysis.result import Sweep
from stimcore.serve.types import ExperimentInfo, MethodInfo
from stimcore.subnets.topology import Topology
from stimcore.web import arrangement


def compared(experiment: ExperimentInfo) -> tuple[MethodInfo, ...]:
    """Return the two methods that the page opens with, common training first; one where there is only one."""
    return tuple(method for method in experiment.methods if method.spec is None)[:2]


def stored_contrasts(experiment: ExperimentInfo) -> Sequence[Contrast]:
    """Return what the stored states of an experiment show; nothing where no sweep is stored."""
    methods = compared(experiment)
    return _contrasts(experiment.name, tuple(method.fingerprint for method in methods), experiment)


def story(experiment: ExperimentInfo, topology: Topology) -> str:
    """Return the text of the arrangement that Break it shows first: the full network where no sweep is stored."""
    clear = clearest(stored_contrasts(experiment), topology.num_blocks)
    return str(arrangement.full(topology) if clear is None else arrangement.read(topology, str(clear.spec)))


@st.cache_resource(show_spinner=False, max_entries=64)
def _contrasts(name: str, fingerprints: tuple[str, ...], _experiment: ExperimentInfo) -> Sequence[Contrast]:
    # What belongs to a bundle never changes, so that the fingerprints are the whole key.
    swept = [_sweeps(name, method) for method in compared(_experiment)]
    topology = Topology.from_dict(_experiment.topology)
    return contrasts(topology, swept[0], swept[1] if len(swept) > 1 else None) if swept else []


def _sweeps(experiment: str, method: MethodInfo) -> list[Sweep]:
    stored = [bundles.sweep(experiment, method, kind) for kind in method.sweeps]
    return [sweep for sweep in stored if sweep is not None]
