"""Watched sub-networks: those whose accuracy is recorded while a network trains, and what is recorded of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stimcore.analysis.intervals import wilson
from stimcore.errors import SpecError, UsageError
from stimcore.reference.evaluate import Predictions
from stimcore.subnets.families import ordered
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

FAMILIES = ("smallest", "half", "ordered")
"""Names that mean sub-networks of any network."""
_SPEC_LIKE = re.compile(r"main|d\d+(-\d+)*|[\dx.-]+", re.ASCII)


def watched(topology: Topology, names: Sequence[str]) -> dict[str, Spec]:
    """Return the sub-networks that the names in a recipe mean, each once and without the main network.

    Args:
        topology: Topology of the network that is trained.
        names: `smallest`, `half` (half of the blocks of every stage, rounded up), `ordered` (every ordered sub-network, under
            its short form), or specs.

    Returns:
        Name -> sub-network.

    Raises:
        UsageError: A name has no meaning, or a spec is not an ordered sub-network of this network.

    Example:
        >>> topology = Topology.of("net", [3, 2])
        >>> {name: str(spec) for name, spec in watched(topology, ["smallest", "half", "d3-1"]).items()}
        {'smallest': '1.4', 'half': '1-2.4', 'd3-1': '1-2-3.4'}
    """
    labels: dict[Spec, str] = {}
    for name in names:
        for label, spec in _specs_by_label(topology, name).items():
            if spec != topology.full:
                labels.setdefault(spec, label)
    return {label: spec for spec, label in labels.items()}


def existing_names(topology: Topology, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that mean sub-networks of this network: the specs of a recipe may not exist in a twin.

    Raises:
        UsageError: A name is neither a family nor the text of a spec, of whatever network.
    """
    for name in names:
        if name not in FAMILIES and not _SPEC_LIKE.fullmatch(name):
            _specs_by_label(topology, name)
    return tuple(name for name in names if _exists(topology, name))


def watched_record(name: str, spec: Spec, predictions: Predictions) -> dict[str, Any]:
    """Return the record of one watched sub-network for `training.jsonl`."""
    return {"name": name, "spec": str(spec)} | accuracy_record(predictions)


def accuracy_record(predictions: Predictions) -> dict[str, Any]:
    """Return the numbers of images and of correct ones, the accuracy and its 95% Wilson interval in percent."""
    images = len(predictions.labels)
    return {
        "correct": predictions.correct,
        "images": images,
        "accuracy_pct": predictions.accuracy_pct,
        "interval_pct": list(wilson(predictions.correct, images)),
    }


def _specs_by_label(topology: Topology, name: str) -> Mapping[str, Spec]:
    """Return the sub-networks that one name means, each with the label under which it is recorded."""
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
    """Return whether a name means sub-networks of this network."""
    try:
        _specs_by_label(topology, name)
    except UsageError:
        return False
    return True
