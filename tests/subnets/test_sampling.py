"""Random sub-networks: how the draws of every sample space are distributed, and samples of families."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Hashable, Iterable

import pytest

from stimcore.errors import UsageError
from stimcore.subnets import families, sampling
from stimcore.subnets.sampling import (
    SAMPLE_SPACES,
    draw_deletions,
    draw_deletions_and_permutations,
    draw_ordered,
    smallest_deletion,
    smallest_ordered,
)
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

RESNET = Topology.of("resnet20", (3, 3, 3), {4: "stride 2", 7: "stride 2"})
MOBILENET = Topology.of("mobilenetv3", (2, 3, 4, 2, 3), dict.fromkeys((1, 3, 6, 10, 12), "stride"))
MIDDLE = Topology.of("middle", (5,), {3: "wider"})
DENSE = Topology.of("dense", (2, 3), ordered_only=True)
DRAWS = 12_000


def _uniform(values: Iterable[Hashable], expected: Iterable[Hashable]) -> None:
    """Chi-square test at the 99.9th percentile (Wilson-Hilferty), with every expected value and no other met."""
    counts, support = Counter(values), list(expected)
    assert set(counts) == set(support)
    share = counts.total() / len(support)
    chi_square = sum((count - share) ** 2 / share for count in counts.values())
    freedom = max(1, len(support) - 1)
    assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize("draw", [draw_deletions, draw_deletions_and_permutations])
@pytest.mark.parametrize("topology", [RESNET, MOBILENET], ids=str)
def test_the_number_kept_is_uniform_and_so_is_the_set_of_that_size(draw: sampling.DrawSpec, topology: Topology) -> None:
    rng = random.Random(0)
    specs = [draw(topology, rng, None) for _ in range(DRAWS)]
    for s, stage in enumerate(topology.stages):
        free = [block for block in stage if block in topology.removable]
        kept = [tuple(sorted(set(spec.stages[s]) & set(free))) for spec in specs]
        _uniform(map(len, kept), range(len(free) + 1))
        for size in range(len(free) + 1):
            _uniform((blocks for blocks in kept if len(blocks) == size), itertools.combinations(free, size))
        assert all(set(stage) - set(free) <= set(spec.stages[s]) for spec in specs)  # what is not removable stays
    for spec in specs:
        topology.check(spec)


def test_stages_are_drawn_independently() -> None:
    rng = random.Random(1)
    specs = [draw_deletions(RESNET, rng) for _ in range(DRAWS)]
    sizes = [tuple(map(len, spec.stages)) for spec in specs]
    _uniform(sizes, itertools.product((0, 1, 2, 3), (1, 2, 3), (1, 2, 3)))
    assert Spec(((), (4,), (7,))) in specs
    assert RESNET.full in specs
    assert smallest_deletion(RESNET) == Spec(((), (4,), (7,)))


def test_deletions_keep_the_order() -> None:
    rng = random.Random(2)
    for _ in range(500):
        spec = draw_deletions(MOBILENET, rng)
        assert all(list(stage) == sorted(stage) for stage in spec.stages)


def test_the_order_of_what_is_kept_is_uniform() -> None:
    rng = random.Random(3)
    specs = [draw_deletions_and_permutations(RESNET, rng) for _ in range(DRAWS)]
    for size in (2, 3):
        orders = [spec.stages[0] for spec in specs if len(spec.stages[0]) == size]
        _uniform(orders, itertools.permutations((1, 2, 3), size))
    assert all(spec.stages[1][0] == 4 and spec.stages[2][0] == 7 for spec in specs)


def test_no_block_moves_across_one_that_is_not_removable() -> None:
    rng = random.Random(4)
    specs = {draw_deletions_and_permutations(MIDDLE, rng) for _ in range(3000)}
    halves = [[(), (1,), (2,), (1, 2), (2, 1)], [(), (4,), (5,), (4, 5), (5, 4)]]
    assert specs == {Spec(((*left, 3, *right),)) for left, right in itertools.product(*halves)}
    for spec in specs:
        MIDDLE.check(spec)


@pytest.mark.parametrize("draw", [draw_deletions, draw_deletions_and_permutations])
def test_a_cap_holds_per_stage(draw: sampling.DrawSpec) -> None:
    rng = random.Random(5)
    specs = [draw(MOBILENET, rng, (0, 1, 2, 9, 0)) for _ in range(4000)]
    for s, sizes in enumerate(((2,), (2, 3), (2, 3, 4), (1, 2), (3,))):
        _uniform((len(spec.stages[s]) for spec in specs), sizes)
    for wrong in ((1, 1), (0, 0, 0, 0, -1)):
        with pytest.raises(UsageError, match="5 numbers from 0, one per stage"):
            draw(MOBILENET, rng, wrong)


def test_the_same_generator_gives_the_same_draws() -> None:
    for draw in SAMPLE_SPACES.values():
        first, again, other = ([draw(MOBILENET, rng, None) for _ in range(20)] for rng in map(random.Random, (7, 7, 8)))
        assert first == again != other


def test_the_smallest_of_every_space() -> None:
    assert smallest_ordered(MOBILENET) == MOBILENET.ordered([1] * 5)
    assert smallest_ordered(MOBILENET, (0, 1, 2, 9, 0)) == MOBILENET.ordered([2, 2, 2, 1, 3])
    assert smallest_deletion(MOBILENET) == Spec(((1,), (3,), (6,), (10,), (12,)))
    rng = random.Random(6)
    drawn = [draw_ordered(MOBILENET, rng, (0, 1, 2, 9, 0)) for _ in range(300)]
    assert min(drawn, key=lambda spec: len(spec.blocks)) == smallest_ordered(MOBILENET, (0, 1, 2, 9, 0))


def test_a_network_without_removable_blocks_has_ordered_sub_networks_only() -> None:
    rigid = Topology.of("rigid", (1, 1), {1: "stride 2", 2: "stride 2"})
    for draw in (draw_deletions, draw_deletions_and_permutations):
        with pytest.raises(UsageError, match="rigid has no block that can be deleted"):
            draw(rigid, random.Random(0))
    with pytest.raises(UsageError, match="dense has no block"):
        smallest_deletion(DENSE)


# ---- samples of families ----


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
        assert depths[0] == 2
        assert depths[1] >= 2
        assert depths[2] >= 2
        assert depths[3] == 2
    for wrong in ((1, 1), (0, 0, 0, 0, -1)):
        with pytest.raises(UsageError, match="sample space"):
            sampling.draw_ordered(MOBILENET, rng, wrong)
