"""Numbers with their 95% intervals: accuracies, drops, differences and ratios of results."""

import math
from dataclasses import dataclass
from enum import StrEnum

from stimcore.analysis.intervals import wilson
from stimcore.analysis.result import Result


class Basis(StrEnum):
    """What an interval covers, in the words of tables."""

    IMAGES = "over images"
    """The choice of test images, for one network or for a network and its own sub-network."""
    PAIRED = "paired over images"
    """The choice of test images, for two networks that were compared image by image."""
    INDEPENDENT = "independent"
    """The choice of test images, as if each of two networks had its own: wider than need be."""
    SEEDS = "over seeds"
    """The choice of seeds."""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval; `low <= value <= high`.

    Attributes:
        value: The number.
        low: Lower end of the interval.
        high: Upper end.
        basis: What the interval covers.
        seeds: Number of seeds behind it.
        over_images: Of a number over seeds, the 95% interval that covers the choice of test images instead, which all seeds
            share; None where it is not known, or the interval above is that one.
    """

    value: float
    low: float
    high: float
    basis: Basis = Basis.IMAGES
    seeds: int = 1
    over_images: tuple[float, float] | None = None

    @property
    def lowest(self) -> float:
        """The lower end of all intervals that are known: what neither seeds nor images explain is above it."""
        return self.low if self.over_images is None else min(self.low, self.over_images[0])

    @property
    def highest(self) -> float:
        """The upper end of all intervals that are known.

        Example:
            >>> gain = Estimate(0.06, 0.02, 0.09, Basis.SEEDS, 3, over_images=(-0.25, 0.37))
            >>> gain.lowest, gain.highest
            (-0.25, 0.37)
        """
        return self.high if self.over_images is None else max(self.high, self.over_images[1])

    @property
    def basis_words(self) -> str:
        """What the interval covers, for a reader.

        Example:
            >>> Estimate(1, 0, 2, Basis.SEEDS, 3).basis_words, Estimate(1, 0, 2).basis_words
            ('over 3 seeds', 'over images')
        """
        return f"over {self.seeds} seeds" if self.basis is Basis.SEEDS else self.basis.value


def accuracy(result: Result) -> Estimate:
    """Return the accuracy in percent [0, 100] with its 95% interval (Wilson).

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> accuracy(Result.counted(Spec.from_text("1.2"), images=200, correct=150, lost=0, won=0)).value
        75.0
    """
    return Estimate(100 * result.correct / result.images, *wilson(result.correct, result.images))


def drop(result: Result) -> Estimate:
    """Return the drop against the main network in points, with the paired 95% interval that is stored with it.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> drop(Result.counted(Spec.from_text("1.2"), images=200, correct=150, lost=20, won=10)).value
        5.0
    """
    return Estimate(result.drop_pct, *result.drop_interval_pct)


def difference(first: Result, second: Result) -> Estimate:
    """Return the accuracy of `first` minus that of `second` in points, treating the two counts as independent.

    Two networks that were evaluated on the same images agree on most of them, so this interval is wider than a paired one
    would be: it never claims too much.

    Source: Newcombe 1998, method 10 (from the two Wilson intervals).

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> better = Result.counted(Spec.from_text("1.2"), images=1000, correct=900, lost=0, won=0)
        >>> worse = Result.counted(Spec.from_text("1.2"), images=1000, correct=850, lost=0, won=0)
        >>> gap = difference(better, worse)
        >>> f"{gap.value:.2f} [{gap.low:.2f}, {gap.high:.2f}]"
        '5.00 [2.10, 7.90]'
    """
    a, b = accuracy(first), accuracy(second)
    value = a.value - b.value
    return Estimate(
        value,
        max(-100.0, value - math.hypot(a.value - a.low, b.high - b.value)),
        min(100.0, value + math.hypot(a.high - a.value, b.value - b.low)),
        Basis.INDEPENDENT,
    )


def ratio(above: Estimate, below: Estimate) -> Estimate | None:
    """Return `above / below` of numbers from 0, with the interval from end to end of both intervals.

    The upper end is infinite where the lower end of `below` is 0.

    Returns:
        None where `below` is 0.

    Example:
        >>> share = ratio(Estimate(1, 0.5, 2), Estimate(10, 8, 20))
        >>> share.value, share.low, share.high
        (0.1, 0.025, 0.25)
    """
    if below.value <= 0:
        return None
    high = above.high / below.low if below.low > 0 else math.inf
    return Estimate(above.value / below.value, above.low / below.high, high)
