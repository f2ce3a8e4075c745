"""Claims that compare methods, and lambdas of one method."""

from stimcore.analysis import paper
from stimcore.analysis.comparisons import count_agreeing_pairs, lambda_ablation, ranking
from stimcore.analysis.loafing import Overall
from stimcore.analysis.seeds import all_ordered
from stimcore.analysis.seeds import main_accuracy as main_accuracy_of
from stimcore.report.criteria.finding import Finding, all_positive, basis_of, compare_mains, in_pct, in_points, missing
from stimcore.report.results import ExperimentResults, method_words


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
    gains = [(weight, compare_mains(network, ablation.common)) for weight, network in ablation.points]
    listed = ", ".join(f"lambda {weight:g} {in_points(gain)}" for weight, gain in gains)
    return Finding(
        f"stimulative minus common ({in_pct(main_accuracy_of(ablation.common))}): {listed} "
        f"({basis_of([gain for _, gain in gains])})",
        *all_positive([gain for _, gain in gains]),
    )
