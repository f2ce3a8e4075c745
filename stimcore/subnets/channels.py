"""Channels of a network whose blocks concatenate (DenseNet): how many enter each part, which of them a sub-network still has.

The rule that both halves share: torch slices parameters by it, the serving half slices initialisers by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stimcore.errors import SpecError
from stimcore.subnets.part_name import HEAD, STEM, PartName, Route

Ranges = tuple[tuple[int, int], ...]
"""Channel numbers of the main network as half-open ranges, ascending."""


@dataclass(frozen=True)
class KeptChannels:
    """What a narrowed part keeps of the part that it was narrowed from.

    Attributes:
        part: Name of the whole part: `block7`, `transition2`, `head`.
        reads: The incoming channels that remain.
        writes: The outgoing channels that remain, of a transition; empty where all do.
    """

    part: PartName
    reads: Ranges
    writes: Ranges = ()

    def along(self, axis: str) -> Ranges:
        """What remains along an axis that follows the channels coming `in` or going `out`; empty for any other axis."""
        return {"in": self.reads, "out": self.writes}.get(axis, ())


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Channel arithmetic: every block adds `growth` channels, a transition between two stages halves what there is.

    A sub-network keeps the first blocks of every stage. What follows reads the channels that remain, with the weights that the
    main network has for those channels; a narrower transition keeps its first output channels (a choice; docs/semantics.md,
    "Networks").

    Attributes:
        stem: Channels that enter the first stage.
        growth: Channels that every block adds.
    """

    stem: int
    growth: int

    def __post_init__(self) -> None:
        if self.stem < 1 or self.growth < 1:
            raise SpecError(f"a stem of {self.stem} channels and a growth of {self.growth}", allowed="1 and more")

    def entering(self, depths: Sequence[int]) -> tuple[int, ...]:
        """Channels that enter each stage when stage s has `depths[s]` blocks."""
        widths = [self.stem]
        for depth in depths[:-1]:
            widths.append((widths[-1] + depth * self.growth) // 2)
        return tuple(widths)

    def route(self, sizes: Sequence[int], depths: Sequence[int]) -> Route:
        """Part names of an ordered sub-network, in order.

        A part that computes what it computes in the main network has its plain name. Otherwise there stands behind an `@` how
        many channels enter the stage, for `transition` and `head` also how many blocks it has: `block9@28`, `head@28+2`.

        Args:
            sizes: Blocks per stage of the main network.
            depths: Blocks per stage of the sub-network, each from 1 up to the stage's size.
        """
        names, first = [STEM], 1
        rows = zip(sizes, depths, self.entering(sizes), self.entering(depths), strict=True)
        for stage, (size, depth, whole, own) in enumerate(rows, 1):
            entering = None if own == whole else own
            names += [PartName.block(block, entering) for block in range(first, first + depth)]
            end = HEAD if stage == len(sizes) else PartName.transition(stage)
            names.append(end if (own, depth) == (whole, size) else end._replace(entering=own, depth=depth))
            first += size
        return tuple(names)

    def kept(self, sizes: Sequence[int], name: PartName) -> KeptChannels | None:
        """Return which channels a part named by `route` keeps, None for a whole part."""
        if name.entering is None:
            return None
        if name.kind == "block":
            stage, position = _place(sizes, name.number)
            return KeptChannels(name.whole, self._reads(sizes, stage, name.entering, position))
        assert name.depth is not None
        stage = len(sizes) - 1 if name.kind == "head" else name.number - 1
        writes = () if name.kind == "head" else ((0, (name.entering + name.depth * self.growth) // 2),)
        return KeptChannels(name.whole, self._reads(sizes, stage, name.entering, name.depth), writes)

    def _reads(self, sizes: Sequence[int], stage: int, base: int, blocks: int) -> Ranges:
        """The channels that are left of those entering the stage, then those of its first `blocks` blocks."""
        whole = self.entering(sizes)[stage]
        end = whole + blocks * self.growth
        if base == whole or blocks == 0:
            return ((0, base if blocks == 0 else end),)
        return (0, base), (whole, end)


def _place(sizes: Sequence[int], block: int) -> tuple[int, int]:
    """Stage and position in it, both from 0, of a block counted from 1."""
    stage, position = 0, block - 1
    while position >= sizes[stage]:
        position -= sizes[stage]
        stage += 1
    return stage, position
