"""Drops by amount of damage, worked out by hand."""

from stimcore.analysis.spreads import deletion_curve, first_blocks_kept, permutation_curve, single_deletions
from tests.analysis.made import FULL, SIX, sweep


def test_single_deletions_and_curve() -> None:
    made = sweep({"1-2.4-5-6": 850, "2-3.4-5-6": 100, "1.4-5-6": 800, "1-2.4-6": 700, "3.4": 0}, FULL, 900, kind="delete")
    assert [(block, each.correct) for block, each in single_deletions(SIX, made)] == [(1, 100), (3, 850)]
    curve = deletion_curve(SIX, made)
    assert [(s.amount, s.num, s.low, s.median, s.high) for s in curve] == [
        (1, 2, 5.0, 42.5, 80.0),
        (2, 2, 10.0, 15.0, 20.0),
        (4, 1, 90.0, 90.0, 90.0),
    ]
    assert str(curve[1].worst.spec) == "1-2.4-6"


def test_permutation_curve_counts_operations() -> None:
    made = sweep({"2-1-3.4-5-6": 890, "3-2-1.4-5-6": 880, "2-3-1.4-5-6": 700, "2-1-3.4-6-5": 600}, FULL, 900, kind="permute")
    assert [(s.amount, s.num, s.median) for s in permutation_curve(made)] == [(1, 2, 1.5), (2, 2, 25.0)]
    assert permutation_curve(sweep({}, FULL, 900)) == []


def test_first_blocks_kept_leaves_out_results_that_delete_or_move_one() -> None:
    specs = {"2-3.4-5-6": 1, "1-3.4-5-6": 2, "2-1-3.4-5-6": 3, "1-3-2.4-6-5": 4, "x.4-5-6": 5, FULL: 6}
    kept = first_blocks_kept(SIX, sweep(specs, FULL, 900))
    assert [each.correct for each in kept.results] == [2, 4, 6]
    assert kept.main.correct == 900
