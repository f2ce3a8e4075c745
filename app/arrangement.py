"""What the URL carries: which blocks of the network run, in which order, and which stand there struck through.

An *arrangement* is a spec plus the places of the deleted blocks, so that a picture can show where they were. Its text is the
spec grammar with `x4` for a deleted block. Everything that comes from a browser passes `read` before it is used.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from stimcore.errors import SpecError
from stimcore.subnets.families import draw_ordered
from stimcore.subnets.topology import Spec, Topology


@dataclass(frozen=True)
class Arrangement:
    """Every block of a network in its place, some of them deleted.

    Attributes:
        stages: Per stage its block numbers from left to right, deleted ones included.
        deleted: The blocks that don't run.
    """

    stages: tuple[tuple[int, ...], ...]
    deleted: frozenset[int]

    @property
    def spec(self) -> Spec:
        """What runs."""
        return Spec(tuple(tuple(b for b in stage if b not in self.deleted) for stage in self.stages))

    def __str__(self) -> str:
        """`1-x2-3.4-6-5`: dots between stages, dashes between blocks, x for deleted."""
        return ".".join("-".join(f"x{b}" if b in self.deleted else str(b) for b in stage) for stage in self.stages)


def full(topology: Topology) -> Arrangement:
    """Every block runs, in its own place."""
    return Arrangement(topology.stages, frozenset())


def read(topology: Topology, text: str) -> Arrangement:
    """The arrangement that a text describes, in any form of the spec grammar.

    Args:
        topology: The network.
        text: `1-x2-3`, `1-3`, `d2-3-3`, `main`; never trusted.

    Raises:
        SpecError: Says what is wrong.
    """
    spec = topology.parse(text)
    running = set(spec.blocks)
    places = [_places(stage, kept) for stage, kept in zip(topology.stages, spec.stages, strict=True)]
    if "x" in text:
        for s, part in enumerate(text.strip().split(".")):
            shown = tuple(int(token.lstrip("x")) for token in part.split("-") if token != "x")
            if sorted(shown) == sorted(topology.stages[s]):
                places[s] = shown
    return Arrangement(tuple(places), frozenset(set(range(1, topology.num_blocks + 1)) - running))


def _places(stage: tuple[int, ...], kept: tuple[int, ...]) -> tuple[int, ...]:
    """The kept blocks in their order, each missing one put back behind its own predecessor."""
    shown = list(kept)
    for block in stage:
        if block not in kept:
            before = [b for b in stage if b < block]
            place = shown.index(before[-1]) + 1 if before and before[-1] in shown else 0
            shown.insert(place, block)
    return tuple(shown)


def without(topology: Topology, blocks: Sequence[int]) -> Arrangement:
    """The full network less some blocks.

    Raises:
        SpecError: One of them can't go.
    """
    arrangement = Arrangement(topology.stages, frozenset(blocks))
    topology.check(arrangement.spec)
    return arrangement


def presets(topology: Topology) -> dict[str, str]:
    """Names of ready-made edits and their texts; only those that this network has."""
    found: dict[str, str] = {}
    removable = topology.removable
    if removable:
        middle = next((b for b in removable if topology.stage_of(b) == len(topology.sizes) // 2), removable[0])
        found[f"Delete block {middle}"] = str(without(topology, [middle]))
        firsts = {stage[0] for stage in topology.stages}
        later = [b for b in removable if b not in firsts]  # in training the first block of a stage always runs
        pair = next(((a, b) for a, b in zip(later, later[1:], strict=False) if b == a + 1 and _same(topology, a, b)), None)
        if pair:
            stages = tuple(tuple({pair[0]: pair[1], pair[1]: pair[0]}.get(b, b) for b in stage) for stage in topology.stages)
            found[f"Swap {pair[0]} and {pair[1]}"] = str(Arrangement(stages, frozenset()))
    if topology.num_blocks > len(topology.sizes):
        half = topology.ordered([-(-n // 2) for n in topology.sizes])
        found["Half of every stage"] = str(read(topology, str(half)))
        found["One per stage"] = str(read(topology, str(topology.ordered([1] * len(topology.sizes)))))
    return found


def _same(topology: Topology, a: int, b: int) -> bool:
    return topology.stage_of(a) == topology.stage_of(b)


def surprise(topology: Topology, rng: random.Random) -> str:
    """A random ordered sub-network."""
    return str(read(topology, str(draw_ordered(topology, rng))))


def locked(topology: Topology) -> dict[int, str]:
    """Block -> why a click can't delete it, in a student's words."""
    if topology.ordered_only:
        return {stage[0]: "every stage keeps its first block" for stage in topology.stages}
    return dict(topology.fixed)


def in_words(topology: Topology, arrangement: Arrangement) -> str:
    """What was done to the network: `without block 5`, `blocks re-ordered`, `the full network`."""
    gone, spec = sorted(arrangement.deleted), arrangement.spec
    moved = any(list(kept) != sorted(kept) for kept in spec.stages)
    if not gone and not moved:
        return "the full network"
    parts = []
    if len(gone) == 1:
        parts.append(f"without block {gone[0]}")
    elif 1 < len(gone) <= 6:
        parts.append(f"without blocks {', '.join(map(str, gone[:-1]))} and {gone[-1]}")
    elif gone:
        parts.append(f"with {len(gone)} of {topology.num_blocks} blocks deleted")
    if moved:
        changed = [b for kept in spec.stages for b, home in zip(kept, sorted(kept), strict=True) if b != home]
        parts.append(f"with blocks {', '.join(map(str, sorted(changed)))} re-ordered" if len(changed) <= 6 else "re-ordered")
    return " and ".join(parts)


def unpractised(topology: Topology, arrangement: Arrangement) -> str:
    """A caution where something is missing or moved that no ordered sub-network ever misses; empty elsewhere."""
    firsts = {stage[0] for stage in topology.stages}
    gone = sorted(firsts & arrangement.deleted)
    moved = any(
        kept and stage[0] in kept and kept[0] != stage[0]
        for kept, stage in zip(arrangement.spec.stages, topology.stages, strict=True)
    )
    if not gone and not moved:
        return ""
    subject = f"block {gone[0]}" if len(gone) == 1 else "the first block of a stage"
    return f"(No training method practised this: {subject} runs first in every sub-network that stimulative training draws.)"


def explain(topology: Topology, text: str) -> tuple[Arrangement, str]:
    """The arrangement of a text and an empty string, or the full network and why the text isn't one."""
    try:
        return read(topology, text), ""
    except SpecError as error:
        return full(topology), str(error)
