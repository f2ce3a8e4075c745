"""Families of sub-networks: ordered ones, deletions, permutations (paper, Tables r1 and r2), and random draws.

Every family is a generator in a fixed order, so that a large one never has to be held in memory.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence

from stimcore.errors import SpecError, UsageError
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

KINDS = ("ordered", "delete", "permute")
"""Families that a sweep can walk through."""


def ordered(topology: Topology) -> Iterator[Spec]:
    """All ordered sub-networks, the full network last."""
    for depths in itertools.product(*(range(1, n + 1) for n in topology.sizes)):
        yield topology.ordered(depths)


def count_ordered(topology: Topology) -> int:
    """Number of ordered sub-networks, the full network included."""
    return math.prod(topology.sizes)


def deletions(topology: Topology, num_deleted: int | None = None) -> Iterator[Spec]:
    """Every non-empty set of removable blocks deleted, by number of deleted blocks.

    Args:
        topology: The network.
        num_deleted: Only the sets of this size; all sizes from 1 when None.
    """
    sizes = range(1, len(topology.removable) + 1) if num_deleted is None else [num_deleted]
    for size in sizes:
        for gone in itertools.combinations(topology.removable, size):
            yield without(topology, gone)


def count_deletions(topology: Topology) -> int:
    """Number of non-empty deletion sets."""
    return (1 << len(topology.removable)) - 1


def without(topology: Topology, deleted: Sequence[int]) -> Spec:
    """The full network less some blocks.

    Raises:
        SpecError: One of them is not removable.
    """
    for block in deleted:
        if block not in topology.removable:
            why = topology.fixed.get(block, "its layers concatenate" if topology.ordered_only else "there is no such block")
            raise SpecError(f"block {block} can't be deleted: {why}")
    gone = set(deleted)
    return Spec(tuple(tuple(b for b in stage if b not in gone) for stage in topology.stages))


def permutations(topology: Topology, num_operations: int | None = None) -> Iterator[Spec]:
    """Every re-ordering of the removable blocks within their stages, the full network left out.

    A block that is fixed stays where it is and nothing moves across it: what stands before it may have another shape.

    Args:
        topology: The network.
        num_operations: Only the arrangements that need this many swaps (Table r2's column); all when None.
    """
    per_stage = [list(_arrangements(topology, stage)) for stage in topology.stages]
    for stages in itertools.product(*per_stage):
        spec = Spec(stages)
        if spec != topology.full and (num_operations is None or operations(topology, spec) == num_operations):
            yield spec


def _runs(topology: Topology, stage: tuple[int, ...]) -> list[tuple[int, ...]]:
    """A stage in pieces whose blocks may change places with each other; a fixed block is a piece of its own."""
    removable = set(topology.removable)
    runs: list[list[int]] = [[]]
    for block in stage:
        if block in removable:
            runs[-1].append(block)
        else:
            runs += [[block], []]
    return [tuple(run) for run in runs if run]


def _arrangements(topology: Topology, stage: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for orders in itertools.product(*(itertools.permutations(run) for run in _runs(topology, stage))):
        yield tuple(itertools.chain.from_iterable(orders))


def count_permutations(topology: Topology) -> int:
    """Number of arrangements, the identity left out."""
    return math.prod(math.factorial(len(run)) for stage in topology.stages for run in _runs(topology, stage)) - 1


def operations(topology: Topology, spec: Spec) -> int:
    """Smallest number of swaps that turns each stage's kept blocks into the spec's order.

    Blocks that a spec leaves out do not count. Source: paper, Table r2 (length minus number of cycles).
    """
    total = 0
    for kept in spec.stages:
        home = {block: place for place, block in enumerate(sorted(kept))}
        seen: set[int] = set()
        for start in range(len(kept)):
            length = 0
            place = start
            while place not in seen:
                seen.add(place)
                place = home[kept[place]]
                length += 1
            total += max(0, length - 1)
    return total


def family(topology: Topology, kind: str) -> Iterator[Spec]:
    """The specs of one of `KINDS`.

    Raises:
        UsageError: There is no such family for this network.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no family '{kind}'", allowed=", ".join(KINDS))
    if kind != "ordered" and topology.ordered_only:
        raise UsageError(f"{topology.network} has no family '{kind}': its layers concatenate", allowed="ordered")
    return {"ordered": ordered, "delete": deletions, "permute": permutations}[kind](topology)


def count(topology: Topology, kind: str) -> int:
    """Number of specs in one of `KINDS`."""
    if kind != "ordered" and topology.ordered_only:
        return 0
    return {"ordered": count_ordered, "delete": count_deletions, "permute": count_permutations}[kind](topology)


def sample(topology: Topology, kind: str, num_specs: int, rng: random.Random) -> list[Spec]:
    """At most `num_specs` different specs of a family, uniformly drawn; the whole family when it is no larger.

    Deletions are drawn with their size uniform first, so that every point of Fig. r5 gets its share.
    """
    total = count(topology, kind)
    if total <= num_specs:
        return list(family(topology, kind))
    family(topology, kind)
    draw = {"ordered": draw_ordered, "delete": _draw_deletion, "permute": _draw_permutation}[kind]
    chosen: dict[Spec, None] = {}
    attempts = 0
    while len(chosen) < num_specs and attempts < 1000 * num_specs:
        attempts += 1
        chosen[draw(topology, rng)] = None
    return list(chosen)


def draw_ordered(topology: Topology, rng: random.Random, max_skipped: Sequence[int] | None = None) -> Spec:
    """One ordered sub-network, every stage's depth uniform and independent (paper, Algorithm 1).

    Args:
        topology: The network.
        rng: Source of randomness.
        max_skipped: Sample space of Stimulative Training++: per stage, how many blocks may be skipped at most.

    Raises:
        UsageError: `max_skipped` does not have one non-negative number per stage.
    """
    smallest = _smallest_depths(topology, max_skipped)
    return topology.ordered([rng.randint(low, n) for low, n in zip(smallest, topology.sizes, strict=True)])


def smallest_ordered(topology: Topology, max_skipped: Sequence[int] | None = None) -> Spec:
    """The smallest sub-network that `draw_ordered` can return: the first block of every stage where nothing is capped.

    Raises:
        UsageError: `max_skipped` does not have one non-negative number per stage.
    """
    return topology.ordered(_smallest_depths(topology, max_skipped))


def _smallest_depths(topology: Topology, max_skipped: Sequence[int] | None) -> list[int]:
    return [max(1, n - skip) for n, skip in zip(topology.sizes, _skippable(topology, max_skipped), strict=True)]


def _skippable(topology: Topology, max_skipped: Sequence[int] | None) -> Sequence[int]:
    """Per stage how many blocks may be skipped at most; all of them where nothing is capped.

    Raises:
        UsageError: `max_skipped` does not have one non-negative number per stage.
    """
    if max_skipped is None:
        return topology.sizes
    if len(max_skipped) != len(topology.sizes) or min(max_skipped) < 0:
        raise UsageError(
            f"a sample space of {list(max_skipped)}", allowed=f"{len(topology.sizes)} numbers from 0, one per stage"
        )
    return max_skipped


def draw_deletions(topology: Topology, rng: random.Random, max_skipped: Sequence[int] | None = None) -> Spec:
    """One set of removable blocks deleted, drawn for every stage independently; nothing moves.

    Of the r removable blocks of a stage a number is kept that is uniform in 0 .. r, then a uniform set of that size.
    (Every set alike would nearly always keep about half of them.) A block that is not removable always stays; the first
    block of a stage has no privilege, so a stage whose blocks are all removable may become empty.

    Args:
        topology: The network.
        rng: Source of randomness.
        max_skipped: Per stage, how many blocks may be skipped at most: the number kept is uniform in r - cap .. r.

    Raises:
        UsageError: No block of the network is removable, or `max_skipped` does not fit its stages.
    """
    stages = []
    for stage, kept in zip(topology.stages, _draw_kept(topology, rng, max_skipped), strict=True):
        stages.append(tuple(block for block in stage if block in kept))
    return Spec(tuple(stages))


def draw_deletions_and_permutations(topology: Topology, rng: random.Random, max_skipped: Sequence[int] | None = None) -> Spec:
    """One deletion as `draw_deletions` draws it, then the kept removable blocks of every stage in a uniform random order.

    No block moves across one that is not removable: the rule of `permutations`. Arguments and errors are those of
    `draw_deletions`.
    """
    stages = []
    for stage, kept in zip(topology.stages, _draw_kept(topology, rng, max_skipped), strict=True):
        order: list[int] = []
        for run in _runs(topology, stage):
            here = [block for block in run if block in kept]
            order += rng.sample(here, len(here))
        stages.append(tuple(order))
    return Spec(tuple(stages))


def smallest_deletion(topology: Topology) -> Spec:
    """The network without any removable block: the smallest sub-network that `draw_deletions` can return.

    Raises:
        UsageError: No block of the network is removable.
    """
    _refuse_without_removable(topology)
    return without(topology, topology.removable)


def _draw_kept(topology: Topology, rng: random.Random, max_skipped: Sequence[int] | None) -> list[set[int]]:
    """Per stage the blocks that a draw keeps, those that are not removable included."""
    _refuse_without_removable(topology)
    removable = set(topology.removable)
    kept = []
    for stage, cap in zip(topology.stages, _skippable(topology, max_skipped), strict=True):
        free = [block for block in stage if block in removable]
        size = rng.randint(max(0, len(free) - cap), len(free))
        kept.append(set(rng.sample(free, size)) | (set(stage) - removable))
    return kept


def _refuse_without_removable(topology: Topology) -> None:
    if not topology.removable:
        why = "its layers concatenate" if topology.ordered_only else "no shortcut of a block is the identity"
        raise UsageError(f"{topology.network} has no block that can be deleted: {why}", allowed="sample=ordered")


Draw = Callable[[Topology, random.Random, Sequence[int] | None], Spec]
"""Draws one sub-network of a sample space; the last argument caps per stage how many blocks may be skipped."""

SAMPLES: dict[str, Draw] = {
    "ordered": draw_ordered,
    "deletions": draw_deletions,
    "deletions+permutations": draw_deletions_and_permutations,
}
"""Name of a sample space -> how a training step draws from it."""


def _draw_deletion(topology: Topology, rng: random.Random) -> Spec:
    return without(topology, rng.sample(topology.removable, rng.randint(1, len(topology.removable))))


def _draw_permutation(topology: Topology, rng: random.Random) -> Spec:
    pieces = [_runs(topology, stage) for stage in topology.stages]
    while True:
        shuffled = [itertools.chain.from_iterable(rng.sample(run, len(run)) for run in runs) for runs in pieces]
        if (spec := Spec(tuple(map(tuple, shuffled)))) != topology.full:
            return spec
