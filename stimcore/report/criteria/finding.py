"""What the stored results say about one claim, and how numbers are put into its words."""

from collections.abc import Sequence
from dataclasses import dataclass

from stimcore.analysis.estimates import Estimate
from stimcore.analysis.networks import TrainedNetwork
from stimcore.analysis.seeds import compare

MAX_LISTED = 5
"""Exceptions that a finding lists by name."""


@dataclass(frozen=True)
class Finding:
    """What the stored results say about one claim.

    Attributes:
        measured: The numbers, in words.
        holds: The verdict; None where nothing could be measured.
        clear: Whether the interval lies wholly on the verdict's side; None where there is no interval.
        seeds: Number of seeds behind the interval.
    """

    measured: str
    holds: bool | None
    clear: bool | None = None
    seeds: int = 1


def missing(*what: str) -> Finding:
    """Return the finding that the results needed are missing, which is neither holding nor failing.

    Example:
        >>> missing("common training").measured
        'missing: common training'
    """
    return Finding("missing: " + ", ".join(what), None)


def count_confirming(num: int, exceptions: Sequence[str], basis: str = "") -> str:
    """Return how many comparisons confirm a claim about all of them, and which do not.

    It begins a finding, because long ones are cut at their ends: what contradicts a claim must stay.

    Args:
        num: Number of comparisons.
        exceptions: Those that contradict the claim, in words; the first `MAX_LISTED` are named.
        basis: What the comparisons rest on, in words with a space before them.

    Example:
        >>> count_confirming(9, ["7 deleted (65.05 against 64.59)"])
        '8 of 9 are; not: 7 deleted (65.05 against 64.59)'
        >>> count_confirming(9, []), count_confirming(9, ["one"], " (means over 3 seeds)")
        ('9 of 9 are', '8 of 9 are (means over 3 seeds); not: one')
    """
    more = f" and {len(exceptions) - MAX_LISTED} more" if len(exceptions) > MAX_LISTED else ""
    listed = f"; not: {', '.join(exceptions[:MAX_LISTED])}{more}" if exceptions else ""
    return f"{num - len(exceptions)} of {num} are{basis}{listed}"


def in_points(value: Estimate) -> str:
    """Return a difference of accuracies with its interval, in words."""
    return f"{value.value:.2f} points [{value.low:.2f}, {value.high:.2f}]"


def in_pct(value: Estimate) -> str:
    """Return an accuracy with its interval, in words."""
    return f"{value.value:.2f}% [{value.low:.2f}, {value.high:.2f}]"


def with_basis(value: Estimate) -> str:
    """Return a difference of accuracies with its intervals and what they cover, in words.

    Example:
        >>> from stimcore.analysis.estimates import Basis
        >>> with_basis(Estimate(0.06, 0.02, 0.09, Basis.SEEDS, 3, over_images=(-0.25, 0.37)))
        '0.06 points [0.02, 0.09] (over 3 seeds; over images [-0.25, 0.37])'
        >>> with_basis(Estimate(0.06, -0.46, 0.58, Basis.PAIRED))
        '0.06 points [-0.46, 0.58] (paired over images)'
    """
    images = "" if value.over_images is None else "; over images [{:.2f}, {:.2f}]".format(*value.over_images)
    return f"{in_points(value)} ({value.basis_words}{images})"


def basis_of(values: Sequence[Estimate]) -> str:
    """Return what the intervals of the values cover, in words."""
    return ", ".join(dict.fromkeys(value.basis_words for value in values))


def all_positive(values: Sequence[Estimate]) -> tuple[bool, bool, int]:
    """Return whether all values are above 0, whether their intervals confirm that verdict, and over how many seeds."""
    seeds = min(value.seeds for value in values)
    if all(value.value > 0 for value in values):
        return True, all(value.lowest > 0 for value in values), seeds
    return False, any(value.highest <= 0 for value in values), seeds


def compare_mains(first: TrainedNetwork, second: TrainedNetwork) -> Estimate:
    """Return by how many points the first main network is more accurate than the second."""
    gain = compare(first, second)
    assert gain is not None  # every network has a result of itself
    return gain
