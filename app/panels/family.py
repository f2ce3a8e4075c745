"""A family of sub-networks of one bundle: stored with it, or measured here on request."""

import random
from dataclasses import dataclass

import streamlit as st

from app import session
from app.frame import Frame
from app.sources import bundles, evaluations
from app.text import code, images, plain
from app.watch import WatchedJob, pause_s, redraw_when_due, watch
from stimcore.analysis.result import Sweep
from stimcore.serve.types import MethodInfo
from stimcore.subnets.families import count, deletions
from stimcore.subnets.sampling import sample
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

SAMPLE_SIZE = 60
"""Sub-networks of a sample, without the full network and the single deletions."""
SAMPLE_IMAGES = 1000
WHOLE_UP_TO = 400
"""A family of at most this size is measured whole."""
NAMES = {"ordered": "ordered sub-networks", "delete": "deletions", "permute": "re-orderings"}


@dataclass(frozen=True)
class Family:
    """Accuracies of a family.

    Attributes:
        sweep: The accuracies.
        total: Size of the family.
        stored: Whether they came with the bundle.
    """

    sweep: Sweep
    total: int
    stored: bool

    @property
    def provenance(self) -> str:
        """How many sub-networks were measured, on what and when, for a caption."""
        number, seen = len(self.sweep.results), images(self.sweep.images)
        when = "when the bundle was made" if self.stored else "here"
        if number >= self.total:
            return f"all {number:,}, each on {seen}, measured {when}"
        return f"a random sample of {number:,} out of {self.total:,}, each on {seen}, measured {when}"


def specs_to_measure(topology: Topology, kind: str) -> tuple[Spec, ...]:
    """Return what is measured of a family that isn't stored.

    All of a small family; of a larger one a seeded sample, and of deletions also every single one, since a bar is
    drawn for each of them.
    """
    if count(topology, kind) <= WHOLE_UP_TO:
        specs = sample(topology, kind, WHOLE_UP_TO, random.Random(0))
    else:
        specs = sample(topology, kind, SAMPLE_SIZE, random.Random(0))
        if kind == "delete":
            specs = [*deletions(topology, 1), *specs]
    return tuple(dict.fromkeys(specs))


def family(here: Frame, method: MethodInfo, kind: str) -> Family | None:
    """Return the family of a bundle; where it isn't known, draw a button that measures it, or its progress, and return None.

    Args:
        here: The page.
        method: The bundle.
        kind: `ordered`, `delete` or `permute`.
    """
    total = count(here.topology, kind)
    if total == 0:
        return None
    stored = bundles.sweep(here.experiment.name, method, kind)
    if stored:
        return Family(stored, total, stored=True)
    key = evaluations.JobKey(
        here.experiment.name,
        method.name,
        method.fingerprint,
        specs_to_measure(here.topology, kind),
        max_images=SAMPLE_IMAGES,
        interactive=False,
    )
    if (kind, method.fingerprint) not in session.memory(session.FamilyRequests).keys:
        _offer(here, method, kind, len(key.specs))
        return None
    watched = watch(key)
    if not watched.finished:
        st.fragment(_progress, run_every=pause_s(1.0))(here, method, kind, watched)
        return None
    if watched.problem or watched.job is None or watched.job.main is None:
        st.error(plain(f"{here.label(method)}: {watched.problem or 'the evaluation was stopped.'}"))
        st.button("Try again", key=f"again {_widget(kind, method)}", on_click=lambda: watched.restart(fresh=False))
        return None
    job = watched.job
    sweep = Sweep(
        experiment=here.experiment.name,
        method=method.name,
        kind=kind,
        provider=job.provider,
        images=watched.images,
        main=watched.job.main,
        results=job.results,
        bundle=method.fingerprint,
    )
    return Family(sweep, total, stored=False)


def _widget(kind: str, method: MethodInfo) -> str:
    """Return the part of widget keys that names a family of a bundle."""
    return f"measure {kind} {method.fingerprint}"


def _offer(here: Frame, method: MethodInfo, kind: str, num_specs: int) -> None:
    total = count(here.topology, kind)
    amount = f"all {total:,}" if num_specs >= total else f"a sample of {num_specs:,} out of {total:,}"
    requests = session.memory(session.FamilyRequests).keys
    with st.container(border=True, key=f"offer {kind} {method.name}"):
        st.markdown(
            f"**{plain(here.label(method))}**: the {NAMES[kind]} did not come with this bundle. Measure {amount} here on "
            f"{images(SAMPLE_IMAGES)}, or store all of them with "
            + code(f"python -m stimcore.sweep exported/{here.experiment.name}/{method.name} --kind {kind} --store")
            + "."
        )
        start = f"start {_widget(kind, method)}"
        st.button("Measure here", key=start, on_click=lambda: requests.add((kind, method.fingerprint)))


def _progress(here: Frame, method: MethodInfo, kind: str, watched: WatchedJob) -> None:
    watched.poll()
    if watched.finished:
        redraw_when_due()
    share = watched.images / watched.images_total if watched.images_total else 0.0
    phase = "re-calibrating" if watched.phase == "calibrate" else f"{watched.images:,} of {images(watched.images_total)}"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(share, text=f"{plain(here.label(method))}, {NAMES[kind]}: {phase}")
        st.button("Stop", key=f"stop {kind} {method.name}", on_click=watched.stop)
