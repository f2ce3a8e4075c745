"""The criteria behind the paper's claims: each function judges the stored results of an experiment against one of them.

A verdict follows from the measured number alone; `clear` adds whether the whole interval lies on the same side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from stimcore.analysis import paper
from stimcore.analysis.bound import measure_bound
from stimcore.analysis.comparisons import (
    count_agreeing_pairs,
    lambda_ablation,
    nested_family,
    nested_table,
    ordered,
    ranking,
    twin_gaps,
)
from stimcore.analysis.estimates import Estimate, drop, ratio
from stimcore.analysis.loafing import Overall, overall
from stimcore.analysis.networks import TrainedNetwork
from stimcore.analysis.result import Sweep
from stimcore.analysis.seeds import all_ordered, compare, over_seeds, runs_of
from stimcore.analysis.seeds import main_accuracy as main_accuracy_of
from stimcore.analysis.spreads import (
    Spread,
    deletion_curve,
    first_blocks,
    first_blocks_kept,
    permutation_curve,
    single_deletions,
)
from stimcore.analysis.training_cost import TrainingCost, memory_ratio, training_cost
from stimcore.report.results import ExperimentResults, NetworkResults, method_words
from stimcore.subnets.spec import Spec

NEAR_POINTS = 2.0
STEADY_FRAC = 0.1
SMALL_DROP_POINTS = 1.0
SAME_MEMORY_FRAC = 0.1
NO_FIRST_BLOCK = "a first block of a stage that can be deleted: without one, later blocks are all blocks"
MAX_LISTED = 5
"""Sub-networks that a finding lists by name."""


@dataclass(frozen=True)
class Finding:
    """What the stored results say about one claim.

    Attributes:
        measured: The numbers, in words.
        holds: The verdict; None where nothing could be measured.
        clear: Whether the interval lies wholly on the verdict's side; None where there is no interval.
        seeds: Number of seeds behind the interval.
    """

    measured: str
    holds: bool | None
    clear: bool | None = None
    seeds: int = 1


def missing(*what: str) -> Finding:
    """Return the finding that the results needed are missing, which is neither holding nor failing.

    Example:
        >>> missing("common training").measured
        'missing: common training'
    """
    return Finding("missing: " + ", ".join(what), None)


def _points(value: Estimate) -> str:
    return f"{value.value:.2f} points [{value.low:.2f}, {value.high:.2f}]"


def _pct(value: Estimate) -> str:
    return f"{value.value:.2f}% [{value.low:.2f}, {value.high:.2f}]"


def main_accuracy(results: ExperimentResults) -> Finding:
    """Compare the main networks of stimulative and common training."""
    pair = results.common_and_stimulative()
    if isinstance(pair, list):
        return missing(*pair)
    common, stimulative = pair
    gain = _compare_mains(stimulative, common)
    return Finding(
        f"stimulative {_pct(main_accuracy_of(stimulative))}, common {_pct(main_accuracy_of(common))}, "
        f"difference {_points(gain)} ({gain.basis_words})",
        gain.value >= 0,
        gain.low >= 0 or gain.high < 0,
        gain.seeds,
    )


def _compare_mains(first: TrainedNetwork, second: TrainedNetwork) -> Estimate:
    gain = compare(first, second)
    assert gain is not None  # every network has a result of itself
    return gain


def near_main(results: ExperimentResults) -> Finding:
    """Judge how far the mean over all ordered sub-networks is from the main network."""
    pair = results.common_and_stimulative("ordered")
    if isinstance(pair, list):
        return missing(*pair)
    common, stimulative = map(_swept_overall, pair)
    return Finding(
        f"main minus all-mean: stimulative {_points(stimulative.gap)}, common {_points(common.gap)}; "
        f"all-mean stimulative {stimulative.mean.value:.2f}%, common {common.mean.value:.2f}% ({stimulative.gap.basis_words})",
        stimulative.gap.value <= NEAR_POINTS,
        stimulative.gap.high <= NEAR_POINTS or stimulative.gap.low > NEAR_POINTS,
        stimulative.gap.seeds,
    )


def _swept_overall(network: NetworkResults) -> Overall:
    everything = all_ordered(network)
    assert everything is not None  # `common_and_stimulative` has checked the sweep
    return everything


def deviation(results: ExperimentResults) -> Finding:
    """Judge the ratio of the deviations over all ordered sub-networks."""
    pair = results.common_and_stimulative("ordered")
    if isinstance(pair, list):
        return missing(*pair)
    common, stimulative = map(_swept_overall, pair)
    share = _ratio_of_deviations(*pair)
    if share is None:
        return missing("a deviation of common training above 0")
    return Finding(
        f"stimulative {_points(stimulative.std)}, common {_points(common.std)}, "
        f"ratio {share.value:.3f} [{share.low:.3f}, {share.high:.3f}] ({share.basis_words})",
        share.value <= STEADY_FRAC,
        share.high <= STEADY_FRAC or share.low > STEADY_FRAC,
        share.seeds,
    )


def _ratio_of_deviations(common: NetworkResults, stimulative: NetworkResults) -> Estimate | None:
    """Return stimulative training's deviation over common training's: of each seed where several are shared."""
    commons, stimulatives = (
        {run.seed: overall(run.sweeps["ordered"]).std for run in runs_of(network) if "ordered" in run.sweeps}
        for network in (common, stimulative)
    )
    shared = sorted(commons.keys() & stimulatives.keys())
    if len(shared) > 1 and all(commons[seed].value > 0 for seed in shared):
        return over_seeds([stimulatives[seed].value / commons[seed].value for seed in shared])
    return ratio(*(overall(network.sweeps["ordered"]).std for network in (stimulative, common)))


def every_subnet(results: ExperimentResults) -> Finding:
    """Count the sub-networks that stimulative training improves."""
    pair = results.common_and_stimulative("ordered")
    if isinstance(pair, list):
        return missing(*pair)
    common, stimulative = (_mean_correct(network) for network in pair)
    shared = sorted(common.keys() & stimulative.keys())
    worse = [
        f"{results.topology.short(spec)} ({_percent(stimulative[spec])} against {_percent(common[spec])})"
        for spec in shared
        if stimulative[spec] < common[spec]
    ]
    more = f" and {len(worse) - MAX_LISTED} more" if len(worse) > MAX_LISTED else ""
    exceptions = f"; not: {', '.join(worse[:MAX_LISTED])}{more}" if worse else ""
    seeds = min(sum("ordered" in run.sweeps for run in runs_of(network)) for network in pair)
    over = f" (means over {seeds} seeds)" if seeds > 1 else ""
    return Finding(f"{len(shared) - len(worse)} of {len(shared)} are{over}{exceptions}", not worse)


def _mean_correct(network: NetworkResults) -> dict[Spec, Fraction]:
    """Return ordered sub-network -> share of images that it classifies correctly, the mean over the seeds that were swept."""
    shares: dict[Spec, list[Fraction]] = {}  # exact, so that a tie stays one in whatever order the seeds are added
    for run in runs_of(network):
        for result in run.sweeps["ordered"].results if "ordered" in run.sweeps else ():
            shares.setdefault(result.spec, []).append(Fraction(result.correct, result.images))
    return {spec: sum(values, Fraction()) / len(values) for spec, values in shares.items()}


def _percent(share: Fraction) -> str:
    return f"{100 * float(share):.2f}"


def one_block(results: ExperimentResults, *, later: bool = False) -> Finding:
    """Judge the largest drop of a single deletion.

    Args:
        results: The experiment.
        later: Only deletions of blocks that are not the first of their stage.
    """
    if later and not first_blocks(results.topology):
        return missing(NO_FIRST_BLOCK)
    pair = results.common_and_stimulative("delete")
    if isinstance(pair, list):
        return missing(*pair)
    sentences, drops = [], []
    for network in pair:
        worst = [single for run in runs_of(network) if (single := _worst_deletion(run, later)) is not None]
        if not worst:
            return missing("a block that can be deleted")
        blocks = ", ".join(str(block) for block in sorted({block for block, _ in worst}))
        largest = [value for _, value in worst]
        drops.append(largest[0] if len(largest) == 1 else over_seeds([value.value for value in largest]))
        sentences.append(f"{method_words(network.method)} {_points(drops[-1])} (block {blocks})")
    return Finding(
        f"largest drop: {sentences[1]}, {sentences[0]}; {drops[1].basis_words}",
        drops[1].value < SMALL_DROP_POINTS,
        drops[1].high < SMALL_DROP_POINTS or drops[1].low >= SMALL_DROP_POINTS,
        drops[1].seeds,
    )


def _worst_deletion(run: NetworkResults, later: bool) -> tuple[int, Estimate] | None:
    """Return the block whose deletion costs most, and the drop; None where the run was not swept or has no such block."""
    if "delete" not in run.sweeps:
        return None
    singles = single_deletions(run.topology, _sweep(run, "delete", later))
    if not singles:
        return None
    block, worst = max(singles, key=lambda single: single[1].drop_pct)
    return block, drop(worst)


def deletion(results: ExperimentResults, *, later: bool = False) -> Finding:
    """Compare the median drops by number of deleted blocks.

    Args:
        results: The experiment.
        later: Only networks in which the first block of every stage stays.
    """
    if later and not first_blocks(results.topology):
        return missing(NO_FIRST_BLOCK)
    pair = results.common_and_stimulative("delete")
    if isinstance(pair, list):
        return missing(*pair)
    return _compare_curves([deletion_curve(n.topology, _sweep(n, "delete", later)) for n in pair], "deleted", _first_seed(pair))


def permutation(results: ExperimentResults, *, later: bool = False) -> Finding:
    """Compare the median drops by number of permuting operations.

    Args:
        results: The experiment.
        later: Only networks in which the first block of every stage stays in its place.
    """
    if later and not first_blocks(results.topology):
        return missing(NO_FIRST_BLOCK)
    pair = results.common_and_stimulative("permute")
    if isinstance(pair, list):
        return missing(*pair)
    return _compare_curves([permutation_curve(_sweep(n, "permute", later)) for n in pair], "operations", _first_seed(pair))


def _first_seed(pair: Sequence[NetworkResults]) -> str:
    """Return which seed a curve is of, where there are several."""
    return f" (seed {pair[0].seed})" if max(len(runs_of(network)) for network in pair) > 1 else ""


def _sweep(network: NetworkResults, kind: str, later: bool) -> Sweep:
    return first_blocks_kept(network.topology, network.sweeps[kind]) if later else network.sweeps[kind]


def _compare_curves(curves: Sequence[Sequence[Spread]], unit: str, of_seed: str) -> Finding:
    common, stimulative = ({spread.amount: spread for spread in curve} for curve in curves)
    amounts = sorted(set(common) & set(stimulative))
    if not amounts:
        return missing(f"sub-networks with the same number of {unit} in both")
    sentences = [
        f"{amount} {unit}: {stimulative[amount].median:.2f} ({stimulative[amount].low:.2f} to {stimulative[amount].high:.2f}) "
        f"against {common[amount].median:.2f} ({common[amount].low:.2f} to {common[amount].high:.2f})"
        for amount in amounts
    ]
    return Finding(
        f"median (smallest to largest) drop in points, stimulative against common{of_seed}: " + "; ".join(sentences),
        all(stimulative[amount].median < common[amount].median for amount in amounts),
    )


def common_loafs(results: ExperimentResults) -> Finding:
    """Judge the gaps of all twins inside the commonly trained (or imported) network."""
    gaps = [] if results.base is None else twin_gaps(results.twins, results.base)
    if not gaps:
        return missing("twins, or the ordered sub-networks of common training")
    points = [gap.points for gap in gaps]
    listed = ", ".join(f"{gap.twin.short} {_points(gap.points)}" for gap in gaps)
    return Finding(f"gap (twin minus inside, {_basis(points)}): {listed}", *_all_positive(points))


def stimulative_closes(results: ExperimentResults) -> Finding:
    """Compare the gaps of all twins between stimulative and common training."""
    pair = results.common_and_stimulative("ordered")
    if isinstance(pair, list):
        return missing(*pair)
    common, stimulative = ({gap.twin.name: gap for gap in twin_gaps(results.twins, network)} for network in pair)
    shared = [(gap, stimulative[name]) for name, gap in common.items() if name in stimulative]
    if not shared:
        return missing("twins")
    listed = ", ".join(f"{new.twin.short} {_points(new.points)} against {old.points.value:.2f}" for old, new in shared)
    picks = [ordered(old.twin.depths) for old, _ in shared]
    closed = [
        gain
        for (old, new), pick in zip(shared, picks, strict=True)
        if (gain := compare(new.main, old.main, pick, pick)) is not None
    ]
    return Finding(f"gap (twin minus inside, {_basis(closed)}), stimulative against common: {listed}", *_all_positive(closed))


def _basis(values: Sequence[Estimate]) -> str:
    """Return what the intervals of the values cover, in words."""
    return ", ".join(dict.fromkeys(value.basis_words for value in values))


def _all_positive(values: Sequence[Estimate]) -> tuple[bool, bool, int]:
    """Return whether all values are above 0, whether their intervals confirm that verdict, and over how many seeds."""
    seeds = min(value.seeds for value in values)
    if all(value.value > 0 for value in values):
        return True, all(value.low > 0 for value in values), seeds
    return False, any(value.high <= 0 for value in values), seeds


def deeper_loafs(results: ExperimentResults) -> Finding:
    """Judge one sub-network alone and inside ever deeper networks."""
    members = nested_family(results.networks, results.topology.network)
    cells = nested_table(members)
    names = [member.name for member in members]
    rows = {row: [cells[row, column] for column in names if (row, column) in cells] for row in names}
    rows = {name: row for name, row in rows.items() if len(row) > 1}
    if not rows:
        return missing("at least two nested networks, trained alone and swept")
    listed = "; ".join(f"{name}: " + ", ".join(f"{cell.accuracy_pct:.2f}" for cell in row) for name, row in rows.items())
    steps = [
        step
        for member in members
        for before, after in pairwise([column for column in members if (member.name, column.name) in cells])
        if (step := compare(before.network, after.network, *2 * (ordered(member.depths),))) is not None
    ]
    return Finding(
        f"accuracy in percent, alone first, then inside ever deeper networks ({_basis(steps)}): {listed}",
        *_all_positive(steps),
    )


def best_of_all(results: ExperimentResults) -> Finding:
    """Judge which method leads both columns of Table r3."""
    overalls = _overalls(results)
    if isinstance(overalls, list):
        return missing(*overalls)
    columns = {
        "main": {name: each.main.value for name, each in overalls.items()},
        "all-mean": {name: each.mean.value for name, each in overalls.items()},
    }
    listed = "; ".join(
        f"{title}: " + ", ".join(f"{method_words(name)} {values[name]:.2f}" for name in ranking(values))
        for title, values in columns.items()
    )
    return Finding(listed, all(ranking(values)[0] == "stimulative" for values in columns.values()))


def ordering(results: ExperimentResults) -> Finding:
    """Count the pairs of methods that stand in the paper's order."""
    overalls = _overalls(results)
    if isinstance(overalls, list):
        return missing(*overalls)
    mains, means = ({name: getattr(o, key).value for name, o in overalls.items()} for key in ("main", "mean"))
    by_main = count_agreeing_pairs(mains, {row.method: row.main_pct for row in paper.TABLE_R3})
    by_mean = count_agreeing_pairs(means, {row.method: row.all_mean_pct for row in paper.TABLE_R3})
    return Finding(
        f"pairs in the paper's order: {by_main[0]} of {by_main[1]} by main accuracy, {by_mean[0]} of {by_mean[1]} by all-mean",
        by_main[0] == by_main[1] and by_mean[0] == by_mean[1],
    )


def _overalls(results: ExperimentResults) -> dict[str, Overall] | list[str]:
    """Return method -> its ordered sub-networks for the six methods of Table r3, or words for those that are missing."""
    methods = [row.method for row in paper.TABLE_R3]
    networks = {method: network for method in methods if (network := results.method(method)) is not None}
    overalls = {method: each for method, network in networks.items() if (each := all_ordered(network)) is not None}
    lacking = [method_words(method) for method in methods if method not in overalls]
    return lacking or overalls


def every_lambda(results: ExperimentResults) -> Finding:
    """Compare the main network of every lambda with common training."""
    ablation = lambda_ablation(results.main_networks)
    if len(ablation.points) < 2 or ablation.common is None:
        return missing("at least two lambdas and common training with the same recipe")
    gains = [(weight, _compare_mains(network, ablation.common)) for weight, network in ablation.points]
    listed = ", ".join(f"lambda {weight:g} {_points(gain)}" for weight, gain in gains)
    return Finding(
        f"stimulative minus common ({_pct(main_accuracy_of(ablation.common))}): {listed} "
        f"({_basis([gain for _, gain in gains])})",
        *_all_positive([gain for _, gain in gains]),
    )


def time(results: ExperimentResults) -> Finding:
    """Judge the ratio of training times."""
    costs = _costs(results)
    if isinstance(costs, list):
        return missing(*costs)
    common, stimulative = costs
    share, wall = ratio(stimulative.time, common.time), ratio(stimulative.seconds, common.seconds)
    if share is None or wall is None:
        return missing("times above 0")
    other = "" if common.device_type == "cuda" else f", of wall clock {wall.value:.2f} on a machine that did other work as well"
    return Finding(
        f"ratio of {common.time_words} per epoch {share.value:.2f} "
        f"(epochs range over {share.low:.2f} to {share.high:.2f}){other}",
        share.value < paper.TIME_RATIO_BELOW,
        share.high < paper.TIME_RATIO_BELOW or share.low >= paper.TIME_RATIO_BELOW,
    )


def memory(results: ExperimentResults) -> Finding:
    """Judge the ratio of memory."""
    costs = _costs(results)
    if isinstance(costs, list):
        return missing(*costs)
    common, stimulative = costs
    share, of_steps = memory_ratio(stimulative, common)
    ours, theirs = (cost.method_mib if of_steps and cost.method_mib else cost.memory_mib for cost in (stimulative, common))
    what = (
        "above what was in use before the first step" if of_steps else "for the whole process, data set and libraries included"
    )
    return Finding(
        f"ratio {share:.3f} ({ours:.0f} against {theirs:.0f} MiB {what})",
        abs(share - 1) <= SAME_MEMORY_FRAC,
    )


def _costs(results: ExperimentResults) -> tuple[TrainingCost, TrainingCost] | list[str]:
    pair = results.common_and_stimulative()
    if isinstance(pair, list):
        return pair
    common, stimulative = (training_cost(network.records) for network in pair)
    if common is None or stimulative is None:
        return ["records of the epochs"]
    return ["trainings on the same kind of device"] if common.device_type != stimulative.device_type else (common, stimulative)


def bounded(results: ExperimentResults) -> Finding:
    """Compare the measured gap of cross entropies with the bound of Appendix B."""
    network = results.method("stimulative")
    swept = network is not None and "ordered" in network.sweeps
    bound = measure_bound(network.sweeps["ordered"], results.num_classes) if network is not None and swept else None
    if bound is None:
        return missing("the ordered sub-networks of stimulative training with their cross entropies")
    return Finding(
        f"gap {bound.gap:.4f} nats, bound {bound.limit:.3g} nats (eps1 {bound.eps1:.2f}, eps2 {bound.eps2:.4f}); the bound is "
        f"never below log {bound.num_classes} = {bound.floor:.2f} nats, so it says little about a gap this small",
        bound.gap <= bound.limit,
    )
