"""Arrangements: which blocks of a network run, in which order, and where the deleted ones stood.

An *arrangement* is a spec plus the places of the deleted blocks, so that a picture can show them. Its text is the spec grammar
with `x4` for a deleted block; the page's address carries it. Text from a browser is never trusted: it passes `read` first.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stimcore.analysis.contrast import Contrast, clearest_deletion, clearest_swap
from stimcore.analysis.spreads import first_blocks
from stimcore.errors import SpecError
from stimcore.subnets.sampling import draw_ordered
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology
from stimcore.web.words import ENGLISH, Words


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
        """The blocks that run."""
        return Spec(tuple(tuple(b for b in stage if b not in self.deleted) for stage in self.stages))

    def __str__(self) -> str:
        """Return the text: `1-x2-3.4-6-5` has dots between stages, dashes between blocks, x before deleted blocks."""
        return ".".join("-".join(f"x{b}" if b in self.deleted else str(b) for b in stage) for stage in self.stages)


def full(topology: Topology) -> Arrangement:
    """Return the arrangement in which every block runs, in its own place."""
    return Arrangement(topology.stages, frozenset())


def read(topology: Topology, text: str) -> Arrangement:
    """Return the arrangement that a text describes, in any form of the spec grammar.

    Args:
        topology: The network.
        text: `1-x2-3`, `1-3`, `d2-3-3` or `main`; not trusted.

    Raises:
        SpecError: This network has no such arrangement.

    Example:
        >>> str(read(Topology.of("net", [3, 2]), "1-3.5-4"))
        '1-x2-3.5-4'
    """
    spec = topology.parse(text)
    running = set(spec.blocks)
    places = [_with_deleted(stage, kept) for stage, kept in zip(topology.stages, spec.stages, strict=True)]
    if "x" in text:
        # The text names the deleted blocks of some stages itself, and with them their places.
        for s, part in enumerate(text.strip().split(".")):
            written = tuple(int(token.lstrip("x")) for token in part.split("-") if token != "x")
            if sorted(written) == sorted(topology.stages[s]):
                places[s] = written
    return Arrangement(tuple(places), frozenset(set(range(1, topology.num_blocks + 1)) - running))


def _with_deleted(stage: tuple[int, ...], kept: tuple[int, ...]) -> tuple[int, ...]:
    """Return the kept blocks in their order, each missing block inserted behind the one that precedes it in the full stage."""
    shown = list(kept)
    for block in stage:
        if block not in kept:
            before = [b for b in stage if b < block]
            place = shown.index(before[-1]) + 1 if before and before[-1] in shown else 0
            shown.insert(place, block)
    return tuple(shown)


def read_or_full(topology: Topology, text: str) -> tuple[Arrangement, str]:
    """Return the arrangement of a text and an empty string, or the full network and the reason why the text has none."""
    try:
        return read(topology, text), ""
    except SpecError as error:
        return full(topology), str(error)


def without(topology: Topology, blocks: Sequence[int]) -> Arrangement:
    """Return the full network without some blocks.

    Raises:
        SpecError: One of them can't be deleted.
    """
    arrangement = Arrangement(topology.stages, frozenset(blocks))
    topology.check(arrangement.spec)
    return arrangement


@dataclass(frozen=True)
class Edit:
    """A ready-made arrangement and its button.

    Attributes:
        name: Of the button's text, in the section `edit` of the texts.
        arrangement: What the button shows.
        values: What the text names.
    """

    name: str
    arrangement: Arrangement
    values: Mapping[str, int] = field(default_factory=dict)

    def label(self, words: Words = ENGLISH) -> str:
        """Return the text of the button."""
        return words.say(f"edit.{self.name}", **self.values)


@dataclass(frozen=True, kw_only=True)
class Presets:
    """The ready-made edits of a network; None for those that it does not have.

    Attributes:
        delete: One block deleted: the one that shows the difference between the methods best.
        swap: Two blocks of one stage swapped, likewise.
        half: The first half of every stage.
        smallest: The first block of every stage.
    """

    delete: Edit | None = None
    swap: Edit | None = None
    half: Edit | None = None
    smallest: Edit | None = None

    @property
    def edits(self) -> list[Edit]:
        """Those that the network has, in the order of their buttons."""
        return [edit for edit in (self.delete, self.swap, self.half, self.smallest) if edit is not None]


def presets(topology: Topology, contrasts: Sequence[Contrast] = ()) -> Presets:
    """Return the ready-made edits of a network.

    No edit deletes or moves the first block of a stage where another block can take its place: the paper's methods never skip
    these.

    Args:
        topology: The network.
        contrasts: What stored states show. Where they have no single deletion or no swap, the edit is one of the middle stage.
    """
    delete = swap = half = smallest = None
    if topology.removable:
        block = _clear_block(topology, contrasts) or _middle_block(topology)
        delete = Edit("delete", without(topology, [block]), {"block": block})
        if pair := _clear_pair(contrasts) or _neighbours(topology):
            swap = Edit("swap", _swapped(topology, *pair), {"first": pair[0], "second": pair[1]})
    if topology.num_blocks > len(topology.sizes):
        half = Edit("half", _ordered(topology, [-(-n // 2) for n in topology.sizes]))
        smallest = Edit("smallest", _ordered(topology, [1] * len(topology.sizes)))
    return Presets(delete=delete, swap=swap, half=half, smallest=smallest)


def _middle_block(topology: Topology) -> int:
    """Return a removable block of the middle stage where it has one, not the first of a stage where another can be deleted."""
    middle_stage, firsts = len(topology.sizes) // 2, first_blocks(topology)
    blocks = [b for b in topology.removable if b not in firsts] or list(topology.removable)
    return next((b for b in blocks if topology.stage_of(b) == middle_stage), blocks[0])


def _clear_block(topology: Topology, contrasts: Sequence[Contrast]) -> int | None:
    """Return the block whose deletion is the clearest stored one."""
    clear = clearest_deletion(contrasts)
    return None if clear is None else next(iter(set(topology.full.blocks) - set(clear.spec.blocks)))


def _clear_pair(contrasts: Sequence[Contrast]) -> tuple[int, int] | None:
    """Return the blocks that change places in the clearest stored swap."""
    clear = clearest_swap(contrasts)
    if clear is None:
        return None
    moved = sorted(b for kept in clear.spec.stages for b, home in zip(kept, sorted(kept), strict=True) if b != home)
    return moved[0], moved[1]


def _neighbours(topology: Topology) -> tuple[int, int] | None:
    """Return the first two neighbours of one stage that may change places, without the first block of a stage.

    In training the first block of a stage always runs first, so that a swap with it would show something else than the others.
    """
    firsts = {stage[0] for stage in topology.stages}
    movable = {b for b in topology.removable if b not in firsts}
    pairs = ((a, a + 1) for a in sorted(movable) if a + 1 in movable)
    return next((pair for pair in pairs if topology.stage_of(pair[0]) == topology.stage_of(pair[1])), None)


def _swapped(topology: Topology, a: int, b: int) -> Arrangement:
    other = {a: b, b: a}
    return Arrangement(tuple(tuple(other.get(block, block) for block in stage) for stage in topology.stages), frozenset())


def _ordered(topology: Topology, depths: Sequence[int]) -> Arrangement:
    return read(topology, str(topology.ordered(depths)))


def random_ordered(topology: Topology, rng: random.Random) -> Arrangement:
    """Return a random ordered sub-network."""
    return read(topology, str(draw_ordered(topology, rng)))


def summarise(topology: Topology, arrangement: Arrangement, words: Words = ENGLISH) -> str:
    """Return one sentence that says what was done to the network.

    Example:
        >>> net = Topology.of("toy", [3, 2])
        >>> for text in ("main", "1-3.4-5", "d1-1", "1-3-2.4-5", "3-2-1.5-4", "1-2-3.5"):
        ...     print(summarise(net, read(net, text)))
        Nothing is gone yet.
        Block 2 is gone.
        3 of 5 blocks are gone.
        Blocks 2 and 3 have changed places.
        4 blocks stand in another order.
        Block 4 is gone.
    """
    num_gone = len(arrangement.deleted)
    moved = sorted(b for kept in arrangement.spec.stages for b, home in zip(kept, sorted(kept), strict=True) if b != home)
    parts = []
    if num_gone == 1:
        parts.append(words.say("edit.one_gone", block=min(arrangement.deleted)))
    elif num_gone:
        parts.append(words.say("edit.many_gone", gone=num_gone, blocks=topology.num_blocks))
    if len(moved) == 2:
        parts.append(words.say("edit.two_moved_also" if parts else "edit.two_moved", first=moved[0], second=moved[1]))
    elif moved:
        parts.append(words.say("edit.many_moved", moved=len(moved)))
    return words.say("edit.all", edits=words.say("edit.and").join(parts)) if parts else words.say("edit.nothing_gone")


def caution(topology: Topology, arrangement: Arrangement, words: Words = ENGLISH) -> str:
    """Return a note where a first block that the paper's methods never skip is missing or moved; empty elsewhere.

    Every ordered sub-network keeps these blocks first, so that no training method ever runs without them.
    """
    firsts = first_blocks(topology)
    deleted = sorted(set(firsts) & arrangement.deleted)
    moved = [
        stage[0]
        for kept, stage in zip(arrangement.spec.stages, topology.stages, strict=True)
        if stage[0] in firsts and stage[0] in kept and kept[0] != stage[0]
    ]
    if not deleted and not moved:
        return ""
    block = (deleted or moved)[0]
    return words.say("edit.caution", block=block)
