"""Claims that compare methods, and lambdas of one method."""

from stimcore.analysis import paper
from stimcore.analysis.comparisons import count_agreeing_pairs, lambda_ablation, ranking
from stimcore.analysis.loafing import Overall
from stimcore.analysis.seeds import all_ordered, compare_all_ordered, on_shared_seeds, runs_of, seeds_words, with_sweep
from stimcore.analysis.seeds import main_accuracy as main_accuracy_of
from stimcore.report.criteria.finding import Finding, all_positive, basis_of, compare_mains, in_pct, in_points, missing
from stimcore.report.results import ExperimentResults, NetworkResults, method_words


def best_of_all(results: ExperimentResults) -> Finding:
    """Judge which method leads both columns of Table r3, on the seeds that all six have."""
    six = _six(results)
    if isinstance(six, list):
        return missing(*six)
    networks, overalls = six
    columns = {
        "main": {name: each.main.value for name, each in overalls.items()},
        "all-mean": {name: each.mean.value for name, each in overalls.items()},
    }
    listed = "; ".join(
        f"{title}: " + ", ".join(f"{method_words(name)} {values[name]:.2f}" for name in ranking(values))
        for title, values in columns.items()
    )
    stimulative = networks.pop("stimulative")
    gains = [compare_mains(stimulative, other) for other in networks.values()]
    gains += [gain for other in networks.values() if (gain := compare_all_ordered(stimulative, other)) is not None]
    return Finding(f"{listed} ({_seeds_words(stimulative)})", *all_positive(gains))


def ordering(results: ExperimentResults) -> Finding:
    """Count the pairs of methods that stand in the paper's order, on the seeds that all six have."""
    six = _six(results)
    if isinstance(six, list):
        return missing(*six)
    networks, overalls = six
    mains, means = ({name: getattr(o, key).value for name, o in overalls.items()} for key in ("main", "mean"))
    by_main = count_agreeing_pairs(mains, {row.method: row.main_pct for row in paper.TABLE_R3})
    by_mean = count_agreeing_pairs(means, {row.method: row.all_mean_pct for row in paper.TABLE_R3})
    return Finding(
        f"pairs in the paper's order: {by_main[0]} of {by_main[1]} by main accuracy, {by_mean[0]} of {by_mean[1]} by all-mean "
        f"({_seeds_words(networks['stimulative'])})",
        by_main[0] == by_main[1] and by_mean[0] == by_mean[1],
    )


def _six(results: ExperimentResults) -> tuple[dict[str, NetworkResults], dict[str, Overall]] | list[str]:
    """Return method -> network and method -> its ordered sub-networks for the six methods of Table r3; words where some miss.

    Only runs that were swept count, and of these the seeds that all methods have.
    """
    methods = [row.method for row in paper.TABLE_R3]
    networks = {method: network for method in methods if (network := results.method(method)) is not None}
    swept = {method: runs for method, network in networks.items() if (runs := with_sweep(network, "ordered")) is not None}
    if lacking := [method_words(method) for method in methods if method not in swept]:
        return lacking
    shared = dict(zip(swept, on_shared_seeds(list(swept.values())), strict=True))
    return shared, {method: each for method, network in shared.items() if (each := all_ordered(network)) is not None}


def _seeds_words(network: NetworkResults) -> str:
    runs = runs_of(network)
    return f"seed {runs[0].seed}" if len(runs) == 1 else f"means over {len(runs)} seeds"


def every_lambda(results: ExperimentResults) -> Finding:
    """Compare the main network of every lambda with common training."""
    ablation = lambda_ablation(results.main_networks)
    if len(ablation.points) < 2 or ablation.common is None:
        return missing("at least two lambdas and common training with the same recipe")
    gains = [(weight, compare_mains(network, ablation.common)) for weight, network in ablation.points]
    listed = ", ".join(f"lambda {weight:g} {in_points(gain)}" for weight, gain in gains)
    return Finding(
        f"stimulative minus common ({in_pct(main_accuracy_of(ablation.common))}): {listed} "
        f"({basis_of([gain for _, gain in gains])}; {seeds_words(ablation.common)})",
        *all_positive([gain for _, gain in gains]),
    )
