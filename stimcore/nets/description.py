"""What is known of a network in plain JSON types: stages, removable blocks, counts of sub-networks, costs."""

import math
from collections.abc import Sequence
from typing import Any

from stimcore.nets.cost import Cost, Costs
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.subnets.families import KINDS, count
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

MAX_EXACT_COUNT = 10**12
"""From this number on a count is printed as a power."""


def describe(net: StagedNet, specs: Sequence[Spec] = ()) -> dict[str, Any]:
    """Return the description of a network that `python -m stimcore.nets` prints and writes as JSON.

    Args:
        net: The network.
        specs: Sub-networks whose costs are listed too.

    Raises:
        SpecError: The network has no such sub-network.

    Example:
        >>> from stimcore.nets.catalogue import build
        >>> net = build("resnet20", input_shape=(3, 32, 32), num_classes=10)
        >>> description = describe(net, [net.topology.parse("d1-1-1")])
        >>> description["counts"], description["parameters"]
        ({'ordered': 27, 'delete': 127, 'permute': 23}, 269722)
        >>> [(row["short"], row["macs"]) for row in description["specs"]]
        [('d1-1-1', 12239488)]
    """
    topology, costs = net.topology, Costs(net)
    return {
        "network": topology.network,
        "input_shape": list(net.input_shape),
        "num_classes": net.num_classes,
        "stages": [list(stage) for stage in topology.stages],
        "removable": list(topology.removable),
        "fixed": {str(block): why for block, why in topology.fixed.items()},
        "counts": {kind: count_or_power(topology, kind) for kind in KINDS},
        "batch_norms": len(batch_norms(net)),
        **_cost(costs.main),
        "parts": {str(name): _cost(cost) for name, cost in costs.parts(topology.full).items()},
        "specs": [
            {"spec": str(spec), "short": topology.short(spec), "kind": topology.kind(spec), **_cost(costs.of(spec))}
            for spec in specs
        ],
    }


def count_or_power(topology: Topology, kind: str) -> int | str:
    """Return the size of a family: a number, or a power as text if the number is beyond any use.

    Args:
        topology: The network.
        kind: One of `stimcore.subnets.families.KINDS`.

    Example:
        >>> net = Topology.of("resnet110", (18, 18, 18), {19: "stride 2", 37: "stride 2"})
        >>> [count_or_power(net, kind) for kind in KINDS]
        [5832, '2^52 - 1', 'about 10^45']
    """
    number = count(topology, kind)
    if number < MAX_EXACT_COUNT:
        return number
    return f"2^{len(topology.removable)} - 1" if kind == "delete" else f"about 10^{math.log10(number):.0f}"


def _cost(cost: Cost) -> dict[str, int]:
    return {"parameters": cost.parameters, "macs": cost.macs}
