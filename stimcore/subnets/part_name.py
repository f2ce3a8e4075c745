"""Names of the parts that a network runs: `stem`, `block7`, `block7@28`, `transition1@24+3`, `head@12+2`."""

import re
from typing import Literal, NamedTuple, Self

from stimcore.errors import SpecError

PartKind = Literal["stem", "block", "transition", "head"]
_NAME = re.compile(
    r"(?P<kind>stem|head|(?:block|transition)(?=[1-9]))(?P<number>[1-9][0-9]{0,4})?"
    r"(?:@(?P<entering>[1-9][0-9]{0,5})(?:\+(?P<depth>[1-9][0-9]{0,4}))?)?\Z",
    re.ASCII,
)


class PartName(NamedTuple):
    """The name of one part of a network; parts with equal names compute the same.

    A named tuple rather than a dataclass: tuples of part names are the keys of the prefix tree and of the engine's caches, and
    a named tuple is hashed and compared in C.

    Attributes:
        kind: What the part is.
        number: Number of a block or of a transition, from 1; 0 for stem and head.
        entering: For a narrowed part the number of channels that enter its stage; None for a whole part.
        depth: For a narrowed transition or head the number of blocks that its stage has; None otherwise.

    Example:
        >>> name = PartName.parse("transition1@24+3")
        >>> name.kind, name.number, name.entering, name.depth
        ('transition', 1, 24, 3)
        >>> str(name.whole), name.suffix, str(PartName.block(7))
        ('transition1', '@24+3', 'block7')
    """

    kind: PartKind
    number: int = 0
    entering: int | None = None
    depth: int | None = None

    @classmethod
    def block(cls, number: int, entering: int | None = None) -> Self:
        """Return the name of a block, narrowed to a stage that `entering` channels enter where that is given."""
        return cls("block", number, entering)

    @classmethod
    def transition(cls, number: int, entering: int | None = None, depth: int | None = None) -> Self:
        """Return the name of the transition behind stage `number`, counted from 1."""
        return cls("transition", number, entering, depth)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the name that prints as `text`; the inverse of `str`.

        Raises:
            SpecError: The text is not the name of a part.
        """
        match = _NAME.match(text)
        name = None if match is None else cls._from_match(match)
        if name is None or not name._consistent():
            raise SpecError(f"there is no part '{text[:60]}'", allowed="names such as block9@28, transition1@24+3, head@28+2")
        return name

    @classmethod
    def _from_match(cls, match: re.Match[str]) -> Self:
        number, entering, depth = (None if match[key] is None else int(match[key]) for key in ("number", "entering", "depth"))
        kinds: dict[str, PartKind] = {"stem": "stem", "block": "block", "transition": "transition", "head": "head"}
        return cls(kinds[match["kind"]], number or 0, entering, depth)

    def _consistent(self) -> bool:
        """Return whether the part has a number, channels and a depth where its kind has them, and only there."""
        if (self.number > 0) != (self.kind in ("block", "transition")):
            return False
        if self.entering is None:
            return self.depth is None
        return self.kind != "stem" and (self.depth is None) == (self.kind == "block")

    @property
    def narrowed(self) -> bool:
        """Whether the part reads fewer channels than in the main network, or writes fewer."""
        return self.entering is not None

    @property
    def whole(self) -> "PartName":
        """The name of the part of the main network that this part was narrowed from; itself for a whole part."""
        return self if self.entering is None else PartName(self.kind, self.number)

    @property
    def suffix(self) -> str:
        """What the part was narrowed to, as it is printed behind the whole part's name: `@28+2`; empty for a whole part."""
        if self.entering is None:
            return ""
        return f"@{self.entering}" if self.depth is None else f"@{self.entering}+{self.depth}"

    def __str__(self) -> str:
        return f"{self.kind}{self.number or ''}{self.suffix}"


STEM = PartName("stem")
HEAD = PartName("head")

Route = tuple[PartName, ...]
"""Names of the parts that run, in order, from the stem. The empty route stands for the images."""
