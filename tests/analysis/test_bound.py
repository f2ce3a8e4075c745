"""Appendix B worked out by hand."""

import math
from dataclasses import replace

import pytest

from stimcore.analysis.bound import bound_limit, measure_bound
from tests.analysis.made import FULL, result, sweep


def test_limit_by_hand_and_beyond_any_float() -> None:
    assert bound_limit(0, 0, 10) == pytest.approx(math.log(10))
    assert bound_limit(1, 0.5, 10) == pytest.approx(1 + (0.5 + math.log(10)) * math.e)
    assert bound_limit(1000, 0.5, 10) == math.inf


def test_bound_by_hand() -> None:
    made = replace(
        sweep({}, FULL, 900),
        main=result(FULL, 900, ce=0.25, top=2.0),
        results=[result("1.4", 700, main=900, ce=1.0, kl=0.75), result(FULL, 900, ce=0.25, kl=0.0)],
    )
    bound = measure_bound(made, 10)
    assert bound is not None
    assert (bound.eps1, bound.eps2, bound.gap) == (2.0, 0.75, 0.375)
    assert bound.limit == pytest.approx(2 + (0.75 + math.log(10)) * math.exp(2))
    assert bound.gap < bound.floor < bound.limit


def test_without_all_cross_entropies_there_is_no_bound() -> None:
    made = replace(sweep({"1.4": 700}, FULL, 900), results=[result("1.4", 700), result("1-2.4", 700, ce=None)])
    assert measure_bound(made, 10) is None
    assert measure_bound(replace(made, results=[result("1.4", 700, kl=None)]), 10) is None
    assert measure_bound(sweep({}, FULL, 900), 10) is None
