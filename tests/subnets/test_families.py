"""Families of sub-networks: the paper's Table r2 to the letter, the counts of every network, and draws."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.errors import SpecError, UsageError
from stimcore.subnets import families, sampling
from stimcore.subnets.channels import Channels
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

MOBILENET = Topology.of("mobilenetv3", (2, 3, 4, 2, 3), dict.fromkeys((1, 3, 6, 10, 12), "no skip path"))
DENSE = Topology.of("dense", (2, 3), ordered_only=True, channels=Channels(stem=8, growth=4))

# Source: paper, Table r2, with `.` between stages and `-` between blocks.
TABLE_R2 = {
    1: """1-2.3-5-4.6-7-8-9.10-11.12-13-14 1-2.3-4-5.6-8-7-9.10-11.12-13-14 1-2.3-4-5.6-7-9-8.10-11.12-13-14
          1-2.3-4-5.6-9-8-7.10-11.12-13-14 1-2.3-4-5.6-7-8-9.10-11.12-14-13""",
    2: """1-2.3-5-4.6-8-7-9.10-11.12-13-14 1-2.3-5-4.6-7-9-8.10-11.12-13-14 1-2.3-5-4.6-9-8-7.10-11.12-13-14
          1-2.3-4-5.6-8-7-9.10-11.12-14-13 1-2.3-4-5.6-7-9-8.10-11.12-14-13 1-2.3-4-5.6-9-8-7.10-11.12-14-13
          1-2.3-4-5.6-8-9-7.10-11.12-13-14 1-2.3-4-5.6-9-7-8.10-11.12-13-14 1-2.3-5-4.6-7-8-9.10-11.12-14-13""",
    3: """1-2.3-5-4.6-8-7-9.10-11.12-14-13 1-2.3-5-4.6-7-9-8.10-11.12-14-13 1-2.3-5-4.6-9-8-7.10-11.12-14-13
          1-2.3-5-4.6-8-9-7.10-11.12-13-14 1-2.3-5-4.6-9-7-8.10-11.12-13-14 1-2.3-4-5.6-8-9-7.10-11.12-14-13
          1-2.3-4-5.6-9-7-8.10-11.12-14-13""",
    4: "1-2.3-5-4.6-8-9-7.10-11.12-14-13 1-2.3-5-4.6-9-7-8.10-11.12-14-13",
}


@pytest.mark.parametrize("operations", [1, 2, 3, 4])
def test_table_r2(operations: int) -> None:
    printed = TABLE_R2[operations].split()
    found = list(families.permutations(MOBILENET, operations))
    assert {str(spec) for spec in found} == set(printed)
    assert len(found) == len(printed) == {1: 5, 2: 9, 3: 7, 4: 2}[operations]


def test_table_r2_is_all_there_is() -> None:
    everything = list(families.permutations(MOBILENET))
    assert len(everything) == families.count_permutations(MOBILENET) == 23
    assert MOBILENET.full not in everything
    assert Counter(families.count_operations(spec) for spec in everything) == {1: 5, 2: 9, 3: 7, 4: 2}


def test_deletions_of_mobilenet() -> None:
    assert MOBILENET.removable == (2, 4, 5, 7, 8, 9, 11, 13, 14)
    everything = list(families.deletions(MOBILENET))
    assert len(everything) == len(set(everything)) == families.count_deletions(MOBILENET) == 511
    assert [14 - len(spec.blocks) for spec in everything] == sorted(14 - len(spec.blocks) for spec in everything)
    assert [str(spec) for spec in families.deletions(MOBILENET, 9)] == ["1.3.6.10.12"]
    assert len(list(families.deletions(MOBILENET, 2))) == 36


def test_ordered_of_mobilenet() -> None:
    everything = list(families.ordered(MOBILENET))
    assert len(set(everything)) == families.count_ordered(MOBILENET) == 144
    assert everything[0] == MOBILENET.ordered((1, 1, 1, 1, 1)) and everything[-1] == MOBILENET.full


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    return Topology.of("any", sizes, dict.fromkeys(draw(st.sets(st.integers(1, sum(sizes)))), "fixed"))


@settings(deadline=None, max_examples=50)
@given(topologies())
def test_families_are_what_they_count(topology: Topology) -> None:
    for kind in families.KINDS:
        everything = list(families.family(topology, kind))
        assert len(everything) == len(set(everything)) == families.count(topology, kind)
        for spec in everything:
            topology.check(spec)
            assert topology.parse(str(spec)) == spec


@settings(deadline=None, max_examples=50)
@given(st.permutations(range(1, 6)), st.permutations(range(6, 9)))
def test_operations_is_the_smallest_number_of_swaps(first: list[int], second: list[int]) -> None:
    """Against a breadth-first search over swaps."""
    topology = Topology.of("free", (5, 3))
    assert families.count_operations(Spec((tuple(first), tuple(second)))) == _swaps(tuple(first)) + _swaps(tuple(second))


def _swaps(order: tuple[int, ...]) -> int:
    seen, frontier, distance = {order}, {order}, 0
    while tuple(sorted(order)) not in seen:
        distance += 1
        frontier = {_swapped(o, i, j) for o in frontier for i, j in itertools.combinations(range(len(o)), 2)} - seen
        seen |= frontier
    return distance


def _swapped(order: tuple[int, ...], i: int, j: int) -> tuple[int, ...]:
    changed = list(order)
    changed[i], changed[j] = changed[j], changed[i]
    return tuple(changed)


def test_operations_ignores_deleted_blocks() -> None:
    assert families.count_operations(MOBILENET.parse("1.3-5.6-9-7.10.12")) == 1


@pytest.mark.parametrize("kind", families.KINDS)
def test_sample(kind: str) -> None:
    big = Topology.of("big", (10, 10, 10), {1: "fixed", 11: "fixed", 21: "fixed"})
    drawn = sampling.sample(big, kind, 40, random.Random(3))
    assert len(drawn) == len(set(drawn)) == 40
    assert drawn == sampling.sample(big, kind, 40, random.Random(3)) != sampling.sample(big, kind, 40, random.Random(4))
    for spec in drawn:
        big.check(spec)
        assert spec != big.full or kind == "ordered"
    small = Topology.of("small", (2, 2))
    assert sampling.sample(small, kind, 100, random.Random(0)) == list(families.family(small, kind))


def test_deletions_are_drawn_with_sizes_uniform() -> None:
    big = Topology.of("big", (10, 10))
    sizes = Counter(20 - len(s.blocks) for s in sampling.sample(big, "delete", 2000, random.Random(0)))
    # sizes 1 and 20 run out (20 sets and one set); every other one is met about equally often
    assert min(sizes[size] for size in range(3, 18)) > 60


def test_ordered_draws_are_uniform_per_stage() -> None:
    rng = random.Random(0)
    draws = [MOBILENET.depths(sampling.draw_ordered(MOBILENET, rng)) for _ in range(4000)]
    for stage, size in enumerate(MOBILENET.sizes):
        met = Counter(depths[stage] for depths in draws if depths)
        assert set(met) == set(range(1, size + 1))
        expected = 4000 / size
        # chi-square with size - 1 degrees of freedom; 16.3 is its 99.9th percentile for 3
        assert sum((count - expected) ** 2 / expected for count in met.values()) < 16.3


def test_sample_space_caps_what_is_skipped() -> None:
    rng = random.Random(0)
    for _ in range(100):
        depths = MOBILENET.depths(sampling.draw_ordered(MOBILENET, rng, (0, 1, 2, 0, 9)))
        assert depths is not None
        assert depths[0] == 2 and depths[1] >= 2 and depths[2] >= 2 and depths[3] == 2
    for wrong in ((1, 1), (0, 0, 0, 0, -1)):
        with pytest.raises(UsageError, match="sample space"):
            sampling.draw_ordered(MOBILENET, rng, wrong)


def test_what_a_network_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="no family 'random'; allowed: ordered, delete, permute"):
        families.family(MOBILENET, "random")
    for kind in ("delete", "permute"):
        assert families.count(DENSE, kind) == 0
        with pytest.raises(UsageError, match="its layers concatenate"):
            families.family(DENSE, kind)
    assert families.count(DENSE, "ordered") == 6
    with pytest.raises(SpecError, match="block 3 can't be deleted: no skip path"):
        families.without(MOBILENET, [3])
    with pytest.raises(SpecError, match="block 99 can't be deleted: there is no such block"):
        families.without(MOBILENET, [99])
    with pytest.raises(SpecError, match="its layers concatenate"):
        families.without(DENSE, [1])
