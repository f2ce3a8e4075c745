"""Claims about accuracies: of the main network, and of all ordered sub-networks."""

from fractions import Fraction

from stimcore.analysis.estimates import Estimate, ratio
from stimcore.analysis.loafing import Overall, overall
from stimcore.analysis.seeds import all_ordered, compare_all_ordered, over_seeds, runs_of
from stimcore.analysis.seeds import main_accuracy as main_accuracy_of
from stimcore.report.criteria.finding import Finding, compare_mains, count_confirming, in_pct, in_points, missing, with_basis
from stimcore.report.results import ExperimentResults, NetworkResults
from stimcore.subnets.spec import Spec

NEAR_POINTS = 2.0
ALMOST_POINTS = 1.0
STEADY_FRAC = 0.1


def main_accuracy(results: ExperimentResults) -> Finding:
    """Compare the main networks of stimulative and common training."""
    pair = results.common_and_stimulative()
    if isinstance(pair, list):
        return missing(*pair)
    common, stimulative = pair
    return _at_least_as_accurate(("stimulative", stimulative), ("common", common))


def any_block_main(results: ExperimentResults) -> Finding:
    """Compare the main networks of stimulative training on any deletions and on ordered sub-networks."""
    pair = results.ordered_and_any_block()
    if isinstance(pair, list):
        return missing(*pair)
    ordered, any_ = pair
    return _at_least_as_accurate(("any deletions", any_), ("ordered", ordered))


def _at_least_as_accurate(one: tuple[str, NetworkResults], other: tuple[str, NetworkResults]) -> Finding:
    """Judge whether the first main network is at least as accurate as the second; each with the words for it."""
    gain = compare_mains(one[1], other[1])
    accuracies = ", ".join(f"{words} {in_pct(main_accuracy_of(network))}" for words, network in (one, other))
    return Finding(
        f"{accuracies}, difference {with_basis(gain)}",
        gain.value >= 0,
        gain.lowest >= 0 or gain.highest < 0,
        gain.seeds,
    )


def any_block_subnets(results: ExperimentResults) -> Finding:
    """Judge what training on any deletions costs the ordered sub-networks."""
    pair = results.ordered_and_any_block("ordered")
    if isinstance(pair, list):
        return missing(*pair)
    ordered, any_ = pair
    gain = compare_all_ordered(any_, ordered)
    assert gain is not None  # `ordered_and_any_block` has checked the sweeps
    means = [_swept_overall(network).mean.value for network in (any_, ordered)]
    return Finding(
        f"all-mean: any deletions {means[0]:.2f}%, ordered {means[1]:.2f}%, difference {with_basis(gain)}",
        gain.value > -ALMOST_POINTS,
        gain.lowest > -ALMOST_POINTS or gain.highest <= -ALMOST_POINTS,
        gain.seeds,
    )


def near_main(results: ExperimentResults) -> Finding:
    """Judge how far the mean over all ordered sub-networks is from the main network."""
    pair = results.common_and_stimulative("ordered")
    if isinstance(pair, list):
        return missing(*pair)
    common, stimulative = map(_swept_overall, pair)
    return Finding(
        f"main minus all-mean: stimulative {in_points(stimulative.gap)}, common {in_points(common.gap)}; "
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
        f"stimulative {in_points(stimulative.std)}, common {in_points(common.std)}, "
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
    seeds = min(sum("ordered" in run.sweeps for run in runs_of(network)) for network in pair)
    over = f" (means over {seeds} seeds)" if seeds > 1 else ""
    return Finding(count_confirming(len(shared), worse, over), not worse)


def _mean_correct(network: NetworkResults) -> dict[Spec, Fraction]:
    """Return ordered sub-network -> share of images that it classifies correctly, the mean over the seeds that were swept."""
    shares: dict[Spec, list[Fraction]] = {}  # exact, so that a tie stays one in whatever order the seeds are added
    for run in runs_of(network):
        for result in run.sweeps["ordered"].results if "ordered" in run.sweeps else ():
            shares.setdefault(result.spec, []).append(Fraction(result.correct, result.images))
    return {spec: sum(values, Fraction()) / len(values) for spec, values in shares.items()}


def _percent(share: Fraction) -> str:
    return f"{100 * float(share):.2f}"
