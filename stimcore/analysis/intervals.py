"""Intervals for accuracies and for drops between two networks on the same images."""

import math
from dataclasses import dataclass
from functools import cache

Z95 = 1.959963984540054
"""Two-sided 95% quantile of the standard normal distribution."""


def wilson(correct: int, images: int) -> tuple[float, float]:
    """Return the 95% interval of an accuracy, in percent [0, 100]; the whole range where there are no images.

    Args:
        correct: Images that were classified correctly.
        images: All images.

    Source: Wilson 1927, score interval without continuity correction.

    Example:
        >>> low, high = wilson(900, 1000)
        >>> f"{low:.2f} {high:.2f}"
        '87.98 91.71'
    """
    if images == 0:
        return 0.0, 100.0
    share = correct / images
    centre = (share + Z95**2 / (2 * images)) / (1 + Z95**2 / images)
    half = Z95 / (1 + Z95**2 / images) * math.sqrt(share * (1 - share) / images + Z95**2 / (4 * images**2))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


@dataclass(frozen=True)
class PairedDrop:
    """Accuracy of a main network minus that of a sub-network on the same images, in percentage points.

    Attributes:
        drop_pct: Drop in [-100, 100]; positive where the sub-network is worse.
        interval_pct: 95% interval of the drop.
    """

    drop_pct: float
    interval_pct: tuple[float, float]


def paired_drop(lost: int, won: int, images: int) -> PairedDrop:
    """Return the drop and its interval, from the images on which the two networks differ.

    Args:
        lost: Images that only the main network classifies correctly.
        won: Images that only the sub-network classifies correctly.
        images: All images.

    Source: Bonett & Price 2012, adjusted Wald interval for paired proportions.

    Example:
        >>> paired_drop(lost=20, won=10, images=200).drop_pct
        5.0
    """
    if images == 0:
        return PairedDrop(0.0, (-100.0, 100.0))
    # Adding one pseudo-count to each cell keeps the interval wide enough where few images differ.
    p_lost, p_won = (lost + 1) / (images + 2), (won + 1) / (images + 2)
    half = Z95 * math.sqrt(max(0.0, p_lost + p_won - (p_lost - p_won) ** 2) / (images + 2))
    centre = p_lost - p_won
    low, high = 100 * max(-1.0, centre - half), 100 * min(1.0, centre + half)
    drop = 100 * (lost - won) / images
    return PairedDrop(drop, (min(low, drop), max(high, drop)))


@cache
def student_t(freedom: int) -> float:
    """Return the two-sided 95% quantile of Student's t.

    Args:
        freedom: Degrees of freedom, from 1.

    Source: Abramowitz & Stegun 26.7.3 and 26.7.4, the distribution as a finite sum; the quantile by bisection.

    Example:
        >>> [round(student_t(freedom), 3) for freedom in (1, 2, 9)]
        [12.706, 4.303, 2.262]
    """
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_t(middle, freedom) < 0.95 else (low, middle)
    return low


def _central_t(t: float, freedom: int) -> float:
    """Return the probability that Student's t lies between -t and t."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for exponent in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (exponent + 1) / (exponent + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def mean_std(values: list[float]) -> tuple[float, float]:
    """Return mean and population standard deviation: Table r3's "All" column covers all sub-networks, not a sample.

    Raises:
        ValueError: There are no values.

    Example:
        >>> mean_std([70.0, 90.0])
        (80.0, 10.0)
    """
    if not values:
        raise ValueError("there are no values: a mean needs at least one")
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
