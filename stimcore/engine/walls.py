"""Which evaluation images the picture wall of an experiment shows, and the answers of its networks on them."""

from collections.abc import Iterable, Mapping

import numpy as np

from stimcore.bundle import Answers, Experiment, Hits, Wall
from stimcore.bundle import wall as wall_file
from stimcore.bundle.opening import open_folder
from stimcore.bundle.store import apply_update
from stimcore.bundle.wall import choose_images
from stimcore.engine.engine import Engine
from stimcore.errors import BundleError
from stimcore.subnets.spec import Spec

COMPARED = ("common", "stimulative")
"""Folders of the two methods that must answer some of the images differently."""


def wall_images(experiment: Experiment, hits: Mapping[str, Hits]) -> tuple[int, ...]:
    """Return the evaluation images of an experiment's picture wall; they are the same for all of its methods.

    Args:
        experiment: The experiment.
        hits: Hits of methods whose bundles are not in place yet, by folder.
    """
    compared = [hits.get(name) or _stored_hits(experiment, name) for name in COMPARED]
    return choose_images(experiment.evaluation[1], *compared)


def engine_answers(engine: Engine, images: Iterable[int], specs: Iterable[Spec]) -> dict[Spec, Answers]:
    """Return the answers of sub-networks, re-calibrated, on some of the evaluation images.

    Args:
        engine: An engine of the bundle.
        images: Indices of evaluation images.
        specs: Sub-networks.
    """
    experiment = engine.bundle.experiment
    pixels = experiment.normalise(experiment.evaluation[0][np.array(list(images), np.int64)])
    return {spec: Answers.of(engine.logits(spec, pixels)) for spec in specs}


def refresh_walls(experiment: Experiment) -> None:
    """Make all picture walls of an experiment show the same images. The caller holds the experiment.

    Raises:
        BundleError: A bundle is broken.
    """
    images = wall_images(experiment, {})
    for method in experiment.methods:
        bundle = open_folder(experiment.path / method)
        if bundle.wall is not None and bundle.wall.images != images:
            states = engine_answers(Engine(bundle, device="cpu"), images, bundle.wall.states)
            content = Wall(images, states).to_bytes()
            apply_update(bundle.path, {wall_file.FILE: content})


def _stored_hits(experiment: Experiment, method: str) -> Hits | None:
    try:
        return open_folder(experiment.path / method).all_hits
    except BundleError:
        return None  # not exported yet, or broken: the images are chosen without it
