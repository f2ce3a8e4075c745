"""Claims about what a training costs: time and memory."""

from stimcore.analysis import paper
from stimcore.analysis.estimates import ratio
from stimcore.analysis.training_cost import TrainingCost, memory_ratio, training_cost
from stimcore.report.criteria.finding import Finding, missing
from stimcore.report.results import ExperimentResults

SAME_MEMORY_FRAC = 0.1


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
