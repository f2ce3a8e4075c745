"""Loafing in numbers: how far sub-networks fall behind their twins and behind their main network.

Accuracies are in percent [0, 100]; gaps, drops and deviations are in percentage points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stimcore.analysis.estimates import Estimate, accuracy, difference, drop
from stimcore.analysis.intervals import mean_std, paired_drop
from stimcore.analysis.result import Result, Sweep
from stimcore.subnets.spec import Spec


def loafing_gap(twin: Result, inside: Result, pairs: tuple[int, int] | None = None) -> Estimate:
    """Return the accuracy of a twin minus that of the same architecture inside the main network, in points.

    Args:
        twin: The network that was trained alone, on the evaluation images.
        inside: The sub-network on the same images.
        pairs: Images that only the twin classifies correctly, and images that only the sub-network does, where hits per image
            are known: the interval is then paired, otherwise that of `difference`.

    Example:
        >>> twin = Result.counted(Spec.from_text("1.2"), images=1000, correct=900, lost=0, won=0)
        >>> inside = Result.counted(Spec.from_text("1.4"), images=1000, correct=880, lost=0, won=0)
        >>> loafing_gap(twin, inside).low > 0, loafing_gap(twin, inside, pairs=(30, 10)).low > 0
        (False, True)
    """
    if pairs is None:
        return difference(twin, inside)
    gap = paired_drop(*pairs, twin.images)
    return Estimate(gap.drop_pct, *gap.interval_pct)


@dataclass(frozen=True)
class Overall:
    """All ordered sub-networks of a main network, the main network included (Table r3's "All").

    Attributes:
        num: Number of sub-networks.
        main: Accuracy of the main network.
        mean: Mean of the accuracies. Its interval is the mean of their intervals, end by end: the standard error of a mean is
            at most the mean of the standard errors, so this interval covers at least 95%.
        std: Population standard deviation of the accuracies in points. Its interval is plus or minus the root mean square of
            the half-widths of the drops: shifts of that size can't move a standard deviation further.
        gap: Main minus mean in points. Its interval is the mean of the paired intervals of the drops, end by end.
        worst: The result with the lowest accuracy.
    """

    num: int
    main: Estimate
    mean: Estimate
    std: Estimate
    gap: Estimate
    worst: Result


def overall(sweep: Sweep) -> Overall:
    """Return mean and deviation over a sweep of ordered sub-networks.

    Raises:
        ValueError: The sweep holds no results.

    Example:
        >>> main = Result.counted(Spec.from_text("1-2"), images=1000, correct=900, lost=0, won=0)
        >>> small = Result.counted(Spec.from_text("1"), images=1000, correct=700, lost=200, won=0)
        >>> sweep = Sweep(experiment="", method="common", kind="ordered", provider="", images=1000, main=main,
        ...               results=[small, main])
        >>> everything = overall(sweep)
        >>> everything.mean.value, everything.std.value, everything.gap.value, str(everything.worst.spec)
        (80.0, 10.0, 10.0, '1')
    """
    results = sweep.results
    accuracies, drops = [accuracy(result) for result in results], [drop(result) for result in results]
    mean, std = mean_std([a.value for a in accuracies])
    half_width = math.sqrt(_mean([((d.high - d.low) / 2) ** 2 for d in drops]))
    return Overall(
        num=len(results),
        main=accuracy(sweep.main),
        mean=Estimate(mean, _mean([a.low for a in accuracies]), _mean([a.high for a in accuracies])),
        std=Estimate(std, max(0.0, std - half_width), std + half_width),
        gap=Estimate(_mean([d.value for d in drops]), _mean([d.low for d in drops]), _mean([d.high for d in drops])),
        worst=min(results, key=lambda result: result.correct / result.images),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def ordered_depths(spec: Spec) -> tuple[int, ...]:
    """Return the depths of an ordered spec.

    Example:
        >>> ordered_depths(Spec.from_text("1-2.3"))
        (2, 1)
    """
    return tuple(map(len, spec.stages))


def find_ordered(sweep: Sweep, depths: Sequence[int]) -> Result | None:
    """Return the result of the ordered sub-network with these depths, None where the sweep has none.

    Example:
        >>> result = Result.counted(Spec.from_text("1-2.3"), images=10, correct=5, lost=0, won=0)
        >>> sweep = Sweep(experiment="", method="common", kind="ordered", provider="", images=10, main=result, results=[result])
        >>> find_ordered(sweep, [2, 1]) is result, find_ordered(sweep, [1, 1])
        (True, None)
    """
    return next((result for result in sweep.results if ordered_depths(result.spec) == tuple(depths)), None)
