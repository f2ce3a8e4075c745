"""The bundles of an experiment as the networks that `stimcore.analysis` compares: one for every run, with its other seeds."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app.sources import bundles
from stimcore.analysis.networks import TrainedNetwork
from stimcore.analysis.seeds import group_by_run
from stimcore.serve.types import ExperimentInfo, MethodInfo
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


def trained_networks(experiment: ExperimentInfo, *, sweeps: bool = True) -> list[TrainedNetwork]:
    """Return one network for every run of an experiment, main networks and twins; `repeats` holds its other seeds.

    Args:
        experiment: The experiment.
        sweeps: Whether the stored accuracies of ordered sub-networks are asked from the server.
    """
    topology = Topology.from_dict(experiment.topology)
    return group_by_run([_trained_network(experiment, topology, method, sweeps=sweeps) for method in experiment.methods])


def related_experiments(experiment: ExperimentInfo, served: Sequence[ExperimentInfo]) -> list[ExperimentInfo]:
    """Return the experiments with the same network on the same images, the given one first: their runs belong together.

    Args:
        experiment: The experiment of the page.
        served: All experiments of the server.
    """
    same = [other for other in served if other.name != experiment.name and _subject(other) == _subject(experiment)]
    return [experiment, *same]


def _subject(experiment: ExperimentInfo) -> tuple[object, ...]:
    """Return what two experiments must share so that their networks can be compared."""
    return (
        experiment.topology,
        experiment.dataset,
        list(experiment.classes),
        experiment.preprocessing,
        experiment.evaluation_images,
    )


def one_per_run(experiment: ExperimentInfo) -> list[MethodInfo]:
    """Return the bundles of an experiment without those that only repeat a run with another seed."""
    shown = {network.name for network in trained_networks(experiment, sweeps=False)}
    return [method for method in experiment.methods if method.name in shown]


def _trained_network(experiment: ExperimentInfo, topology: Topology, method: MethodInfo, *, sweeps: bool) -> TrainedNetwork:
    spec = topology.parse(method.spec or "main")
    sweep = bundles.sweep(experiment.name, method, "ordered") if sweeps else None
    return TrainedNetwork(
        name=method.name,
        method=method.method,
        depths=tuple(map(len, spec.stages)),
        twin=method.spec is not None,
        main=method.main,
        label=method.label,
        options=method.options,
        recipe=method.recipe,
        sweeps={} if sweep is None else {"ordered": sweep},
        seed=method.seed,
        hits=partial(_hits, experiment.name, method),
    )


def _hits(experiment: str, method: MethodInfo, spec: Spec) -> NDArray[np.bool_] | None:
    stored = bundles.hits(experiment, method)
    return None if stored is None else stored.of(spec)
