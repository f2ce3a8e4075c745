"""What stored sweeps and training records say about loafing: means, gaps, curves, ratios, the bound of Appendix B.

Pure functions of plain values: a *row* has the keys of `stimcore.serve.types.Result`, a *sweep* those of
`stimcore.sweep.sweep`. Knows no files, no networks and no figures. Every accuracy is in percent, every drop and gap in points.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from stimcore.analysis.intervals import mean_std, paired_drop, wilson
from stimcore.subnets.families import operations
from stimcore.subnets.topology import Spec, Topology

Row = Mapping[str, Any]
Sweep = Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; `low <= value <= high`."""

    value: float
    low: float
    high: float


def accuracy(row: Row) -> Estimate:
    """A row's accuracy in percent with its 95% interval (Wilson)."""
    return Estimate(100 * row["correct"] / row["images"], *wilson(row["correct"], row["images"]))


def drop(row: Row) -> Estimate:
    """A row's drop against its main network in points, with the paired 95% interval that was stored with it."""
    return Estimate(row["drop_pct"], *row["drop_interval_pct"])


def difference(first: Row, second: Row) -> Estimate:
    """Accuracy of `first` minus accuracy of `second` in points, the two taken as independent.

    Two networks that were counted on the same images agree on most of them, so this interval is wider than a paired one
    would be: it never claims too much. Source: Newcombe 1998, method 10 (from the two Wilson intervals).
    """
    a, b = accuracy(first), accuracy(second)
    value = a.value - b.value
    return Estimate(
        value,
        max(-100.0, value - math.hypot(a.value - a.low, b.high - b.value)),
        min(100.0, value + math.hypot(a.high - a.value, b.value - b.low)),
    )


def loafing_gap(twin: Row, inside: Row, pairs: tuple[int, int] | None = None) -> Estimate:
    """Accuracy of a twin, trained alone, minus that of the same architecture inside the main network, in points.

    Args:
        twin: The twin on the evaluation images.
        inside: The sub-network on the same images.
        pairs: Images that only the twin gets right, and that only the sub-network gets right, where both were counted image
            by image: the interval is then paired, otherwise that of `difference`.
    """
    if pairs is None:
        return difference(twin, inside)
    found = paired_drop(*pairs, twin["images"])
    return Estimate(found.drop_pct, *found.interval_pct)


@dataclass(frozen=True)
class Overall:
    """All ordered sub-networks of a main network, itself among them (Table r3's "All").

    Attributes:
        num: How many.
        main: Accuracy of the main network.
        mean: Of their accuracies. Interval: the mean of theirs, ends apart; a mean's standard error is at most the mean of the
            standard errors, so it is no narrower than 95%.
        std: Population standard deviation of their accuracies in points. Interval: plus or minus the root mean square of the
            half-widths of their drops, which is as far as shifts of that size can move a standard deviation.
        gap: Main minus mean in points. Interval: the mean of the paired intervals of their drops, ends apart.
        worst: The row with the lowest accuracy.
    """

    num: int
    main: Estimate
    mean: Estimate
    std: Estimate
    gap: Estimate
    worst: Row


def overall(sweep: Sweep) -> Overall:
    """Mean and deviation over a sweep of ordered sub-networks.

    Raises:
        ValueError: The sweep holds no results.
    """
    rows: Sequence[Row] = sweep["results"]
    accuracies, drops = [accuracy(row) for row in rows], [drop(row) for row in rows]
    mean, std = mean_std([a.value for a in accuracies])
    slack = math.sqrt(_mean([((d.high - d.low) / 2) ** 2 for d in drops]))
    return Overall(
        num=len(rows),
        main=accuracy(sweep["main"]),
        mean=Estimate(mean, _mean([a.low for a in accuracies]), _mean([a.high for a in accuracies])),
        std=Estimate(std, max(0.0, std - slack), std + slack),
        gap=Estimate(_mean([d.value for d in drops]), _mean([d.low for d in drops]), _mean([d.high for d in drops])),
        worst=min(rows, key=lambda row: row["correct"] / row["images"]),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def ratio(above: Estimate, below: Estimate) -> Estimate | None:
    """`above / below` of numbers from 0, from end to end of both intervals; None where `below` is 0.

    The upper end is infinite where the lower end of `below` is 0.
    """
    if below.value <= 0:
        return None
    high = above.high / below.low if below.low > 0 else math.inf
    return Estimate(above.value / below.value, above.low / below.high, high)


def in_both(first: Sweep, second: Sweep) -> list[tuple[Row, Row]]:
    """The rows of every sub-network that is in both sweeps, in the order of the first."""
    others = {row["spec"]: row for row in second["results"]}
    return [(row, others[row["spec"]]) for row in first["results"] if row["spec"] in others]


def improved(first: Sweep, second: Sweep) -> tuple[int, int]:
    """How many sub-networks are at least as accurate in the first sweep as in the second, of how many that are in both."""
    both = in_both(first, second)
    return sum(a["correct"] * b["images"] >= b["correct"] * a["images"] for a, b in both), len(both)


# --- sub-networks inside larger networks: Tables r5 and r6 ---


def depths(spec: str) -> tuple[int, ...]:
    """Depths of an ordered spec in its long form: `1-2.3` is (2, 1)."""
    return tuple(len(stage.split("-")) for stage in spec.split("."))


def inside(sweep: Sweep, wanted: Sequence[int]) -> Row | None:
    """The row of the ordered sub-network with these depths; None where the sweep has none."""
    return next((row for row in sweep["results"] if depths(row["spec"]) == tuple(wanted)), None)


@dataclass(frozen=True)
class Member:
    """One network of a nested family, trained alone.

    Attributes:
        name: As it is printed.
        depths: Blocks per stage.
        main: Its own row.
        sweep: Of its ordered sub-networks; None where it was not swept.
    """

    name: str
    depths: tuple[int, ...]
    main: Row
    sweep: Sweep | None


def matrix(members: Sequence[Member]) -> dict[tuple[str, str], Row]:
    """Cells (sub-network, main network) of a table such as r5: the diagonal is each network alone.

    Pairs that are not nested, and those whose main network was not swept, are absent.
    """
    cells: dict[tuple[str, str], Row] = {}
    for column in members:
        cells[column.name, column.name] = column.main
        for row in members:
            nested = len(row.depths) == len(column.depths) and all(
                a <= b for a, b in zip(row.depths, column.depths, strict=True)
            )
            if row.depths == column.depths or not nested or column.sweep is None:
                continue
            if (found := inside(column.sweep, row.depths)) is not None:
                cells[row.name, column.name] = found
    return cells


# --- damage: Figs r4 to r7 ---


@dataclass(frozen=True)
class Spread:
    """Drops of all sub-networks with the same amount of damage, in points.

    Attributes:
        amount: Deleted blocks, or permuting operations.
        num: Sub-networks.
        low: Smallest drop (negative: better than the main network).
        median: Middle drop.
        high: Largest drop.
        worst: The row with the largest drop.
    """

    amount: int
    num: int
    low: float
    median: float
    high: float
    worst: Row


def deleted(topology: Topology, spec: Spec) -> tuple[int, ...]:
    """Blocks that a spec leaves out."""
    return tuple(sorted(set(topology.full.blocks) - set(spec.blocks)))


def first_blocks_kept(topology: Topology, sweep: Sweep) -> Sweep:
    """The sweep less every row that deletes or moves the first block of a stage.

    Ordered sub-networks always keep these blocks, so no training on them ever skips one, and in the paper's network none can be
    deleted. In ResNets some have an identity shortcut and can.
    """
    firsts = [stage[0] for stage in topology.stages]

    def kept(row: Row) -> bool:
        return [stage[:1] for stage in topology.parse(row["spec"]).stages] == [(block,) for block in firsts]

    return {**sweep, "results": [row for row in sweep["results"] if kept(row)]}


def single_deletions(topology: Topology, sweep: Sweep) -> list[tuple[int, Row]]:
    """Block -> row of the network without it, by block (Figs r4 to r7, panel a)."""
    gone = [(deleted(topology, topology.parse(row["spec"])), row) for row in sweep["results"]]
    return sorted(((blocks[0], row) for blocks, row in gone if len(blocks) == 1), key=lambda pair: pair[0])


def deletion_curve(topology: Topology, sweep: Sweep) -> list[Spread]:
    """Drops by number of deleted blocks (panel b)."""
    return _spreads(sweep, lambda row: len(deleted(topology, topology.parse(row["spec"]))))


def permutation_curve(topology: Topology, sweep: Sweep) -> list[Spread]:
    """Drops by number of permuting operations (panel c; Table r2 counts them)."""
    return _spreads(sweep, lambda row: operations(topology, topology.parse(row["spec"])))


def _spreads(sweep: Sweep, amount: Callable[[Row], int]) -> list[Spread]:
    groups: dict[int, list[Row]] = {}
    for row in sweep["results"]:
        groups.setdefault(amount(row), []).append(row)
    found = []
    for key, rows in sorted(groups.items()):
        drops = [row["drop_pct"] for row in rows]
        worst = max(rows, key=lambda row: row["drop_pct"])
        found.append(Spread(key, len(rows), min(drops), statistics.median(drops), max(drops), worst))
    return found


# --- methods side by side ---


def ranking(values: Mapping[str, float]) -> list[str]:
    """Names from the largest value to the smallest; equal values in the order given."""
    return sorted(values, key=lambda name: -values[name])


def agreement(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[int, int]:
    """Of all pairs of names that both have, how many both put in the same order; a tie on either side agrees with nothing."""
    pairs = list(combinations([name for name in theirs if name in ours], 2))
    return sum((ours[a] - ours[b]) * (theirs[a] - theirs[b]) > 0 for a, b in pairs), len(pairs)


@dataclass(frozen=True)
class Cost:
    """What training took.

    Attributes:
        epochs: Records behind it.
        seconds: Wall clock per epoch, median; evaluation not counted.
        cpu_seconds: Of the processor per epoch: median, smallest, largest. Other work on the machine lengthens it less than it
            lengthens the wall clock.
        memory_mib: Largest memory: allocated on a GPU, resident in the whole process on a CPU.
    """

    epochs: int
    seconds: Estimate
    cpu_seconds: Estimate
    memory_mib: float


def training_cost(records: Sequence[Mapping[str, Any]]) -> Cost | None:
    """Cost from the records of the epochs; None where there are none."""
    if not records:
        return None
    memory = max(row["peak_memory_bytes"] for row in records) / 2**20
    return Cost(len(records), _middle(records, "seconds"), _middle(records, "cpu_seconds"), memory)


def _middle(records: Sequence[Mapping[str, Any]], key: str) -> Estimate:
    values = [float(row[key]) for row in records]
    return Estimate(statistics.median(values), min(values), max(values))


# --- Appendix B ---


@dataclass(frozen=True)
class Bound:
    """Appendix B on measured numbers, in nats.

    Attributes:
        eps1: Largest cross entropy of the main network on one image.
        eps2: Largest mean KL(main || sub-network) among the sub-networks.
        num_classes: N.
        limit: `eps1 + (eps2 + log N) / exp(-eps1)`; infinite where that is beyond a float.
        gap: `|CE_main - mean CE_sub|`, means over images and sub-networks.
        floor: log N, which the limit never falls below however small eps1 and eps2 are.
    """

    eps1: float
    eps2: float
    num_classes: int
    limit: float
    gap: float
    floor: float


def limit(eps1: float, eps2: float, num_classes: int) -> float:
    """`eps1 + (eps2 + log N) / exp(-eps1)` in nats. Source: paper, Appendix B, formula 11."""
    try:
        return eps1 + (eps2 + math.log(num_classes)) * math.exp(eps1)
    except OverflowError:
        return math.inf


def bound(sweep: Sweep, num_classes: int) -> Bound | None:
    """The bound beside the measured gap, over a sweep of ordered sub-networks; None where no cross entropy was stored."""
    main, rows = sweep["main"], sweep["results"]
    if any("ce_nats" not in row for row in (main, *rows)) or not rows:
        return None
    eps1, eps2 = main["max_ce_nats"], max(row["kl_nats"] for row in rows)
    gap = abs(main["ce_nats"] - _mean([row["ce_nats"] for row in rows]))
    return Bound(eps1, eps2, num_classes, limit(eps1, eps2, num_classes), gap, math.log(num_classes))
