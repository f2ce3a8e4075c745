"""The bound of the paper's Appendix B on measured numbers, in nats."""

import math
from dataclasses import dataclass

from stimcore.analysis.result import Sweep


@dataclass(frozen=True)
class Bound:
    """The bound of Appendix B next to the gap that it bounds.

    Attributes:
        eps1: Largest cross entropy of the main network on one image.
        eps2: Largest mean KL(main || sub-network) among the sub-networks.
        num_classes: N.
        limit: `eps1 + (eps2 + log N) / exp(-eps1)`; infinite where it exceeds the largest float.
        gap: `|CE_main - mean CE_sub|`, means over images and sub-networks.
        floor: log N. The limit is never below it, however small eps1 and eps2 are.
    """

    eps1: float
    eps2: float
    num_classes: int
    limit: float
    gap: float
    floor: float


def bound_limit(eps1: float, eps2: float, num_classes: int) -> float:
    """Return `eps1 + (eps2 + log N) / exp(-eps1)` in nats.

    Source: paper, Appendix B, formula 11.

    Example:
        >>> round(bound_limit(1.0, 0.5, 10), 3)
        8.618
        >>> bound_limit(1000.0, 0.5, 10)
        inf
    """
    try:
        return eps1 + (eps2 + math.log(num_classes)) * math.exp(eps1)
    except OverflowError:
        return math.inf


def measure_bound(sweep: Sweep, num_classes: int) -> Bound | None:
    """Return the bound next to the measured gap, over a sweep of ordered sub-networks.

    Args:
        sweep: Results with their cross entropies.
        num_classes: N.

    Returns:
        None where the sweep is empty or a cross entropy is not known.

    Example:
        >>> from stimcore.analysis.result import Result
        >>> from stimcore.subnets.spec import Spec
        >>> main = Result.counted(Spec.from_text("1-2"), images=10, correct=9, lost=0, won=0, ce_nats=0.25, kl_nats=0.0,
        ...                       max_ce_nats=2.0)
        >>> small = Result.counted(Spec.from_text("1"), images=10, correct=7, lost=2, won=0, ce_nats=0.75, kl_nats=0.5,
        ...                        max_ce_nats=3.0)
        >>> sweep = Sweep(experiment="", method="common", kind="ordered", provider="", images=10, main=main,
        ...               results=[small, main])
        >>> bound = measure_bound(sweep, 10)
        >>> bound.eps1, bound.eps2, bound.gap, bound.gap < bound.limit
        (2.0, 0.5, 0.25, True)
    """
    eps1, main_ce = sweep.main.max_ce_nats, sweep.main.ce_nats
    entropies = [result.ce_nats for result in sweep.results if result.ce_nats is not None]
    divergences = [result.kl_nats for result in sweep.results if result.kl_nats is not None]
    num = len(sweep.results)
    if eps1 is None or main_ce is None or not num or len(entropies) < num or len(divergences) < num:
        return None
    eps2 = max(divergences)
    gap = abs(main_ce - math.fsum(entropies) / num)
    return Bound(eps1, eps2, num_classes, bound_limit(eps1, eps2, num_classes), gap, math.log(num_classes))
