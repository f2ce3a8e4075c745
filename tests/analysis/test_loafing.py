"""Numbers worked out by hand, and the ends of every range."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.analysis import loafing
from stimcore.analysis.loafing import Estimate
from stimcore.subnets.topology import Topology
from tests.report.sweeps import record, row, sweep

SIX = Topology.of("six", [3, 3], fixed={4: "its shortcut is a projection"})
FULL = "1-2-3.4-5-6"
counts = st.integers(0, 1000)


def test_accuracy_and_difference() -> None:
    found = loafing.difference(row("1", 900), row("1", 850))
    assert found.value == 5.0
    # Newcombe by hand: Wilson of 900/1000 is [87.98, 91.71], of 850/1000 [82.65, 87.08].
    assert found.low == pytest.approx(5 - math.hypot(90 - 87.9843, 87.0790 - 85), abs=2e-3)
    assert found.high == pytest.approx(5 + math.hypot(91.7085 - 90, 85 - 82.6531), abs=2e-3)


@given(counts, counts)
@settings(deadline=None, max_examples=60)
def test_difference_is_antisymmetric_and_in_range(a: int, b: int) -> None:
    there, back = loafing.difference(row("1", a), row("1", b)), loafing.difference(row("1", b), row("1", a))
    assert there.value == -back.value and there.low == pytest.approx(-back.high)
    assert -100 <= there.low <= there.value <= there.high <= 100


def test_gap_is_paired_where_pairs_are_known() -> None:
    independent = loafing.loafing_gap(row("1", 900), row("1", 880))
    paired = loafing.loafing_gap(row("1", 900), row("1", 880), pairs=(30, 10))
    assert independent.value == paired.value == pytest.approx(2.0)
    assert paired.low > independent.low and paired.high < independent.high
    assert paired.low > 0 > independent.low  # 40 discordant images decide what two independent counts can't


def test_overall_by_hand() -> None:
    found = loafing.overall(sweep({"1.4": 600, "1-2.4": 700, "1-2-3.4": 800, FULL: 900}, FULL, 900))
    assert (found.num, found.main.value, found.mean.value) == (4, 90.0, 75.0)
    assert found.std.value == pytest.approx(math.sqrt(125))  # population: (15^2 + 5^2 + 5^2 + 15^2) / 4
    assert found.gap.value == pytest.approx(15.0)
    assert found.worst["spec"] == "1.4"
    assert found.mean.low < 75 < found.mean.high and found.gap.low < 15 < found.gap.high
    assert 0 < found.std.low < found.std.value < found.std.high


def test_overall_of_one_and_of_none() -> None:
    alone = loafing.overall(sweep({FULL: 900}, FULL, 900))
    assert (alone.num, alone.std.value, alone.std.low, alone.gap.value) == (1, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="at least one"):
        loafing.overall(sweep({}, FULL, 900))


def test_deviation_interval_covers_every_shift_of_its_size() -> None:
    made = sweep({"1.4": 890, "1-2.4": 895, FULL: 900}, FULL, 900)
    found = loafing.overall(made)
    for signs in range(8):
        moved = [
            item["accuracy_pct"]
            + (1 if signs >> i & 1 else -1) * (item["drop_interval_pct"][1] - item["drop_interval_pct"][0]) / 2
            for i, item in enumerate(made["results"])
        ]
        mean = sum(moved) / 3
        std = math.sqrt(sum((m - mean) ** 2 for m in moved) / 3)
        assert found.std.low - 1e-9 <= std <= found.std.high + 1e-9


def test_ratio_from_end_to_end() -> None:
    found = loafing.ratio(Estimate(1, 0.5, 2), Estimate(10, 8, 20))
    assert found == Estimate(0.1, 0.025, 0.25)
    assert loafing.ratio(Estimate(1, 1, 1), Estimate(0, 0, 1)) is None
    open_end = loafing.ratio(Estimate(1, 1, 1), Estimate(1, 0, 2))
    assert open_end is not None and open_end.high == math.inf


def test_improved_counts_ties_and_only_what_both_have() -> None:
    better = sweep({"1.4": 700, "1-2.4": 800, FULL: 899}, FULL, 899)
    worse = sweep({"1.4": 300, "1-2.4": 800, FULL: 900, "1.4-5": 100}, FULL, 900)
    assert loafing.improved(better, worse) == (2, 3)
    assert loafing.improved(better, sweep({}, FULL, 900)) == (0, 0)


def test_matrix_is_upper_triangular() -> None:
    small = loafing.Member("small", (1, 1), row("1.2", 800), sweep({"1.2": 800}, "1.2", 800))
    large = loafing.Member("large", (2, 2), row("1-2.3-4", 900), sweep({"1.3": 200, "1-2.3-4": 900}, "1-2.3-4", 900))
    cells = loafing.matrix([small, large])
    assert {key: cell["correct"] for key, cell in cells.items()} == {
        ("small", "small"): 800,
        ("small", "large"): 200,
        ("large", "large"): 900,
    }


def test_matrix_leaves_out_what_is_not_nested_or_not_swept() -> None:
    tall = loafing.Member("tall", (1, 3), row("1.2-3-4", 800), sweep({"1.2": 1}, "1.2-3-4", 800))
    wide = loafing.Member("wide", (3, 1), row("1-2-3.4", 900), None)
    huge = loafing.Member("huge", (3, 3), row(FULL, 950), None)
    assert set(loafing.matrix([tall, wide, huge])) == {("tall", "tall"), ("wide", "wide"), ("huge", "huge")}


def test_single_deletions_and_curve() -> None:
    made = sweep({"1-2.4-5-6": 850, "2-3.4-5-6": 100, "1.4-5-6": 800, "1-2.4-6": 700, "3.4": 0}, FULL, 900, kind="delete")
    assert [(block, item["correct"]) for block, item in loafing.single_deletions(SIX, made)] == [(1, 100), (3, 850)]
    curve = loafing.deletion_curve(SIX, made)
    assert [(s.amount, s.num, s.low, s.median, s.high) for s in curve] == [
        (1, 2, 5.0, 42.5, 80.0),
        (2, 2, 10.0, 15.0, 20.0),
        (4, 1, 90.0, 90.0, 90.0),
    ]
    assert curve[1].worst["spec"] == "1-2.4-6"


def test_permutation_curve_counts_operations() -> None:
    made = sweep({"2-1-3.4-5-6": 890, "3-2-1.4-5-6": 880, "2-3-1.4-5-6": 700, "2-1-3.4-6-5": 600}, FULL, 900, kind="permute")
    assert [(s.amount, s.num, s.median) for s in loafing.permutation_curve(SIX, made)] == [(1, 2, 1.5), (2, 2, 25.0)]
    assert loafing.permutation_curve(SIX, sweep({}, FULL, 900)) == []


def test_first_blocks_kept_leaves_out_rows_that_delete_or_move_one() -> None:
    specs = {"2-3.4-5-6": 1, "1-3.4-5-6": 2, "2-1-3.4-5-6": 3, "1-3-2.4-6-5": 4, "x.4-5-6": 5, FULL: 6}
    kept = loafing.first_blocks_kept(SIX, sweep(specs, FULL, 900))
    assert [item["correct"] for item in kept["results"]] == [2, 4, 6]
    assert kept["main"]["correct"] == 900


def test_ranking_and_agreement() -> None:
    ours = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert loafing.ranking(ours) == ["a", "c", "b"]
    assert loafing.agreement(ours, {"a": 30, "b": 20, "c": 10}) == (2, 3)
    assert loafing.agreement(ours, {"a": 30, "z": 1}) == (0, 0)
    assert loafing.agreement({"a": 1.0, "b": 1.0}, {"a": 2, "b": 1}) == (0, 1)


def test_training_cost() -> None:
    cost = loafing.training_cost([record(1, 12, 10, 800), record(2, 10, 9, 900), record(3, 30, 9.5, 900)])
    assert cost is not None
    assert (cost.epochs, cost.memory_mib) == (3, 900.0)
    assert cost.seconds == Estimate(12, 10, 30) and cost.cpu_seconds == Estimate(9.5, 9, 10)
    assert loafing.training_cost([]) is None


def test_bound_by_hand() -> None:
    assert loafing.limit(0, 0, 10) == pytest.approx(math.log(10))
    assert loafing.limit(1, 0.5, 10) == pytest.approx(1 + (0.5 + math.log(10)) * math.e)
    assert loafing.limit(1000, 0.5, 10) == math.inf
    made = sweep({"1.4": 700, FULL: 900}, FULL, 900)
    made["main"] |= {"ce_nats": 0.25, "max_ce_nats": 2.0}
    made["results"][0] |= {"ce_nats": 1.0, "kl_nats": 0.75}
    made["results"][1] |= {"ce_nats": 0.25, "kl_nats": 0.0}
    found = loafing.bound(made, 10)
    assert found is not None
    assert (found.eps1, found.eps2, found.gap) == (2.0, 0.75, 0.375)
    assert found.limit == pytest.approx(2 + (0.75 + math.log(10)) * math.exp(2))
    assert found.gap < found.floor < found.limit


def test_bound_without_cross_entropies() -> None:
    made = sweep({"1.4": 700}, FULL, 900)
    del made["results"][0]["ce_nats"]
    assert loafing.bound(made, 10) is None
    assert loafing.bound(sweep({}, FULL, 900), 10) is None


def test_matrix_holds_networks_that_share_a_depth() -> None:
    small = loafing.Member("small", (2, 1), row("1-2.3", 800), None)
    large = loafing.Member("large", (2, 2), row("1-2.3-4", 900), sweep({"1-2.3": 700}, "1-2.3-4", 900))
    assert loafing.matrix([small, large])["small", "large"]["correct"] == 700
