"""What damage costs: the drops of networks with deleted or permuted blocks, grouped by the amount of damage (Figs r4 to r7).

Drops are in percentage points against the main network on the same images; a negative drop is a gain.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from stimcore.analysis.result import Result, Sweep
from stimcore.subnets.families import count_operations
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


@dataclass(frozen=True)
class Spread:
    """Drops of all sub-networks with the same amount of damage, in points.

    Attributes:
        amount: Number of deleted blocks, or of permuting operations.
        num: Number of sub-networks.
        low: Smallest drop.
        median: Median drop.
        high: Largest drop.
        worst: The result with the largest drop.
    """

    amount: int
    num: int
    low: float
    median: float
    high: float
    worst: Result


def deleted_blocks(topology: Topology, spec: Spec) -> tuple[int, ...]:
    """Return the blocks that a spec leaves out, in rising order.

    Example:
        >>> deleted_blocks(Topology.of("toy", [3, 2]), Spec.from_text("1-3.4"))
        (2, 5)
    """
    return tuple(sorted(set(topology.full.blocks) - set(spec.blocks)))


def first_blocks(topology: Topology) -> tuple[int, ...]:
    """Return the first blocks of stages that can be deleted although the paper's methods never skip them.

    Every ordered sub-network keeps the first block of each stage. Most of these blocks change the resolution and can't be
    deleted; where one has an identity shortcut, as block 1 of a CIFAR ResNet, it can.

    Example:
        >>> first_blocks(Topology.of("resnet20", [3, 3, 3], {4: "no skip path", 7: "no skip path"}))
        (1,)
    """
    return tuple(stage[0] for stage in topology.stages if stage[0] in topology.removable)


def first_blocks_kept(topology: Topology, sweep: Sweep) -> Sweep:
    """Return the sweep without the results that delete or move the first block of a stage.

    Ordered sub-networks always keep these blocks, so the paper's methods never skip one, and in the paper's network none can be
    deleted. In ResNets some of them have an identity shortcut and can.

    Example:
        >>> texts = ("1-3.4", "2-3.4", "1-3-2.4")
        >>> results = [Result.counted(Spec.from_text(text), images=10, correct=5, lost=0, won=0) for text in texts]
        >>> sweep = Sweep(experiment="", method="common", kind="delete", provider="", images=10, main=results[0],
        ...               results=results)
        >>> [str(result.spec) for result in first_blocks_kept(Topology.of("toy", [3, 1]), sweep).results]
        ['1-3.4', '1-3-2.4']
    """
    firsts = [stage[:1] for stage in topology.stages]
    return replace(sweep, results=[r for r in sweep.results if [stage[:1] for stage in r.spec.stages] == firsts])


def single_deletions(topology: Topology, sweep: Sweep) -> list[tuple[int, Result]]:
    """Return the networks without exactly one block as (block, result), sorted by block (Figs r4 to r7, panel a).

    Example:
        >>> results = [Result.counted(Spec.from_text(text), images=10, correct=5, lost=0, won=0) for text in ("1", "2", "1-2")]
        >>> sweep = Sweep(experiment="", method="common", kind="delete", provider="", images=10, main=results[2],
        ...               results=results)
        >>> [(block, str(result.spec)) for block, result in single_deletions(Topology.of("toy", [2]), sweep)]
        [(1, '2'), (2, '1')]
    """
    missing = [(deleted_blocks(topology, result.spec), result) for result in sweep.results]
    return sorted(((blocks[0], result) for blocks, result in missing if len(blocks) == 1), key=lambda pair: pair[0])


def deletion_curve(topology: Topology, sweep: Sweep) -> list[Spread]:
    """Return the drops by number of deleted blocks (panel b).

    Example:
        >>> counts = (("2-3", 9), ("1-3", 8), ("1", 7))
        >>> results = [Result.counted(Spec.from_text(text), images=10, correct=correct, lost=10 - correct, won=0)
        ...            for text, correct in counts]
        >>> sweep = Sweep(experiment="", method="common", kind="delete", provider="", images=10, main=results[0],
        ...               results=results)
        >>> [(spread.amount, spread.num, spread.median) for spread in deletion_curve(Topology.of("toy", [3]), sweep)]
        [(1, 2, 15.0), (2, 1, 30.0)]
    """
    return _spreads(sweep, lambda result: len(deleted_blocks(topology, result.spec)))


def permutation_curve(sweep: Sweep) -> list[Spread]:
    """Return the drops by number of permuting operations (panel c; Table r2 counts the arrangements).

    Example:
        >>> result = Result.counted(Spec.from_text("2-3-1"), images=10, correct=8, lost=2, won=0)
        >>> sweep = Sweep(experiment="", method="common", kind="permute", provider="", images=10, main=result, results=[result])
        >>> [(spread.amount, spread.high) for spread in permutation_curve(sweep)]
        [(2, 20.0)]
    """
    return _spreads(sweep, lambda result: count_operations(result.spec))


def _spreads(sweep: Sweep, amount: Callable[[Result], int]) -> list[Spread]:
    groups: dict[int, list[Result]] = {}
    for result in sweep.results:
        groups.setdefault(amount(result), []).append(result)
    spreads = []
    for key, results in sorted(groups.items()):
        drops = [result.drop_pct for result in results]
        worst = max(results, key=lambda result: result.drop_pct)
        spreads.append(Spread(key, len(results), min(drops), statistics.median(drops), max(drops), worst))
    return spreads
