"""Families of sub-networks: ordered ones, deletions and permutations (paper, Tables r1 and r2).

A family is a generator in a fixed order: it never has to be in memory as a whole. Random members are drawn in
`stimcore.subnets.sampling`.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from stimcore.errors import SpecError, UsageError
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


def ordered(topology: Topology) -> Iterator[Spec]:
    """Yield all ordered sub-networks, the full network last.

    Example:
        >>> net = Topology.of("any", (2, 2))
        >>> [net.short(spec) for spec in ordered(net)]
        ['d1-1', 'd1-2', 'd2-1', 'd2-2']
    """
    for depths in itertools.product(*(range(1, n + 1) for n in topology.sizes)):
        yield topology.ordered(depths)


def count_ordered(topology: Topology) -> int:
    """Return the number of ordered sub-networks, the full network included.

    Example:
        >>> count_ordered(Topology.of("mobilenetv3", (2, 3, 4, 2, 3)))
        144
    """
    return math.prod(topology.sizes)


def deletions(topology: Topology, num_deleted: int | None = None) -> Iterator[Spec]:
    """Yield the sub-network of every non-empty set of removable blocks left out, smaller sets first.

    Args:
        topology: The network.
        num_deleted: Size of the sets; all sizes from 1 when None.

    Example:
        >>> net = Topology.of("any", (2, 2), {1: "its shortcut is a projection"})
        >>> [str(spec) for spec in deletions(net)]
        ['1.3-4', '1-2.4', '1-2.3', '1.4', '1.3', '1-2.x', '1.x']
    """
    sizes = range(1, len(topology.removable) + 1) if num_deleted is None else [num_deleted]
    for size in sizes:
        for deleted in itertools.combinations(topology.removable, size):
            yield without(topology, deleted)


def count_deletions(topology: Topology) -> int:
    """Return the number of non-empty sets of removable blocks.

    Example:
        >>> count_deletions(Topology.of("any", (2, 2), {1: "its shortcut is a projection"}))
        7
    """
    return (1 << len(topology.removable)) - 1


def without(topology: Topology, deleted: Sequence[int]) -> Spec:
    """Return the full network without some blocks.

    Raises:
        SpecError: One of the blocks is not removable.

    Example:
        >>> str(without(Topology.of("any", (2, 2)), [2, 3]))
        '1.4'
    """
    for block in deleted:
        if block not in topology.removable:
            why = topology.fixed.get(block, "its layers concatenate" if topology.ordered_only else "there is no such block")
            raise SpecError(f"block {block} can't be deleted: {why}")
    gone = set(deleted)
    return Spec(tuple(tuple(block for block in stage if block not in gone) for stage in topology.stages))


def permutations(topology: Topology, num_operations: int | None = None) -> Iterator[Spec]:
    """Yield every other order of the removable blocks within their stages; all blocks run.

    A fixed block stays where it is and nothing moves across it, because the tensors before it may have another shape.

    Args:
        topology: The network.
        num_operations: Only orders that need this many swaps (the columns of Table r2); all when None.

    Example:
        >>> net = Topology.of("any", (3, 2), {1: "its shortcut is a projection"})
        >>> [str(spec) for spec in permutations(net)]
        ['1-2-3.5-4', '1-3-2.4-5', '1-3-2.5-4']
        >>> [str(spec) for spec in permutations(net, num_operations=2)]
        ['1-3-2.5-4']
    """
    orders_by_stage = [list(_orders(topology, stage)) for stage in topology.stages]
    for stages in itertools.product(*orders_by_stage):
        spec = Spec(stages)
        if spec != topology.full and (num_operations is None or count_operations(spec) == num_operations):
            yield spec


def movable_groups(topology: Topology, stage: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return a stage as consecutive groups of blocks that may change places with each other.

    A fixed block is a group of one. Every order of a stage is a concatenation of orders of these groups.

    Example:
        >>> net = Topology.of("any", (5,), {3: "it changes the number of channels"})
        >>> movable_groups(net, net.stages[0])
        [(1, 2), (3,), (4, 5)]
    """
    removable = set(topology.removable)
    groups: list[list[int]] = [[]]
    for block in stage:
        if block in removable:
            groups[-1].append(block)
        else:
            groups += [[block], []]
    return [tuple(group) for group in groups if group]


def _orders(topology: Topology, stage: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for orders in itertools.product(*map(itertools.permutations, movable_groups(topology, stage))):
        yield tuple(itertools.chain.from_iterable(orders))


def count_permutations(topology: Topology) -> int:
    """Return the number of permutations; the full network in its original order is not one of them.

    Example:
        >>> count_permutations(Topology.of("any", (3, 2), {1: "its shortcut is a projection"}))
        3
    """
    groups = [group for stage in topology.stages for group in movable_groups(topology, stage)]
    return math.prod(math.factorial(len(group)) for group in groups) - 1


def count_operations(spec: Spec) -> int:
    """Return the smallest number of swaps that puts the running blocks of every stage into the spec's order.

    Deleted blocks do not count. Sorting a permutation takes its length minus its number of cycles, because a swap within a
    cycle splits that cycle in two and every block in its place is a cycle of one.

    Source: paper, Table r2.

    Example:
        >>> count_operations(Spec(((1, 2), (3, 5, 4), (8, 9, 7))))
        3
    """
    operations = 0
    for stage in spec.stages:
        home = {block: place for place, block in enumerate(sorted(stage))}
        visited: set[int] = set()
        for start in range(len(stage)):
            cycle_length = 0
            place = start
            while place not in visited:
                visited.add(place)
                place = home[stage[place]]
                cycle_length += 1
            operations += max(0, cycle_length - 1)
    return operations


_FAMILIES: dict[str, tuple[Callable[[Topology], Iterator[Spec]], Callable[[Topology], int]]] = {
    "ordered": (ordered, count_ordered),
    "delete": (deletions, count_deletions),
    "permute": (permutations, count_permutations),
}
"""Name of a family -> its generator and its size."""

KINDS = tuple(_FAMILIES)
"""Names of the families."""


def family(topology: Topology, kind: str) -> Iterator[Spec]:
    """Return the generator of a family.

    Args:
        topology: The network.
        kind: One of `KINDS`.

    Raises:
        UsageError: There is no such family, or this network does not have it.

    Example:
        >>> next(family(Topology.of("any", (2, 2)), "permute"))
        Spec(stages=((1, 2), (4, 3)))
    """
    if kind not in _FAMILIES:
        raise UsageError(f"there is no family '{kind}'", allowed=", ".join(KINDS))
    if kind != "ordered" and topology.ordered_only:
        raise UsageError(f"{topology.network} has no family '{kind}': its layers concatenate", allowed="ordered")
    generate, _ = _FAMILIES[kind]
    return generate(topology)


def count(topology: Topology, kind: str) -> int:
    """Return the number of sub-networks in a family, 0 if the network does not have the family.

    Args:
        topology: The network.
        kind: One of `KINDS`.

    Example:
        >>> net = Topology.of("mobilenetv3", (2, 3, 4, 2, 3), dict.fromkeys((1, 3, 6, 10, 12), "no identity shortcut"))
        >>> {kind: count(net, kind) for kind in KINDS}
        {'ordered': 144, 'delete': 511, 'permute': 23}
    """
    if kind != "ordered" and topology.ordered_only:
        return 0
    _, size = _FAMILIES[kind]
    return size(topology)
