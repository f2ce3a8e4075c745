"""Sub-networks that are followed while a network trains: which, by name, and how accurate they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from stimcore.analysis.intervals import wilson
from stimcore.errors import SpecError, UsageError
from stimcore.reference.evaluate import Predictions
from stimcore.subnets.families import ordered
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

FAMILIES = ("smallest", "half", "ordered")
"""Names that stand for sub-networks of any network."""


def watched(topology: Topology, names: Sequence[str]) -> dict[str, Spec]:
    """Return the sub-networks that the names of a recipe stand for, by name, each once and without the main network.

    Args:
        topology: Of the network that is trained.
        names: `smallest`, `half` (of every stage half of its blocks, rounded up), `ordered` (all of them, each under its short
            form), or specs.

    Raises:
        UsageError: A name that stands for nothing, or a spec that is not an ordered sub-network of this one.
    """
    found: dict[Spec, str] = {}
    for name in names:
        for label, spec in _meant(topology, name).items():
            if spec != topology.full:
                found.setdefault(spec, label)
    return {label: spec for spec, label in found.items()}


def those_that_exist(topology: Topology, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that stand for sub-networks of this network: a recipe's specs may not fit a twin."""
    return tuple(name for name in names if _exists(topology, name))


def row(name: str, spec: Spec, predictions: Predictions) -> dict[str, Any]:
    """Return what `training.jsonl` records of one sub-network."""
    return {"name": name, "spec": str(spec)} | accuracy(predictions)


def accuracy(predictions: Predictions) -> dict[str, Any]:
    """Return images, correct ones, accuracy and its 95% interval in percent."""
    images = len(predictions.labels)
    return {
        "correct": predictions.correct,
        "images": images,
        "accuracy_pct": predictions.accuracy_pct,
        "interval_pct": list(wilson(predictions.correct, images)),
    }


def _meant(topology: Topology, name: str) -> Mapping[str, Spec]:
    match name:
        case "smallest":
            return {name: topology.ordered([1] * len(topology.sizes))}
        case "half":
            return {name: topology.ordered([(size + 1) // 2 for size in topology.sizes])}
        case "ordered":
            return {topology.short(spec): spec for spec in ordered(topology)}
    try:
        spec = topology.parse(name)
    except SpecError as reason:
        families = ", ".join(FAMILIES)
        raise UsageError(
            f"'{name}' can't be watched: {reason.what}", allowed=f"{families}, or specs such as d1-1-1"
        ) from reason
    if topology.depths(spec) is None:
        raise UsageError(f"'{name}' can't be watched: it is not ordered", allowed="the first blocks of every stage")
    return {name: spec}


def _exists(topology: Topology, name: str) -> bool:
    try:
        _meant(topology, name)
    except UsageError:
        return False
    return True
