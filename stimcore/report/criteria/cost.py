"""Claims about what a training costs: time and memory."""

from statistics import mean

from stimcore.analysis import paper
from stimcore.analysis.estimates import ratio
from stimcore.analysis.seeds import over_seeds, runs_of
from stimcore.analysis.training_cost import TrainingCost, memory_ratio
from stimcore.report.criteria.finding import Finding, missing
from stimcore.report.results import ExperimentResults

SAME_MEMORY_FRAC = 0.1


def time(results: ExperimentResults) -> Finding:
    """Judge the ratio of training times, over the seeds that were trained on one kind of processor."""
    pairs = _pairs(results)
    if isinstance(pairs, list):
        return missing(*pairs)
    shares = {seed: ratio(stimulative.time, common.time) for seed, (common, stimulative) in pairs.items()}
    walls = [ratio(stimulative.seconds, common.seconds) for common, stimulative in pairs.values()]
    known = {seed: share for seed, share in shares.items() if share is not None}
    clock = [wall.value for wall in walls if wall is not None]
    if not known or not clock:
        return missing("times above 0")
    common, _ = next(iter(pairs.values()))
    other = f", of wall clock {mean(clock):.2f} on a machine that did other work as well" if common.device_type == "cpu" else ""
    (first, only), *more = known.items()
    share = over_seeds([each.value for each in known.values()]) if more else only
    what = "" if more else f"epochs of seed {first} range over "
    basis = f", {share.basis_words}" if more else ""
    return Finding(
        f"ratio of {common.time_words} per epoch {share.value:.2f} ({what}{share.low:.2f} to {share.high:.2f}{basis}){other}",
        share.value < paper.TIME_RATIO_BELOW,
        share.high < paper.TIME_RATIO_BELOW or share.low >= paper.TIME_RATIO_BELOW,
        share.seeds,
    )


def memory(results: ExperimentResults) -> Finding:
    """Judge the ratio of memory, over the seeds that were trained on one kind of processor."""
    pairs = _pairs(results)
    if isinstance(pairs, list):
        return missing(*pairs)
    ratios = [memory_ratio(stimulative, common) for common, stimulative in pairs.values()]
    of_steps = all(each for _, each in ratios)
    sizes = [
        [cost.method_mib if of_steps and cost.method_mib else cost.memory_mib for cost in costs]
        for costs in zip(*pairs.values(), strict=True)
    ]
    what = (
        "above what was in use before the first step" if of_steps else "for the whole process, data set and libraries included"
    )
    theirs, ours = (mean(values) for values in sizes)
    share = mean([each for each, _ in ratios])
    seeds = f"means over {len(pairs)} seeds" if len(pairs) > 1 else f"seed {next(iter(pairs))}"
    return Finding(
        f"ratio {share:.3f} ({ours:.0f} against {theirs:.0f} MiB {what}; {seeds})",
        abs(share - 1) <= SAME_MEMORY_FRAC,
    )


def _pairs(results: ExperimentResults) -> dict[int, tuple[TrainingCost, TrainingCost]] | list[str]:
    """Return seed -> the costs of common and of stimulative training, where they compare, or words for what is missing."""
    pair = results.common_and_stimulative()
    if isinstance(pair, list):
        return pair
    commons, stimulatives = ({run.seed: cost for run in runs_of(network) if (cost := run.cost)} for network in pair)
    both = {seed: (commons[seed], stimulatives[seed]) for seed in sorted(commons.keys() & stimulatives.keys())}
    if not both:
        return ["records of the epochs"]
    same = {seed: costs for seed, costs in both.items() if costs[0].compares_with(costs[1])}
    return same or ["trainings on the same kind of processor or GPU"]
