"""Random sub-networks: samples of a family, and the sample spaces that training steps draw from.

Every function takes its source of randomness as an argument. The same generator in the same state gives the same
sub-networks, also in another process; runs that continue from a checkpoint and runs on several processes rely on it.
"""

import itertools
import random
from collections.abc import Callable, Sequence

from stimcore.errors import UsageError
from stimcore.subnets.families import count, family, movable_groups, without
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

MAX_ATTEMPTS_PER_SPEC = 1000
"""Draws per wanted spec before `sample` gives up: the last members of a nearly exhausted size of deletion are met rarely."""


def sample(topology: Topology, kind: str, num_specs: int, rng: random.Random) -> list[Spec]:
    """Return different random members of a family, or the whole family if it has no more than `num_specs`.

    Ordered sub-networks and permutations are uniform. Of a deletion the number of deleted blocks is uniform, so that every
    number on the horizontal axis of Fig. r5 has its share.

    Args:
        topology: The network.
        kind: One of `stimcore.subnets.families.KINDS`.
        num_specs: At most this many.
        rng: Source of randomness.

    Raises:
        UsageError: There is no such family, or this network does not have it.

    Example:
        >>> net = Topology.of("resnet32", (5, 5, 5))
        >>> drawn = sample(net, "ordered", 10, random.Random(0))
        >>> len(set(drawn)), drawn == sample(net, "ordered", 10, random.Random(0))
        (10, True)
    """
    members = family(topology, kind)
    if count(topology, kind) <= num_specs:
        return list(members)
    draw = _MEMBERS[kind]
    chosen: dict[Spec, None] = {}  # a set that remembers the order of the draws
    attempts = 0
    while len(chosen) < num_specs and attempts < MAX_ATTEMPTS_PER_SPEC * num_specs:
        attempts += 1
        chosen[draw(topology, rng)] = None
    return list(chosen)


def draw_ordered(topology: Topology, rng: random.Random, max_skipped: Sequence[int] | None = None) -> Spec:
    """Draw one ordered sub-network; the depth of every stage is uniform and independent.

    Args:
        topology: The network.
        rng: Source of randomness.
        max_skipped: Cap on the sample space (Stimulative Training++): for each stage how many blocks may be skipped at most.

    Raises:
        UsageError: `max_skipped` does not have one non-negative number per stage.

    Source: paper, Algorithm 1.

    Example:
        >>> net = Topology.of("resnet20", (3, 3, 3))
        >>> net.short(draw_ordered(net, random.Random(0))), net.short(draw_ordered(net, random.Random(0), (0, 0, 1)))
        ('d2-2-1', 'd3-3-2')
    """
    smallest = _smallest_depths(topology, max_skipped)
    return topology.ordered([rng.randint(low, n) for low, n in zip(smallest, topology.sizes, strict=True)])


def draw_deletions(topology: Topology, rng: random.Random, max_skipped: Sequence[int] | None = None) -> Spec:
    """Draw a set of removable blocks to leave out, for every stage independently; no block moves.

    Of the r removable blocks of a stage a number that is uniform in 0 to r is kept, then a uniform set of that size. (If all
    sets were equally likely, nearly every draw would keep about half of the blocks.) A block that is not removable always
    stays. The first block of a stage has no privilege: a stage whose blocks are all removable may become empty.

    Args:
        topology: The network.
        rng: Source of randomness.
        max_skipped: For each stage how many blocks may be skipped at most: the number kept is then uniform in r - cap to r.

    Raises:
        UsageError: No block of the network is removable, or `max_skipped` does not fit its stages.

    Example:
        >>> net = Topology.of("resnet20", (3, 3, 3), {4: "stride 2", 7: "stride 2"})
        >>> str(draw_deletions(net, random.Random(1)))
        '3.4.7-8'
    """
    stages = []
    for stage, kept in zip(topology.stages, _draw_kept_blocks(topology, rng, max_skipped), strict=True):
        stages.append(tuple(block for block in stage if block in kept))
    return Spec(tuple(stages))


def draw_deletions_and_permutations(topology: Topology, rng: random.Random, max_skipped: Sequence[int] | None = None) -> Spec:
    """Draw a deletion as `draw_deletions` does, then a uniform order of the removable blocks that every stage keeps.

    No block moves across one that is not removable, as in `stimcore.subnets.families.permutations`. Arguments and errors are
    those of `draw_deletions`.

    Example:
        >>> net = Topology.of("resnet20", (3, 3, 3), {4: "stride 2", 7: "stride 2"})
        >>> str(draw_deletions_and_permutations(net, random.Random(3)))
        '3.4-6-5.7-9-8'
    """
    stages = []
    for stage, kept in zip(topology.stages, _draw_kept_blocks(topology, rng, max_skipped), strict=True):
        order: list[int] = []
        for group in movable_groups(topology, stage):
            running = [block for block in group if block in kept]
            order += rng.sample(running, len(running))
        stages.append(tuple(order))
    return Spec(tuple(stages))


DrawSpec = Callable[[Topology, random.Random, Sequence[int] | None], Spec]
"""Draws one sub-network of a sample space; the last argument is the cap `max_skipped`."""

SAMPLE_SPACES: dict[str, DrawSpec] = {
    "ordered": draw_ordered,
    "deletions": draw_deletions,
    "deletions+permutations": draw_deletions_and_permutations,
}
"""Name of a sample space -> how a training step draws from it."""


def smallest_ordered(topology: Topology, max_skipped: Sequence[int] | None = None) -> Spec:
    """Return the smallest sub-network that `draw_ordered` can return; without a cap, the first block of every stage.

    Raises:
        UsageError: `max_skipped` does not have one non-negative number per stage.

    Example:
        >>> net = Topology.of("resnet20", (3, 3, 3))
        >>> net.short(smallest_ordered(net)), net.short(smallest_ordered(net, (1, 1, 9)))
        ('d1-1-1', 'd2-2-1')
    """
    return topology.ordered(_smallest_depths(topology, max_skipped))


def smallest_deletion(topology: Topology) -> Spec:
    """Return the network without any removable block: the smallest sub-network that `draw_deletions` can return.

    Raises:
        UsageError: No block of the network is removable.

    Example:
        >>> str(smallest_deletion(Topology.of("resnet20", (3, 3, 3), {4: "stride 2", 7: "stride 2"})))
        'x.4.7'
    """
    _refuse_without_removable(topology)
    return without(topology, topology.removable)


def _smallest_depths(topology: Topology, max_skipped: Sequence[int] | None) -> list[int]:
    caps = _skip_caps(topology, max_skipped)
    return [max(1, size - cap) for size, cap in zip(topology.sizes, caps, strict=True)]


def _skip_caps(topology: Topology, max_skipped: Sequence[int] | None) -> Sequence[int]:
    """Return for each stage how many blocks may be skipped at most; all of them where there is no cap."""
    if max_skipped is None:
        return topology.sizes
    if len(max_skipped) != len(topology.sizes) or min(max_skipped) < 0:
        raise UsageError(
            f"a sample space of {list(max_skipped)}", allowed=f"{len(topology.sizes)} numbers from 0, one per stage"
        )
    return max_skipped


def _draw_kept_blocks(topology: Topology, rng: random.Random, max_skipped: Sequence[int] | None) -> list[set[int]]:
    """Draw for each stage which blocks stay; those that are not removable are always among them."""
    _refuse_without_removable(topology)
    removable = set(topology.removable)
    kept = []
    for stage, cap in zip(topology.stages, _skip_caps(topology, max_skipped), strict=True):
        free = [block for block in stage if block in removable]
        size = rng.randint(max(0, len(free) - cap), len(free))
        kept.append(set(rng.sample(free, size)) | (set(stage) - removable))
    return kept


def _refuse_without_removable(topology: Topology) -> None:
    if not topology.removable:
        why = "its layers concatenate" if topology.ordered_only else "no shortcut of a block is the identity"
        raise UsageError(f"{topology.network} has no block that can be deleted: {why}", allowed="sample=ordered")


def _draw_ordered_member(topology: Topology, rng: random.Random) -> Spec:
    return draw_ordered(topology, rng)


def _draw_deletion_member(topology: Topology, rng: random.Random) -> Spec:
    return without(topology, rng.sample(topology.removable, rng.randint(1, len(topology.removable))))


def _draw_permutation_member(topology: Topology, rng: random.Random) -> Spec:
    groups_by_stage = [movable_groups(topology, stage) for stage in topology.stages]
    while True:
        orders = [
            itertools.chain.from_iterable(rng.sample(group, len(group)) for group in groups) for groups in groups_by_stage
        ]
        # the original order is no member of the family, and this way of drawing would return it
        if (spec := Spec(tuple(map(tuple, orders)))) != topology.full:
            return spec


_MEMBERS: dict[str, Callable[[Topology, random.Random], Spec]] = {
    "ordered": _draw_ordered_member,
    "delete": _draw_deletion_member,
    "permute": _draw_permutation_member,
}
"""Name of a family -> how `sample` draws one of its members."""
