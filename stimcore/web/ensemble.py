"""The sub-networks that vote on a picture of the visitor's."""

import random

from stimcore.subnets.families import count, ordered
from stimcore.subnets.sampling import sample
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

MAX_MEMBERS = 60
"""Sub-networks that vote on a picture, at most."""


def ensemble(topology: Topology) -> list[Spec]:
    """Return ordered sub-networks from shallow to deep, the full one last; of a large family a seeded sample."""
    if count(topology, "ordered") <= MAX_MEMBERS:
        specs = list(ordered(topology))
    else:
        specs = sample(topology, "ordered", MAX_MEMBERS - 1, random.Random(0))
    return [*sorted((s for s in specs if s != topology.full), key=lambda s: len(s.blocks)), topology.full]
