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
from stimcore.report.criteria.finding import Finding, in_points, missing
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
    sentences, drops = [], []
    for network in pair:
        worst = [single for run in runs_of(network) if (single := _worst_deletion(run, later)) is not None]
        if not worst:
            return missing("a block that can be deleted")
        blocks = ", ".join(str(block) for block in sorted({block for block, _ in worst}))
        largest = [value for _, value in worst]
        drops.append(largest[0] if len(largest) == 1 else over_seeds([value.value for value in largest]))
        sentences.append(f"{method_words(network.method)} {in_points(drops[-1])} (block {blocks})")
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
