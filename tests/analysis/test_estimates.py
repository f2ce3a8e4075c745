"""Estimates worked out by hand, and the ends of every range."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.analysis.estimates import Estimate, difference, ratio
from tests.analysis.made import result

counts = st.integers(0, 1000)


def test_difference_is_newcombes() -> None:
    gap = difference(result("1", 900), result("1", 850))
    assert gap.value == 5.0
    # By hand: the Wilson interval of 900/1000 is [87.98, 91.71], that of 850/1000 [82.65, 87.08].
    assert gap.low == pytest.approx(5 - math.hypot(90 - 87.9843, 87.0790 - 85), abs=2e-3)
    assert gap.high == pytest.approx(5 + math.hypot(91.7085 - 90, 85 - 82.6531), abs=2e-3)


@given(counts, counts)
@settings(deadline=None, max_examples=60)
def test_difference_is_antisymmetric_and_in_range(a: int, b: int) -> None:
    there, back = difference(result("1", a), result("1", b)), difference(result("1", b), result("1", a))
    assert there.value == -back.value
    assert there.low == pytest.approx(-back.high)
    assert -100 <= there.low <= there.value <= there.high <= 100


def test_ratio_is_from_end_to_end() -> None:
    assert ratio(Estimate(1, 0.5, 2), Estimate(10, 8, 20)) == Estimate(0.1, 0.025, 0.25)


def test_ratio_to_zero_is_none_and_near_zero_is_open_above() -> None:
    assert ratio(Estimate(1, 1, 1), Estimate(0, 0, 1)) is None
    open_end = ratio(Estimate(1, 1, 1), Estimate(1, 0, 2))
    assert open_end is not None
    assert open_end.high == math.inf
