"""The ordered sub-networks of one method, ready to be drawn (Figs r1 and r8)."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stimcore.analysis.result import Result, Sweep
from stimcore.figures.style import Style
from stimcore.subnets.spec import Spec

MAX_POINTS = 1500
"""Points per method that are drawn one by one; of a larger sweep a seeded sample is drawn. Means are of all results."""


@dataclass(frozen=True)
class MethodSweep:
    """Results of one method and how they are drawn.

    Attributes:
        style: Colour, symbol and label of the method.
        sweep: Ordered sub-networks.
        names: Spec -> what a reader is shown for it; the long form where it is absent.
    """

    style: Style
    sweep: Sweep
    names: Mapping[Spec, str] = field(default_factory=dict)

    def name(self, spec: Spec) -> str:
        """Return what a reader is shown for a spec."""
        return self.names.get(spec, str(spec))


def drawn_results(results: Sequence[Result]) -> list[Result]:
    """Return the results that are drawn one by one: at most `MAX_POINTS`, the same ones every time.

    Example:
        >>> main = Result.counted(Spec.from_text("1"), images=10, correct=9, lost=0, won=0)
        >>> len(drawn_results([main] * 10)), len(drawn_results([main] * 2000))
        (10, 1500)
    """
    return list(results) if len(results) <= MAX_POINTS else random.Random(0).sample(list(results), MAX_POINTS)
