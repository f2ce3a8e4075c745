"""Channels of a network whose blocks concatenate (DenseNet): how many enter each part, and which a sub-network keeps.

Both halves follow the rule that is written here: torch slices parameters by it, the serving half slices initialisers by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stimcore.errors import SpecError
from stimcore.subnets.part_name import HEAD, STEM, PartName, Route

Ranges = tuple[tuple[int, int], ...]
"""Channel numbers of the main network, from 0, as ascending half-open ranges."""


@dataclass(frozen=True)
class KeptChannels:
    """The channels of the main network that a narrowed part keeps.

    Attributes:
        part: Name of the whole part: `block7`, `transition2`, `head`.
        reads: Incoming channels that remain.
        writes: Outgoing channels that remain; only transitions lose some, so it is empty for other parts: all remain.
    """

    part: PartName
    reads: Ranges
    writes: Ranges = ()

    def along(self, axis: str) -> Ranges:
        """Return what remains along one axis of a tensor.

        Args:
            axis: `in` if the axis follows the incoming channels, `out` if it follows the outgoing ones. Along any other axis
                everything remains, and the result is empty.

        Example:
            >>> KeptChannels(PartName.block(5), reads=((0, 6), (8, 16))).along("in")
            ((0, 6), (8, 16))
        """
        return {"in": self.reads, "out": self.writes}.get(axis, ())


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Channel arithmetic: every block adds `growth` channels, a transition between two stages halves their number.

    A sub-network keeps the first blocks of every stage. Every later part reads the channels that remain, with the weights
    that the main network has for those channels; a narrower transition keeps its first output channels. This is a choice:
    docs/semantics.md, "Networks".

    Attributes:
        stem: Channels that enter the first stage.
        growth: Channels that every block adds.

    Example:
        >>> channels = Channels(stem=8, growth=4)
        >>> channels.entering((2, 3, 2))
        (8, 8, 10)
        >>> " ".join(map(str, channels.route((2, 3, 2), (1, 3, 2))))
        'stem block1 transition1@8+1 block3@6 block4@6 block5@6 transition2@6+3 block6@9 block7@9 head@9+2'
        >>> channels.kept_channels((2, 3, 2), PartName.parse("block5@6")).reads
        ((0, 6), (8, 16))
    """

    stem: int
    growth: int

    def __post_init__(self) -> None:
        if self.stem < 1 or self.growth < 1:
            raise SpecError(f"a stem of {self.stem} channels and a growth of {self.growth}", allowed="1 and more")

    def entering(self, depths: Sequence[int]) -> tuple[int, ...]:
        """Return how many channels enter each stage if stage s has `depths[s]` blocks."""
        widths = [self.stem]
        for depth in depths[:-1]:
            widths.append((widths[-1] + depth * self.growth) // 2)
        return tuple(widths)

    def route(self, sizes: Sequence[int], depths: Sequence[int]) -> Route:
        """Return the names of the parts that an ordered sub-network runs, in order.

        A part that computes the same as in the main network has its plain name. The name of any other part ends with `@` and
        the number of channels that enter its stage, for a transition and for the head also `+` and the number of blocks of
        that stage: `block9@28`, `head@28+2`. These numbers determine every shape in the part, so that two sub-networks in
        which a part has the same name also share its slices.

        Args:
            sizes: Blocks per stage of the main network.
            depths: Blocks per stage of the sub-network, each from 1 to the size of the stage.
        """
        names, first = [STEM], 1
        stages = zip(sizes, depths, self.entering(sizes), self.entering(depths), strict=True)
        for number, (size, depth, main_width, width) in enumerate(stages, 1):
            narrowed_to = None if width == main_width else width
            names += [PartName.block(block, narrowed_to) for block in range(first, first + depth)]
            end = HEAD if number == len(sizes) else PartName.transition(number)
            names.append(end if (width, depth) == (main_width, size) else end._replace(entering=width, depth=depth))
            first += size
        return tuple(names)

    def kept_channels(self, sizes: Sequence[int], part: PartName) -> KeptChannels | None:
        """Return which channels a part of a route keeps; None for a whole part.

        Args:
            sizes: Blocks per stage of the main network.
            part: A name that `route` returned.
        """
        if part.entering is None:
            return None
        if part.kind == "block":
            stage, position = _locate(sizes, part.number)
            return KeptChannels(part.whole, self._reads(sizes, stage, part.entering, position))
        assert part.depth is not None
        stage = len(sizes) - 1 if part.kind == "head" else part.number - 1
        reads = self._reads(sizes, stage, part.entering, part.depth)
        writes = () if part.kind == "head" else ((0, (part.entering + part.depth * self.growth) // 2),)
        return KeptChannels(part.whole, reads, writes)

    def _reads(self, sizes: Sequence[int], stage: int, entering: int, num_blocks: int) -> Ranges:
        """Return the channels that a part reads after `num_blocks` blocks of a stage that `entering` channels enter.

        In the main network the channels that enter the stage are followed by those of its first block, then of its second,
        and so on. The narrower sub-network lacks the last of the entering ones; that leaves two ranges, with a gap between.
        """
        main_width = self.entering(sizes)[stage]
        end = main_width + num_blocks * self.growth
        if num_blocks == 0:
            return ((0, entering),)
        if entering == main_width:
            return ((0, end),)
        return (0, entering), (main_width, end)


def _locate(sizes: Sequence[int], block: int) -> tuple[int, int]:
    """Return stage and position in that stage, both from 0, of a block that is counted from 1."""
    stage, position = 0, block - 1
    while position >= sizes[stage]:
        position -= sizes[stage]
        stage += 1
    return stage, position
