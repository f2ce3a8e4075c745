"""A family of sub-networks of one bundle: stored whole, or a sample that is measured here and says so."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import sources
from app.frame import Frame, images, plain
from app.watch import Watched, pause_s, watch
from stimcore.serve.types import MethodInfo
from stimcore.subnets.families import count, deletions, sample
from stimcore.subnets.topology import Topology

SAMPLE = 60
"""Sub-networks of a sample, besides the full network and the single deletions."""
SAMPLE_IMAGES = 1000
SMALL = 400
"""A family up to this size is measured whole."""
NAMES = {"ordered": "ordered sub-networks", "delete": "deletions", "permute": "re-orderings"}


@dataclass(frozen=True)
class Sampled:
    """Accuracies of a family.

    Attributes:
        sweep: In the form of `stimcore.sweep`.
        total: Size of the family.
        stored: Whether they came with the bundle.
    """

    sweep: Mapping[str, Any]
    total: int
    stored: bool

    @property
    def complete(self) -> bool:
        """Whether every member is there."""
        return len(self.sweep["results"]) >= self.total

    @property
    def words(self) -> str:
        """What this is, for a caption."""
        number, seen = len(self.sweep["results"]), images(self.sweep["images"])
        origin = "when the bundle was made" if self.stored else "here"
        if self.complete:
            return f"all {number:,}, each on {seen}, measured {origin}"
        return f"a random sample of {number:,} out of {self.total:,}, each on {seen}, measured {origin}"


def drawn(topology: Topology, kind: str) -> tuple[str, ...]:
    """What is measured of a family that isn't stored: all of a small one, else a seeded sample with every single deletion."""
    if count(topology, kind) <= SMALL:
        specs = sample(topology, kind, SMALL, random.Random(0))
    else:
        specs = sample(topology, kind, SAMPLE, random.Random(0))
        if kind == "delete":
            specs = [*deletions(topology, 1), *specs]
    return tuple(dict.fromkeys(map(str, specs)))


def family(here: Frame, method: MethodInfo, kind: str) -> Sampled | None:
    """The family of a bundle; where it isn't known, a button that measures it, and None until then."""
    total = count(here.topology, kind)
    if total == 0:
        return None
    stored = sources.sweep(here.experiment.name, method, kind)
    if stored:
        return Sampled(stored, total, True)
    ask = sources.Ask(
        here.experiment.name,
        method.name,
        method.fingerprint,
        drawn(here.topology, kind),
        max_images=SAMPLE_IMAGES,
        interactive=False,
    )
    wanted = f"measure {kind} {method.fingerprint}"
    if not st.session_state.get(wanted):
        _offer(here, method, kind, ask, wanted, total)
        return None
    seen = watch(ask)
    if not seen.finished:
        st.fragment(_progress, run_every=pause_s(1.0))(here, method, kind, seen)
        return None
    if seen.problem or seen.job is None or seen.job.main is None:
        st.error(plain(f"{here.style(method).label}: {seen.problem or 'the evaluation was stopped.'}"))
        st.button("Try again", key=f"again {wanted}", on_click=lambda: seen.again(fresh=False))
        return None
    results = [result.model_dump(exclude_none=True) for result in seen.job.results]
    main = seen.job.main.model_dump(exclude_none=True)
    return Sampled({"main": main, "results": results, "images": main["images"], "kind": kind}, total, False)


def _offer(here: Frame, method: MethodInfo, kind: str, ask: sources.Ask, wanted: str, total: int) -> None:
    many = f"all {total:,}" if len(ask.specs) >= total else f"a sample of {len(ask.specs):,} out of {total:,}"
    with st.container(border=True, key=f"offer {kind} {method.name}"):
        st.markdown(
            f"**{here.style(method).label}**: the {NAMES[kind]} did not come with this bundle. Measure {many} here on "
            f"{images(SAMPLE_IMAGES)}, or store all of them with "
            f"`python -m stimcore.sweep exported/{here.experiment.name}/{method.name} --kind {kind} --store`."
        )
        st.button("Measure here", key=f"start {wanted}", on_click=lambda: st.session_state.update({wanted: True}))


def _progress(here: Frame, method: MethodInfo, kind: str, seen: Watched) -> None:
    seen.look()
    if seen.finished:
        st.rerun()
    share = seen.images / seen.images_total if seen.images_total else 0.0
    phase = "re-calibrating" if seen.phase == "calibrate" else f"{seen.images:,} of {images(seen.images_total)}"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(share, text=f"{here.style(method).label}, {NAMES[kind]}: {phase}")
        st.button("Stop", key=f"stop {kind} {method.name}", on_click=seen.stop)
