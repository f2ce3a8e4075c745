"""Which blocks of a network run, and in what order (`Spec`).

A spec is a value. It is passed as an argument everywhere; no network, session or server keeps a "current" sub-network.
"""

import functools
import re
from dataclasses import dataclass
from typing import Self

from stimcore.errors import SpecError

MAX_SPEC_CHARS = 16_384
"""Longest text that is read as a spec: several times the full spec of ResNet-1202."""

_STAGE = r"(?:x|[1-9][0-9]{0,4}(?:-[1-9][0-9]{0,4})*)"
_LONG_FORM = re.compile(rf"{_STAGE}(?:\.{_STAGE})*\Z", re.ASCII)


@dataclass(frozen=True, order=True)
class Spec:
    """The blocks that run, in order, stage by stage.

    Attributes:
        stages: For each stage the block numbers in running order. Blocks are counted from 1 through the whole network.

    Example:
        >>> spec = Spec(((1, 2), (), (5, 4)))
        >>> str(spec), spec.blocks
        ('1-2.x.5-4', (1, 2, 5, 4))
    """

    stages: tuple[tuple[int, ...], ...]

    @property
    def blocks(self) -> tuple[int, ...]:
        """All running blocks in order."""
        return tuple(block for stage in self.stages for block in stage)

    def __str__(self) -> str:
        """Return the long form: dots between stages, dashes between blocks, `x` for a stage without blocks."""
        return ".".join(map(_stage_text, self.stages))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the spec that prints as `text`; the inverse of `str`, without a check against any network.

        Text that a user typed goes through `Topology.parse` instead, which also reads short forms and checks the blocks.

        Raises:
            SpecError: The text is not the long form of a spec.

        Example:
            >>> Spec.from_text("1-2.x.5-4").stages
            ((1, 2), (), (5, 4))
        """
        if len(text) > MAX_SPEC_CHARS or not _LONG_FORM.match(text):
            raise SpecError(f"'{text[:60]}' is no spec", allowed="block numbers with - between blocks and . between stages")
        return cls(tuple(() if stage == "x" else tuple(map(int, stage.split("-"))) for stage in text.split(".")))


@functools.lru_cache(maxsize=4096)
def _stage_text(stage: tuple[int, ...]) -> str:
    """Return the long form of one stage; cached, because the specs of a family share few stages and are printed often."""
    return "-".join(map(str, stage)) or "x"
