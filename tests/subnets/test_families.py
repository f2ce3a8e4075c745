"""Families of sub-networks: the paper's Table r2 to the letter, the counts of every network, and draws."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.errors import SpecError, UsageError
from stimcore.subnets import families
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
    specs = list(families.permutations(MOBILENET, operations))
    assert {str(spec) for spec in specs} == set(printed)
    assert len(specs) == len(printed) == {1: 5, 2: 9, 3: 7, 4: 2}[operations]


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
    assert everything[0] == MOBILENET.ordered((1, 1, 1, 1, 1))
    assert everything[-1] == MOBILENET.full


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
