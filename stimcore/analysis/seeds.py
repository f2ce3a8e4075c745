"""Runs that differ in nothing but their seed: the networks of an experiment by run, and estimates over seeds.

Two kinds of chance are behind a difference of two accuracies: which images are in the test set, and which seed a run had.
With one seed only the first can be estimated, and an interval that is paired image by image is the narrowest that is valid for
it. With several seeds the interval is over seeds. All of them are measured on the same images, so that it does not cover which
images these are: a comparison of two networks has that interval beside it, of the mean over the seeds (`Estimate.over_images`).
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from stimcore.analysis.estimates import Basis, Estimate, accuracy, difference
from stimcore.analysis.intervals import Z95, mean_std, paired_drop, student_t
from stimcore.analysis.loafing import Overall, overall
from stimcore.analysis.networks import IMPORTED, TrainedNetwork, main_result
from stimcore.analysis.result import Result

Network = TypeVar("Network", bound=TrainedNetwork)
Pick = Callable[[TrainedNetwork], Result | None]
"""Chooses the result of one sub-network from the results of a trained network; None where it has none."""
NO_SETTINGS = ("name", "label", "experiment", "evaluate_every", "watch", "watch_every", "watch_images")
"""Keys of a recipe that change neither the training nor its result."""


def group_by_run(networks: Sequence[Network]) -> list[Network]:
    """Return one network for every run, with its repeats under other seeds in `repeats`.

    Runs are the same when they have the same method, options, recipe and sub-network, and different seeds; keys of the recipe
    that change no training do not count, and 5 is 5.0. The one with the lowest seed stands for all of them; its place in the
    order is that of the first. Imported weights have no seed and never are the same.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> main = Result.counted(Spec.from_text("1.2"), images=10, correct=9, lost=0, won=0)
        >>> runs = [TrainedNetwork(name=name, method="common", depths=(1, 1), twin=False, main=main, seed=seed)
        ...         for name, seed in (("common-seed1", 1), ("common", 0))]
        >>> [(run.name, [repeat.name for repeat in run.repeats]) for run in group_by_run(runs)]
        [('common', ['common-seed1'])]
    """
    groups: list[tuple[str, list[Network]]] = []
    for network in networks:
        trained = (_plain(dict(network.options)), training_settings(network.recipe))
        same = (network.method, network.depths, network.twin, *trained)
        key = network.name if network.method == IMPORTED else json.dumps(same, sort_keys=True, default=str)
        open_ = [g for k, g in groups if k == key and network.seed not in {other.seed for other in g}]
        if open_:
            open_[0].append(network)
        else:
            groups.append((key, [network]))
    ordered = [sorted(group, key=lambda network: (network.seed, network.name)) for _, group in groups]
    return [replace(first, repeats=tuple(rest)) for first, *rest in ordered]


def training_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a recipe that change the training or its result, with whole numbers as floats.

    Example:
        >>> training_settings({"label": "reduced recipe", "epochs": 60, "watch": ["d1-1-1"]}) == {"epochs": 60.0}
        True
    """
    return {key: _plain(value) for key, value in recipe.items() if key not in NO_SETTINGS}


def _plain(value: Any) -> Any:
    """Return a JSON value whose whole numbers are floats: options and files write both, and mean the same."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def runs_of(network: Network) -> list[Network]:
    """Return a network and its repeats, each seed once."""
    runs: dict[int, Network] = {}
    for run in (network, *cast(Sequence[Network], network.repeats)):  # of the network's own class: see `group_by_run`
        runs.setdefault(run.seed, run)
    return list(runs.values())


def with_sweep(network: Network, family: str) -> Network | None:
    """Return a network with those of its runs that a family of sub-networks was swept for; None where there is none."""
    runs = [run for run in runs_of(network) if family in run.sweeps]
    return replace(runs[0], repeats=tuple(runs[1:])) if runs else None


def on_shared_seeds(networks: Sequence[Network]) -> list[Network]:
    """Return networks with their runs of the seeds that all of them have; as they are where they have no seed in common.

    For lists of more than two networks: means over other seeds differ by the luck of these seeds as well.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> main = Result.counted(Spec.from_text("1.2"), images=10, correct=9, lost=0, won=0)
        >>> runs = [TrainedNetwork(name=f"{method}{seed}", method=method, depths=(1, 1), twin=False, main=main, seed=seed)
        ...         for method, seed in (("common", 0), ("common", 1), ("stimulative", 1), ("stimulative", 2))]
        >>> [[run.name for run in runs_of(network)] for network in on_shared_seeds(group_by_run(runs))]
        [['common1'], ['stimulative1']]
    """
    shared = set.intersection(*({run.seed for run in runs_of(network)} for network in networks)) if networks else set()
    if not shared:
        return list(networks)
    chosen = [[run for run in runs_of(network) if run.seed in shared] for network in networks]
    return [replace(first, repeats=tuple(rest)) for first, *rest in chosen]


def seeds_words(network: TrainedNetwork) -> str:
    """Return the seeds of a network's runs for a reader: `seed 0`, or `seeds 0, 1, 2`."""
    seeds = [str(run.seed) for run in sorted(runs_of(network), key=lambda run: run.seed)]
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(seeds)}"


def seed_groups(networks: Sequence[Network]) -> list[tuple[str, list[Network | None]]]:
    """Return networks in groups within which means compare: all of a group have the same seeds.

    Means over different seeds differ by the luck of these seeds as well, which can be more than what methods differ by.

    Returns:
        Words for the seeds, and for each network the same one with its runs of these seeds, None where it is not in the group.
        The first group are the networks that have the most seeds, where there are several of them; the last is all networks
        with the seeds that all have. One group without words where all have the same seeds, or none in common.

    Example:
        >>> from stimcore.subnets.spec import Spec
        >>> main = Result.counted(Spec.from_text("1.2"), images=10, correct=9, lost=0, won=0)
        >>> runs = [TrainedNetwork(name=f"{method}{seed}", method=method, depths=(1, 1), twin=False, main=main, seed=seed)
        ...         for method, seed in (("common", 0), ("common", 1), ("stimulative", 0), ("stimulative", 1), ("mine", 0))]
        >>> [(words, [each and each.name for each in group]) for words, group in seed_groups(group_by_run(runs))]
        [('seeds 0, 1', ['common0', 'stimulative0', None]), ('seed 0', ['common0', 'stimulative0', 'mine0'])]
    """
    seeds = [{run.seed for run in runs_of(network)} for network in networks]
    shared = set.intersection(*seeds) if seeds else set()
    if not shared or all(each == shared for each in seeds):
        return [("", list(networks))]
    most = max(seeds, key=len)
    inside = [own >= most for own in seeds]
    full = on_shared_seeds([network for network, is_in in zip(networks, inside, strict=True) if is_in])
    everything = on_shared_seeds(networks)
    groups: list[tuple[str, list[Network | None]]] = [(seeds_words(everything[0]), list(everything))]
    if len(full) > 1:
        left = iter(full)
        groups.insert(0, (seeds_words(full[0]), [next(left) if is_in else None for is_in in inside]))
    return groups


def over_seeds(values: Sequence[float]) -> Estimate:
    """Return the mean over seeds with its 95% interval.

    Args:
        values: One value per seed, at least two.

    Source: Student's t with n - 1 degrees of freedom.

    Example:
        >>> gain = over_seeds([0.2, 0.4, 0.6])
        >>> f"{gain.value:.2f} [{gain.low:.2f}, {gain.high:.2f}] {gain.basis} {gain.seeds}"
        '0.40 [-0.10, 0.90] over seeds 3'
    """
    count = len(values)
    mean, deviation = mean_std(list(values))
    half = student_t(count - 1) * deviation / math.sqrt(count - 1)  # `deviation` is that of a population: n, not n - 1
    return Estimate(mean, mean - half, mean + half, Basis.SEEDS, count)


def measured(network: Network, measure: Callable[[Network], Estimate | None]) -> Estimate | None:
    """Return a measure of a network: over its seeds where there are several, else the one value with its own interval.

    Args:
        network: The network with its repeats.
        measure: The measure of one run; None where the run does not have it.

    Returns:
        None where no run has it.
    """
    values = [value for run in runs_of(network) if (value := measure(run)) is not None]
    if not values:
        return None
    return values[0] if len(values) == 1 else over_seeds([value.value for value in values])


@dataclass(frozen=True)
class Comparison:
    """Two accuracies and their difference, all three of the same seeds.

    Attributes:
        first: In percent; the mean over seeds where the difference is one.
        second: Likewise.
        difference: First minus second, in points.
    """

    first: Estimate
    second: Estimate
    difference: Estimate


def compare(
    first: TrainedNetwork, second: TrainedNetwork, of_first: Pick = main_result, of_second: Pick = main_result
) -> Estimate | None:
    """Return the accuracy of a sub-network of one network minus that of a sub-network of another one, in points.

    See `side_by_side`, which also returns the two accuracies.
    """
    comparison = side_by_side(first, second, of_first, of_second)
    return None if comparison is None else comparison.difference


def side_by_side(
    first: TrainedNetwork, second: TrainedNetwork, of_first: Pick = main_result, of_second: Pick = main_result
) -> Comparison | None:
    """Return the accuracies of a sub-network of one network and of a sub-network of another one, and their difference.

    The interval of the difference is the best that the stored results allow:

    1. over seeds, paired by seed, where both networks were trained with two or more equal seeds; with the interval of this
       mean over images beside it where both store which images they classify correctly;
    2. over seeds, of two independent groups, where both have several seeds but fewer than two in common;
    3. paired over images, where both store which images they classify correctly (`hits.npz`), of one seed that both have
       where there is one;
    4. of two independent counts, which is wider than need be.

    Args:
        first: The network with its repeats.
        second: The other one.
        of_first: Chooses the sub-network of `first`; its main network by default.
        of_second: Chooses the sub-network of `second`.

    Returns:
        None where one of them does not have the result.
    """
    firsts = {run.seed: result for run in runs_of(first) if (result := of_first(run)) is not None}
    seconds = {run.seed: result for run in runs_of(second) if (result := of_second(run)) is not None}
    shared = sorted(firsts.keys() & seconds.keys())
    if len(shared) > 1:
        own, others = ([_pct(results[seed]) for seed in shared] for results in (firsts, seconds))
        rows = [
            [run.hits(results[run.seed].spec) for run in sorted(runs_of(network), key=_seed) if run.seed in shared]
            for network, results in ((first, firsts), (second, seconds))
        ]
        gap = replace(over_seeds([a - b for a, b in zip(own, others, strict=True)]), over_images=_over_images(*rows))
        return Comparison(over_seeds(own), over_seeds(others), gap)
    if len(firsts) > 1 and len(seconds) > 1:
        own, others = ([_pct(result) for result in results.values()] for results in (firsts, seconds))
        return Comparison(over_seeds(own), over_seeds(others), _welch(own, others))
    first, second = _one_run_each(first, second, firsts, seconds)
    a, b = of_first(first), of_second(second)
    if a is None or b is None:
        return None
    hits, other_hits = first.hits(a.spec), second.hits(b.spec)
    if hits is None or other_hits is None or len(hits) != len(other_hits):
        gap = difference(a, b)
    else:
        drop = paired_drop(int((hits & ~other_hits).sum()), int((other_hits & ~hits).sum()), len(hits))
        gap = Estimate(drop.drop_pct, *drop.interval_pct, Basis.PAIRED)
    return Comparison(accuracy(a), accuracy(b), gap)


def _one_run_each(
    first: TrainedNetwork, second: TrainedNetwork, firsts: Mapping[int, object], seconds: Mapping[int, object]
) -> tuple[TrainedNetwork, TrainedNetwork]:
    """Return the runs of two networks that are compared with each other: of a seed that both have, where there is one.

    Args:
        first: The network with its repeats.
        second: The other one.
        firsts: Seed -> what is compared, for the runs of `first` that have it.
        seconds: Likewise.
    """
    shared = sorted(firsts.keys() & seconds.keys())
    wanted = (shared[0], shared[0]) if shared else (min(firsts, default=None), min(seconds, default=None))
    one, other = (
        next((run for run in runs_of(network) if run.seed == seed), network)
        for network, seed in zip((first, second), wanted, strict=True)
    )
    return one, other


def compare_all_ordered(first: TrainedNetwork, second: TrainedNetwork) -> Estimate | None:
    """Return the mean accuracy over all ordered sub-networks of one network minus that of another one, in points.

    The interval is the best that the stored results allow, in the order of `compare`. Paired over images, an image counts with
    the difference of the shares of sub-networks that classify it correctly.

    Args:
        first: The network with its repeats.
        second: The other one.

    Returns:
        None where one of them was not swept.
    """
    firsts, seconds = (
        {run.seed: overall(run.sweeps["ordered"]).mean for run in runs_of(network) if "ordered" in run.sweeps}
        for network in (first, second)
    )
    shared = sorted(firsts.keys() & seconds.keys())
    if len(shared) > 1:
        gap = over_seeds([firsts[seed].value - seconds[seed].value for seed in shared])
        rows = [
            [_share_of_hits(run) for run in sorted(runs_of(network), key=_seed) if run.seed in shared]
            for network in (first, second)
        ]
        return replace(gap, over_images=_over_images(*rows))
    if len(firsts) > 1 and len(seconds) > 1:
        return _welch([mean.value for mean in firsts.values()], [mean.value for mean in seconds.values()])
    first, second = _one_run_each(first, second, firsts, seconds)
    if "ordered" not in first.sweeps or "ordered" not in second.sweeps:
        return None
    own, other = _share_of_hits(first), _share_of_hits(second)
    if own is None or other is None or len(own) != len(other):
        a, b = firsts[first.seed], seconds[second.seed]
        value = a.value - b.value
        half = math.hypot((a.high - a.low) / 2, (b.high - b.low) / 2)
        return Estimate(value, value - half, value + half, Basis.INDEPENDENT)
    low, high = _mean_interval(100 * (own - other))
    return Estimate(float(100 * (own - other).mean()), low, high, Basis.PAIRED)


def gap_closed(network: TrainedNetwork, base: TrainedNetwork) -> Estimate | float | None:
    """Return how much of a network's gap another training closes, in percent.

    The gap is the accuracy of the main network minus the mean over all ordered sub-networks. Only seeds that both have are
    compared: the gap of common training differs more between seeds than most trainings differ.

    Args:
        network: The network with its repeats.
        base: The one whose gap is 100.

    Returns:
        The mean over seeds with its interval where both share several; the plain share, as a float, where they share one; None
        where they share none, or where `base` has no gap.
    """
    gaps, others = (
        {run.seed: overall(run.sweeps["ordered"]).gap.value for run in runs_of(each) if "ordered" in run.sweeps}
        for each in (network, base)
    )
    shared = sorted(gaps.keys() & others.keys())
    if not shared or any(others[seed] <= 0 for seed in shared):
        return None
    closed = [100 * (1 - gaps[seed] / others[seed]) for seed in shared]
    return over_seeds(closed) if len(closed) > 1 else closed[0]


def _share_of_hits(network: TrainedNetwork) -> NDArray[np.float64] | None:
    """Return for every image the share of ordered sub-networks that classify it correctly; None where hits are missing."""
    rows = [network.hits(result.spec) for result in network.sweeps["ordered"].results]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or not rows:
        return None
    share: NDArray[np.float64] = np.mean(known, axis=0)
    return share


def _over_images(firsts: Sequence[NDArray[Any] | None], seconds: Sequence[NDArray[Any] | None]) -> tuple[float, float] | None:
    """Return the 95% interval over images of a difference that is a mean over seeds, in points.

    Args:
        firsts: For every seed and image whether the first network is right, or the share of its sub-networks that are.
        seconds: Likewise, in the same order of seeds.

    Returns:
        None where hits are missing, or are of different images.
    """
    rows = [row for row in (*firsts, *seconds) if row is not None]
    if len(rows) < len(firsts) + len(seconds) or len({len(row) for row in rows}) > 1:
        return None
    own, other = (np.mean(np.asarray(each, dtype=np.float64), axis=0) for each in (firsts, seconds))
    return _mean_interval(100 * (own - other))


def _mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% interval of the mean of many values."""
    mean, half = float(values.mean()), Z95 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def _seed(network: TrainedNetwork) -> int:
    return network.seed


def _pct(result: Result) -> float:
    return 100 * result.correct / result.images


def _welch(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Return the difference of the means of two independent groups of seeds.

    Source: Welch 1947; the degrees of freedom are rounded down, which makes the interval wider.
    """
    means, errors = [], []
    for values in (first, second):
        mean, deviation = mean_std(list(values))
        means.append(mean)
        errors.append(deviation**2 / (len(values) - 1))
    error = sum(errors)
    parts = sum(e**2 / (len(values) - 1) for e, values in zip(errors, (first, second), strict=True))
    freedom = max(1, math.floor(error**2 / parts)) if parts else 1
    half = student_t(freedom) * math.sqrt(error)
    value = means[0] - means[1]
    return Estimate(value, value - half, value + half, Basis.SEEDS, min(len(first), len(second)))


def main_accuracy(network: TrainedNetwork) -> Estimate:
    """Return the accuracy of the whole network in percent: the mean over its seeds where there are several."""
    value = measured(network, lambda run: accuracy(run.main))
    assert value is not None  # every network has a result of itself
    return value


def all_ordered(network: TrainedNetwork) -> Overall | None:
    """Return mean, deviation and gap over all ordered sub-networks, each as the mean over seeds where there are several.

    Returns:
        None where no run was swept.
    """
    swept = [overall(run.sweeps["ordered"]) for run in runs_of(network) if "ordered" in run.sweeps]
    if len(swept) < 2:
        return swept[0] if swept else None

    def mean_of(estimates: list[Estimate]) -> Estimate:
        return over_seeds([estimate.value for estimate in estimates])

    return replace(
        swept[0],
        main=mean_of([each.main for each in swept]),
        mean=mean_of([each.mean for each in swept]),
        std=mean_of([each.std for each in swept]),
        gap=mean_of([each.gap for each in swept]),
    )
