"""Gaps, means and deviations worked out by hand."""

import math

import pytest

from stimcore.analysis.loafing import loafing_gap, overall
from tests.analysis.made import FULL, result, sweep


def test_gap_is_paired_where_pairs_are_known() -> None:
    independent = loafing_gap(result("1", 900), result("1", 880))
    paired = loafing_gap(result("1", 900), result("1", 880), pairs=(30, 10))
    assert independent.value == paired.value == pytest.approx(2.0)
    assert paired.low > independent.low
    assert paired.high < independent.high
    assert paired.low > 0 > independent.low  # 40 discordant images decide what two independent counts can't


def test_overall_by_hand() -> None:
    everything = overall(sweep({"1.4": 600, "1-2.4": 700, "1-2-3.4": 800, FULL: 900}, FULL, 900))
    assert (everything.num, everything.main.value, everything.mean.value) == (4, 90.0, 75.0)
    assert everything.std.value == pytest.approx(math.sqrt(125))  # population: (15^2 + 5^2 + 5^2 + 15^2) / 4
    assert everything.gap.value == pytest.approx(15.0)
    assert str(everything.worst.spec) == "1.4"
    assert everything.mean.low < 75 < everything.mean.high
    assert everything.gap.low < 15 < everything.gap.high
    assert 0 < everything.std.low < everything.std.value < everything.std.high


def test_overall_of_one_and_of_none() -> None:
    alone = overall(sweep({FULL: 900}, FULL, 900))
    assert (alone.num, alone.std.value, alone.std.low, alone.gap.value) == (1, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="at least one"):
        overall(sweep({}, FULL, 900))


def test_deviation_interval_covers_every_shift_of_its_size() -> None:
    made = sweep({"1.4": 890, "1-2.4": 895, FULL: 900}, FULL, 900)
    everything = overall(made)
    for signs in range(8):
        moved = [
            each.accuracy_pct + (1 if signs >> i & 1 else -1) * (each.drop_interval_pct[1] - each.drop_interval_pct[0]) / 2
            for i, each in enumerate(made.results)
        ]
        mean = sum(moved) / 3
        std = math.sqrt(sum((m - mean) ** 2 for m in moved) / 3)
        assert everything.std.low - 1e-9 <= std <= everything.std.high + 1e-9
