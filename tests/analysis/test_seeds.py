"""Comparisons over seeds and image by image: by hand, and in the order of what is known."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stimcore.analysis.comparisons import ordered, twin_gaps
from stimcore.analysis.estimates import Basis, difference
from stimcore.analysis.intervals import paired_drop, student_t
from stimcore.analysis.networks import TrainedNetwork
from stimcore.analysis.result import Result
from stimcore.analysis.seeds import (
    all_ordered,
    compare,
    compare_all_ordered,
    group_by_run,
    main_accuracy,
    over_seeds,
    seed_groups,
)
from stimcore.subnets.spec import Spec
from tests.analysis.made import FULL, sweep

IMAGES = 1000


def network(
    name: str, correct: int, *, seed: int = 0, hits: NDArray[np.bool_] | None = None, **values: object
) -> TrainedNetwork:
    main = Result.counted(Spec.from_text(FULL), images=IMAGES, correct=correct, lost=0, won=0)
    given: dict[str, Any] = {
        "method": "common",
        "depths": (3, 3),
        "twin": False,
        "main": main,
        "hits": lambda _: hits,
        "seed": seed,
        **values,
    }
    return TrainedNetwork(name=name, **given)


def repeated(counts: list[int], **values: Any) -> TrainedNetwork:
    (run,) = group_by_run([network(f"seed{seed}", correct, seed=seed, **values) for seed, correct in enumerate(counts)])
    return run


def pattern(*parts: tuple[int, bool]) -> NDArray[np.bool_]:
    return np.concatenate([np.full(count, value) for count, value in parts])


def test_quantiles_of_students_t() -> None:
    """The values are those that every table prints."""
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 120: 1.980}
    assert {freedom: round(student_t(freedom), 3) for freedom in printed} == printed


def test_one_seed_with_hits_is_paired_image_by_image() -> None:
    first = pattern((850, True), (60, True), (50, False), (40, False))
    second = pattern((850, True), (60, False), (50, True), (40, False))
    gain = compare(network("a", 910, hits=first), network("b", 900, hits=second))
    assert gain is not None
    expected = paired_drop(60, 50, IMAGES)
    assert (gain.value, gain.low, gain.high) == (expected.drop_pct, *expected.interval_pct)
    assert gain.value == pytest.approx(1.0)
    assert (gain.basis, gain.seeds) == (Basis.PAIRED, 1)
    wide = compare(network("a", 910), network("b", 900))
    assert wide is not None
    assert wide.basis_words == "independent"
    assert gain.high - gain.low < wide.high - wide.low


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_the_paired_value_is_the_difference_of_the_counts(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs).T
    results = [
        Result.counted(Spec.from_text(FULL), images=len(pairs), correct=int(hits.sum()), lost=0, won=0) for hits in (a, b)
    ]
    first, second = (
        TrainedNetwork(name="n", method="common", depths=(3, 3), twin=False, main=main, hits={main.spec: hits}.get)
        for main, hits in zip(results, (a, b), strict=True)
    )
    gain = compare(first, second)
    assert gain is not None
    assert gain.value == pytest.approx(difference(*results).value)
    assert gain.low <= gain.value <= gain.high


def test_shared_seeds_are_paired() -> None:
    gain = compare(repeated([910, 906, 913]), repeated([900, 895, 902]))
    assert gain is not None
    values = [1.0, 1.1, 1.1]
    half = 4.302652729911275 * np.std(values, ddof=1) / math.sqrt(3)
    assert gain.value == pytest.approx(float(np.mean(values)))
    assert gain.low == pytest.approx(float(np.mean(values) - half))
    assert gain.high == pytest.approx(float(np.mean(values) + half))
    assert gain.basis_words == "over 3 seeds"


def test_seeds_that_agree_by_luck_do_not_hide_the_choice_of_images() -> None:
    """In each of three seeds the first is right on one image more, of 1,000; 200 images tell the two networks apart."""
    a = pattern((100, True), (100, False), (300, True), (500, False))
    b = pattern((100, False), (100, True), (300, True), (500, False))
    one_more = pattern((999, False), (1, True))

    def runs(name: str, hits: list[NDArray[np.bool_]]) -> TrainedNetwork:
        made = [network(f"{name}{seed}", int(row.sum()), seed=seed, hits=row) for seed, row in enumerate(hits)]
        return group_by_run(made[::-1])[0]

    first, second = runs("a", [a | one_more, a | one_more, b | one_more]), runs("b", [b, b, a])
    gain = compare(first, second)
    assert gain is not None
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))
    by_image = 100 * np.repeat([1 / 3, -1 / 3, 0, 1], [100, 100, 799, 1])
    half = 1.959964 * by_image.std(ddof=1) / math.sqrt(IMAGES)
    assert gain.over_images == pytest.approx((0.1 - half, 0.1 + half))
    assert (gain.lowest, gain.highest) == gain.over_images
    assert gain.lowest < 0 < gain.low
    only_counted = compare(first, runs("b", [b, b, a[:500]]))
    assert only_counted is not None
    assert only_counted.over_images is None


def test_seeds_that_are_not_shared_are_two_groups() -> None:
    first = repeated([910, 906, 913])
    (second,) = group_by_run([network(f"b{seed}", count, seed=seed) for seed, count in ((7, 900), (8, 895), (9, 902))])
    gain = compare(first, second)
    assert gain is not None
    a, b = np.array([91.0, 90.6, 91.3]), np.array([90.0, 89.5, 90.2])
    error = a.var(ddof=1) / 3 + b.var(ddof=1) / 3
    freedom = error**2 / ((a.var(ddof=1) / 3) ** 2 / 2 + (b.var(ddof=1) / 3) ** 2 / 2)
    half = student_t(math.floor(freedom)) * math.sqrt(error)
    assert gain.value == pytest.approx(float(a.mean() - b.mean()))
    assert gain.high - gain.value == pytest.approx(float(half))
    assert gain.basis is Basis.SEEDS


def test_runs_with_other_options_are_other_runs() -> None:
    runs = [
        network("lambda1", 900, method="stimulative", options={"weight": 1.0}),
        network("lambda5", 900, method="stimulative", options={"weight": 5.0}),
        network("lambda1-seed2", 905, method="stimulative", options={"weight": 1.0}, seed=2),
        network("lambda1-seed1", 910, method="stimulative", options={"weight": 1.0}, seed=1),
    ]
    grouped = group_by_run(runs)
    assert [(run.name, [other.seed for other in run.repeats]) for run in grouped] == [("lambda1", [1, 2]), ("lambda5", [])]
    assert main_accuracy(grouped[0]).value == pytest.approx(90.5)
    assert main_accuracy(grouped[1]).basis is Basis.IMAGES


def test_imported_weights_and_equal_seeds_are_runs_of_their_own() -> None:
    """Bundles that were converted all have seed 0 and no recipe: they are different networks, and none repeats another."""
    imported = [network(name, 900, method="imported", seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert [(run.name, run.repeats) for run in group_by_run(imported)] == [("a", ()), ("b", ()), ("c", ())]
    twice = [network("first", 900), network("again", 901), network("first-seed1", 902, seed=1)]
    grouped = [(run.name, [repeat.name for repeat in run.repeats]) for run in group_by_run(twice)]
    assert grouped == [("first", ["first-seed1"]), ("again", [])]


def test_means_over_all_ordered_sub_networks_are_over_the_seeds_that_were_swept() -> None:
    counts = [{"1.4": small, FULL: 900} for small in (500, 700)]
    runs = [network(f"s{seed}", 900, seed=seed, sweeps={"ordered": sweep(c, FULL, 900)}) for seed, c in enumerate(counts)]
    (run,) = group_by_run([*runs, network("s2", 900, seed=2)])
    everything = all_ordered(run)
    assert everything is not None
    assert everything.mean.value == pytest.approx(np.mean([70.0, 80.0]))
    assert everything.std.value == pytest.approx(np.mean([20.0, 10.0]))
    assert everything.gap.value == pytest.approx(15.0)
    assert everything.mean.seeds == 2
    assert all_ordered(network("alone", 900)) is None


def test_gaps_of_twins_are_over_the_seeds_of_both() -> None:
    twin = repeated([880, 884, 890], depths=(1, 1), twin=True)
    swept = [{"ordered": sweep({"1.4": small, FULL: 900}, FULL, 900)} for small in (100, 110, 120)]
    (main,) = group_by_run([network(f"m{seed}", 900, seed=seed, sweeps=sweeps) for seed, sweeps in enumerate(swept)])
    (gap,) = twin_gaps([twin], main)
    assert gap.points == over_seeds([78.0, 77.4, 77.0])
    assert (gap.alone, gap.inside) == (over_seeds([88.0, 88.4, 89.0]), over_seeds([10.0, 11.0, 12.0]))


def test_accuracies_beside_a_gap_are_of_the_same_seeds() -> None:
    """A main network with one seed is beside the twin of that seed, not beside the mean over all of the twin's."""
    twin = repeated([880, 884, 890], depths=(1, 1), twin=True)
    main = network("m0", 900, seed=0, sweeps={"ordered": sweep({"1.4": 100, FULL: 900}, FULL, 900)})
    (gap,) = twin_gaps([twin], main)
    assert (gap.alone.value, gap.inside.value, gap.points.seeds) == (88.0, 10.0, 1)
    assert gap.points.value == pytest.approx(78.0)
    assert ordered((2, 2))(main) is None


def test_means_over_ordered_sub_networks_are_paired_as_well_as_the_results_allow() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    specs = ["1.4", "1-2.4", FULL]

    def swept(name: str, seed: int, share: float, *, with_hits: bool) -> TrainedNetwork:
        bits = {Spec.from_text(spec): rng.random(IMAGES) < share for spec in specs}
        counts = {str(spec): int(row.sum()) for spec, row in bits.items()}
        sweeps = {"ordered": sweep(counts, FULL, counts[FULL])}
        made = network(name, counts[FULL], seed=seed, sweeps=sweeps)
        return replace(made, hits=bits.get) if with_hits else made

    first, second = (swept(name, 0, share, with_hits=True) for name, share in (("a", 0.9), ("b", 0.8)))
    gain = compare_all_ordered(first, second)
    assert gain is not None
    assert gain.basis is Basis.PAIRED
    rows = [[run.hits(Spec.from_text(spec)) for spec in specs] for run in (first, second)]
    by_image = [np.mean([row for row in of_run if row is not None], axis=0) for of_run in rows]
    gaps = 100 * (by_image[0] - by_image[1])
    assert gain.value == pytest.approx(gaps.mean())
    assert gain.value - gain.low == pytest.approx(1.959964 * gaps.std(ddof=1) / math.sqrt(IMAGES))
    means = [np.mean([r.accuracy_pct for r in run.sweeps["ordered"].results]) for run in (first, second)]
    assert gain.value == pytest.approx(means[0] - means[1])
    plain = [swept(name, 0, share, with_hits=False) for name, share in (("a", 0.9), ("b", 0.8))]
    wider = compare_all_ordered(*plain)
    assert wider is not None
    assert wider.basis is Basis.INDEPENDENT
    assert wider.high - wider.low > gain.high - gain.low
    assert compare_all_ordered(first, network("c", 900)) is None
    seeds = [
        [swept(f"{name}{seed}", seed, share, with_hits=True) for seed in (0, 1)] for name, share in (("a", 0.9), ("b", 0.8))
    ]
    over = compare_all_ordered(*(group_by_run(runs)[0] for runs in seeds))
    shares = [
        np.mean(np.array([[run.hits(Spec.from_text(s)) for s in specs] for run in runs], float), (0, 1)) for runs in seeds
    ]
    between = 100 * (shares[0] - shares[1])
    assert over is not None
    assert over.basis is Basis.SEEDS
    assert over.value == pytest.approx(between.mean())
    half = 1.959964 * between.std(ddof=1) / math.sqrt(IMAGES)
    assert over.over_images == pytest.approx((between.mean() - half, between.mean() + half))


def test_means_over_ordered_sub_networks_are_paired_by_seed() -> None:
    """Each of two methods has a seed that the other lacks, so that pairs by place are pairs of other seeds."""
    means = {"a": {0: 65.0, 1: 70.0, 2: 75.0, 3: 80.0}, "b": {1: 69.0, 2: 74.5, 3: 79.0, 5: 60.0}}

    def repeats(name: str, of_seed: dict[int, float]) -> TrainedNetwork:
        counts = {seed: {"1.4": round(20 * mean) - 900, FULL: 900} for seed, mean in of_seed.items()}
        runs = [network(f"{name}{seed}", 900, seed=seed, sweeps={"ordered": sweep(c, FULL, 900)}) for seed, c in counts.items()]
        (run,) = group_by_run(runs)
        return run

    first, second = (repeats(name, of_seed) for name, of_seed in means.items())
    gain = compare_all_ordered(first, second)
    gaps = [1.0, 0.5, 1.0]
    half = 4.302652729911275 * np.std(gaps, ddof=1) / math.sqrt(3)
    assert gain is not None
    assert (gain.value, gain.low, gain.high) == pytest.approx((np.mean(gaps), np.mean(gaps) - half, np.mean(gaps) + half))
    assert (gain.basis, gain.seeds) == (Basis.SEEDS, 3)
    # the same values under exchanged seeds have the same mean, and an interval many times as wide
    swapped = compare_all_ordered(first, repeats("b", {1: 79.0, 2: 69.0, 3: 74.5, 5: 60.0}))
    assert swapped is not None
    assert swapped.value == pytest.approx(gain.value)
    assert swapped.high - swapped.low > 10 * (gain.high - gain.low)
    assert compare_all_ordered(second, first) == over_seeds([-gap for gap in gaps])


def test_with_one_seed_in_common_that_seed_is_compared() -> None:
    """Common training of seed 0 had luck; the run has seed 1 only, and is 10 of 1,000 better than common training of seed 1."""
    common = repeated([900, 700, 900], sweeps={})
    run = network("other", 710, seed=1, method="stimulative")
    gain = compare(run, common)
    assert gain is not None
    assert gain.value == pytest.approx(1.0)
    assert compare(common, run).value == pytest.approx(-1.0)  # type: ignore[union-attr]


def test_with_one_swept_seed_in_common_that_seed_is_compared() -> None:
    def swept(correct: int) -> dict[str, object]:
        return {"ordered": sweep({"1.4": correct, FULL: 900}, FULL, 900)}

    runs = [network(f"common-{seed}", 900, seed=seed, sweeps=swept(count)) for seed, count in enumerate((900, 300, 800))]
    (common,) = group_by_run(runs)
    other = network("other", 900, seed=1, method="stimulative", sweeps=swept(400))
    gain = compare_all_ordered(other, common)
    assert gain is not None
    assert gain.value == pytest.approx(5.0)  # (400 - 300) / 2 of 1,000


@pytest.mark.parametrize(
    ("options", "recipes"),
    [
        (({"weight": 5}, {"weight": 5.0}), ({}, {})),
        (({}, {}), ({"epochs": 60, "label": "paper's settings"}, {"epochs": 60.0, "label": "reduced recipe"})),
        (({"max_skipped": [1, 2]}, {"max_skipped": (1.0, 2.0)}), ({"watch": ["d1-1"]}, {"watch": []})),
    ],
)
def test_runs_are_repeats_however_their_numbers_were_written(
    options: tuple[dict[str, Any], dict[str, Any]], recipes: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    runs = [network(f"run-{seed}", 900, seed=seed, options=options[seed], recipe=recipes[seed]) for seed in (0, 1)]
    assert [[run.name, *(repeat.name for repeat in run.repeats)] for run in group_by_run(runs)] == [["run-0", "run-1"]]
    other = network("other", 900, seed=1, options=options[0], recipe={**recipes[0], "epochs": 61})
    assert len(group_by_run([runs[0], other])) == 2


def test_truth_values_are_no_numbers() -> None:
    runs = [network(f"run-{seed}", 900, seed=seed, options={"sandwich": value}) for seed, value in enumerate((True, 1))]
    assert len(group_by_run(runs)) == 2


def test_groups_of_equal_seeds() -> None:
    common, alone = repeated([900, 910, 920]), network("alone", 930, method="stimulative")
    two = group_by_run([network(f"two-{seed}", 900, seed=seed, method="stochastic_depth") for seed in (0, 1)])[0]
    other = network("other", 900, seed=7, method="self_distillation")
    assert [(words, [run and run.name for run in group]) for words, group in seed_groups([common, alone, two])] == [
        ("seed 0", ["seed0", "alone", "two-0"])  # a table of one row with three seeds compares nothing
    ]
    more = replace(common, name="more")
    words = [(words, [run and len(run.repeats) for run in group]) for words, group in seed_groups([common, alone, more])]
    assert words == [("seeds 0, 1, 2", [2, None, 2]), ("seed 0", [0, 0, 0])]
    assert [words for words, _ in seed_groups([common, more])] == [""]
    assert [words for words, _ in seed_groups([common, other])] == [""]
    assert seed_groups([]) == [("", [])]
