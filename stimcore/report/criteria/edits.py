"""Claims about edits: deleted and permuted blocks."""

from collections.abc import Sequence

from stimcore.analysis.estimates import Estimate, drop
from stimcore.analysis.result import Sweep
from stimcore.analysis.seeds import over_seeds, runs_of
from stimcore.analysis.spreads import (
    Spread,
    deletion_curve,
    first_blocks,
    first_blocks_kept,
    permutation_curve,
    single_deletions,
)
from stimcore.report.criteria.finding import Finding, count_confirming, in_points, missing
from stimcore.report.results import ExperimentResults, NetworkResults, method_words

SMALL_DROP_POINTS = 1.0
NO_FIRST_BLOCK = "a first block of a stage that can be deleted: without one, later blocks are all blocks"


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
    swept = _swept_on_shared_seeds(pair)
    common, stimulative = (_largest_drop(runs, later) for runs in swept)
    if common is None or stimulative is None:
        return missing("a block that can be deleted")
    words = [f"{method_words(pair[1].method)} {_points(stimulative)}", f"{method_words(pair[0].method)} {_points(common)}"]
    return _small_enough(stimulative[0], f"{', '.join(words)}; {_basis(stimulative[0], swept[1], pair)}")


def any_block(results: ExperimentResults) -> Finding:
    """Judge the largest drop of a single deletion where any deletions were trained, beside ordered sub-networks."""
    pair = results.ordered_and_any_block("delete")
    if isinstance(pair, list):
        return missing(*pair)
    swept = _swept_on_shared_seeds(pair)
    ordered, any_ = (_largest_drop(runs, later=False) for runs in swept)
    if ordered is None or any_ is None:
        return missing("a block that can be deleted")
    words = f"trained on any deletions {_points(any_)}, on ordered sub-networks {_points(ordered)}"
    return _small_enough(any_[0], f"{words}; {_basis(any_[0], swept[1], pair)}")


def _swept_on_shared_seeds(pair: Sequence[NetworkResults]) -> list[list[NetworkResults]]:
    """Return the runs of each of two networks whose deletions are stored, on the seeds that both have, or all where none is."""
    swept = [[run for run in runs_of(network) if "delete" in run.sweeps] for network in pair]
    shared = set.intersection(*({run.seed for run in runs} for runs in swept))
    return [[run for run in runs if run.seed in shared] for runs in swept] if shared else swept


def _basis(largest: Estimate, swept: Sequence[NetworkResults], pair: Sequence[NetworkResults]) -> str:
    """Return what an interval covers, and of which seed the number is where others were trained too."""
    several = max(len(runs_of(network)) for network in pair) > 1
    return largest.basis_words + (f" (seed {swept[0].seed})" if largest.seeds == 1 and several else "")


def _small_enough(largest: Estimate, sentence: str) -> Finding:
    return Finding(
        f"largest drop: {sentence}",
        largest.value < SMALL_DROP_POINTS,
        largest.high < SMALL_DROP_POINTS or largest.low >= SMALL_DROP_POINTS,
        largest.seeds,
    )


def _largest_drop(runs: Sequence[NetworkResults], later: bool) -> tuple[Estimate, str] | None:
    """Return the largest drop of a single deletion, over the seeds where there are several, and the blocks."""
    worst = [single for run in runs if (single := _worst_deletion(run, later)) is not None]
    if not worst:
        return None
    drops = [value for _, value in worst]
    blocks = ", ".join(str(block) for block in sorted({block for block, _ in worst}))
    return drops[0] if len(drops) == 1 else over_seeds([value.value for value in drops]), blocks


def _points(largest: tuple[Estimate, str]) -> str:
    return f"{in_points(largest[0])} (block {largest[1]})"


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
    medians = {amount: (stimulative[amount].median, common[amount].median) for amount in amounts}
    larger = [
        f"{amount} {unit} ({ours:.2f} against {theirs:.2f})" for amount, (ours, theirs) in medians.items() if ours >= theirs
    ]
    sentences = [
        f"{amount} {unit}: {stimulative[amount].median:.2f} ({stimulative[amount].low:.2f} to {stimulative[amount].high:.2f}) "
        f"against {common[amount].median:.2f} ({common[amount].low:.2f} to {common[amount].high:.2f})"
        for amount in amounts
    ]
    return Finding(
        f"{count_confirming(len(amounts), larger)}; median (smallest to largest) drop in points, stimulative against "
        f"common{of_seed}: " + "; ".join(sentences),
        not larger,
    )
