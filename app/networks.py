"""The bundles of an experiment as the networks that `stimcore.analysis.comparisons` compares."""

from app import sources
from stimcore.analysis.networks import TrainedNetwork
from stimcore.serve.types import ExperimentInfo, MethodInfo
from stimcore.subnets.topology import Topology


def trained_networks(experiment: ExperimentInfo, *, sweeps: bool = True) -> list[TrainedNetwork]:
    """Return every network of an experiment, main networks and twins.

    Args:
        experiment: The experiment.
        sweeps: Whether the stored accuracies of ordered sub-networks are asked from the server.
    """
    topology = Topology.from_dict(experiment.topology)
    return [_trained_network(experiment, topology, method, sweeps=sweeps) for method in experiment.methods]


def _trained_network(experiment: ExperimentInfo, topology: Topology, method: MethodInfo, *, sweeps: bool) -> TrainedNetwork:
    spec = topology.parse(method.spec or "main")
    sweep = sources.sweep(experiment.name, method, "ordered") if sweeps else None
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
    )
