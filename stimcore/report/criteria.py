"""Judges: each looks at an experiment's evidence and says whether one criterion of `stimcore.report.claims` is met.

A verdict follows from the measured number alone; `clear` says whether its whole interval is on the same side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stimcore.analysis import loafing, paper
from stimcore.analysis.loafing import Cost, Estimate, Sweep
from stimcore.report.comparisons import family, lambdas, overalls, pair, twin_gaps
from stimcore.report.evidence import Evidence, Trained
from stimcore.report.figures.looks import look

NEAR_POINTS = 2.0
STEADY_FRAC = 0.1
SMALL_DROP_POINTS = 1.0
SAME_MEMORY_FRAC = 0.1
SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """What was found about one claim.

    Attributes:
        measured: The numbers, in words.
        holds: The verdict; None where nothing could be measured.
        clear: Whether the interval lies wholly on the verdict's side; None where there is no interval.
    """

    measured: str
    holds: bool | None
    clear: bool | None = None


def missing(*what: str) -> Finding:
    """Nothing to judge: says what is missing."""
    return Finding("missing: " + ", ".join(what), None)


def _points(value: Estimate) -> str:
    return f"{value.value:.2f} points [{value.low:.2f}, {value.high:.2f}]"


def _pct(value: Estimate) -> str:
    return f"{value.value:.2f}% [{value.low:.2f}, {value.high:.2f}]"


def main_accuracy(evidence: Evidence) -> Finding:
    """Main accuracies, stimulative beside common."""
    runs = pair(evidence)
    if isinstance(runs, list):
        return missing(*runs)
    common, stimulative = runs
    found = loafing.difference(stimulative.main, common.main)
    return Finding(
        f"stimulative {_pct(loafing.accuracy(stimulative.main))}, common {_pct(loafing.accuracy(common.main))}, "
        f"difference {_points(found)} (independent)",
        found.value >= 0,
        found.low >= 0 or found.high < 0,
    )


def near_main(evidence: Evidence) -> Finding:
    """Main minus all-mean of stimulative training."""
    runs = pair(evidence, "ordered")
    if isinstance(runs, list):
        return missing(*runs)
    common, stimulative = (loafing.overall(run.sweeps["ordered"]) for run in runs)
    return Finding(
        f"main minus all-mean: stimulative {_points(stimulative.gap)}, common {_points(common.gap)}; "
        f"all-mean stimulative {stimulative.mean.value:.2f}%, common {common.mean.value:.2f}%",
        stimulative.gap.value <= NEAR_POINTS,
        stimulative.gap.high <= NEAR_POINTS or stimulative.gap.low > NEAR_POINTS,
    )


def deviation(evidence: Evidence) -> Finding:
    """Ratio of the deviations over all ordered sub-networks."""
    runs = pair(evidence, "ordered")
    if isinstance(runs, list):
        return missing(*runs)
    common, stimulative = (loafing.overall(run.sweeps["ordered"]) for run in runs)
    found = loafing.ratio(stimulative.std, common.std)
    if found is None:
        return missing("a deviation of common training above 0")
    return Finding(
        f"stimulative {_points(stimulative.std)}, common {_points(common.std)}, "
        f"ratio {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]",
        found.value <= STEADY_FRAC,
        found.high <= STEADY_FRAC or found.low > STEADY_FRAC,
    )


def every_subnet(evidence: Evidence) -> Finding:
    """Sub-networks that stimulative training improves."""
    runs = pair(evidence, "ordered")
    if isinstance(runs, list):
        return missing(*runs)
    old, new = (run.sweeps["ordered"] for run in runs)
    better, both = loafing.improved(new, old)
    worse = [
        f"{evidence.topology.short(evidence.topology.parse(a['spec']))} ({a['accuracy_pct']:.2f} against "
        f"{b['accuracy_pct']:.2f})"
        for a, b in loafing.in_both(new, old)
        if a["correct"] < b["correct"]
    ]
    more = f" and {len(worse) - SHOWN} more" if len(worse) > SHOWN else ""
    return Finding(f"{better} of {both} are" + (f"; not: {', '.join(worse[:SHOWN])}{more}" if worse else ""), better == both)


def one_block(evidence: Evidence, *, later: bool = False) -> Finding:
    """Largest drop of a single deletion; `later`: of one that is not the first block of its stage."""
    runs = pair(evidence, "delete")
    if isinstance(runs, list):
        return missing(*runs)
    told, worst = [], []
    for run in runs:
        singles = loafing.single_deletions(run.topology, _swept(run, "delete", later))
        if not singles:
            return missing("a block that can be deleted")
        block, row = max(singles, key=lambda item: item[1]["drop_pct"])
        worst.append(loafing.drop(row))
        told.append(f"{look(run.method).name} {_points(worst[-1])} (block {block})")
    return Finding(
        f"largest drop: {told[1]}, {told[0]}; paired",
        worst[1].value < SMALL_DROP_POINTS,
        worst[1].high < SMALL_DROP_POINTS or worst[1].low >= SMALL_DROP_POINTS,
    )


def deletion(evidence: Evidence, *, later: bool = False) -> Finding:
    """Median drops by number of deleted blocks; `later`: the first block of every stage stays."""
    runs = pair(evidence, "delete")
    if isinstance(runs, list):
        return missing(*runs)
    return _curves([loafing.deletion_curve(run.topology, _swept(run, "delete", later)) for run in runs], "deleted")


def permutation(evidence: Evidence, *, later: bool = False) -> Finding:
    """Median drops by number of permuting operations; `later`: the first block of every stage stays where it is."""
    runs = pair(evidence, "permute")
    if isinstance(runs, list):
        return missing(*runs)
    return _curves([loafing.permutation_curve(run.topology, _swept(run, "permute", later)) for run in runs], "operations")


def _swept(run: Trained, kind: str, later: bool) -> Sweep:
    return loafing.first_blocks_kept(run.topology, run.sweeps[kind]) if later else run.sweeps[kind]


def _curves(curves: Sequence[Sequence[loafing.Spread]], unit: str) -> Finding:
    common, stimulative = ({spread.amount: spread for spread in curve} for curve in curves)
    both = sorted(set(common) & set(stimulative))
    if not both:
        return missing(f"sub-networks with the same number of {unit} in both")
    told = [
        f"{amount} {unit}: {stimulative[amount].median:.2f} ({stimulative[amount].low:.2f} to {stimulative[amount].high:.2f}) "
        f"against {common[amount].median:.2f} ({common[amount].low:.2f} to {common[amount].high:.2f})"
        for amount in both
    ]
    return Finding(
        "median (smallest to largest) drop in points, stimulative against common: " + "; ".join(told),
        all(stimulative[amount].median < common[amount].median for amount in both),
    )


def common_loafs(evidence: Evidence) -> Finding:
    """Gaps of all twins inside the commonly trained (or imported) network."""
    base = evidence.base
    gaps = {} if base is None else twin_gaps(evidence, base)
    if not gaps:
        return missing("twins, or the ordered sub-networks of common training")
    told = ", ".join(f"{gap.twin.short} {_points(gap.points)}" for gap in gaps.values())
    return Finding(f"gap (twin minus inside, independent): {told}", *_all_positive([gap.points for gap in gaps.values()]))


def stimulative_closes(evidence: Evidence) -> Finding:
    """Gaps of all twins, stimulative beside common."""
    runs = pair(evidence, "ordered")
    if isinstance(runs, list):
        return missing(*runs)
    common, stimulative = (twin_gaps(evidence, run) for run in runs)
    both = [(common[name], stimulative[name]) for name in common if name in stimulative]
    if not both:
        return missing("twins")
    told = ", ".join(f"{new.twin.short} {_points(new.points)} against {old.points.value:.2f}" for old, new in both)
    closed = [loafing.difference(new.inside, old.inside) for old, new in both]
    return Finding(f"gap (twin minus inside, independent), stimulative against common: {told}", *_all_positive(closed))


def _all_positive(values: Sequence[Estimate]) -> tuple[bool, bool]:
    """Whether all are above 0, and whether the intervals say so too."""
    if all(value.value > 0 for value in values):
        return True, all(value.low > 0 for value in values)
    return False, any(value.high <= 0 for value in values)


def deeper_loafs(evidence: Evidence) -> Finding:
    """One sub-network alone and inside ever deeper networks."""
    members = family(evidence)
    cells = loafing.matrix(members)
    names = [member.name for member in members]
    rows = {row: [cells[row, column] for column in names if (row, column) in cells] for row in names}
    rows = {row: found for row, found in rows.items() if len(found) > 1}
    if not rows:
        return missing("at least two nested networks, trained alone and swept")
    told = "; ".join(f"{row}: " + ", ".join(f"{cell['accuracy_pct']:.2f}" for cell in found) for row, found in rows.items())
    steps = [
        loafing.difference(before, after) for found in rows.values() for before, after in zip(found, found[1:], strict=False)
    ]
    return Finding(f"accuracy in percent, alone first, then inside ever deeper networks: {told}", *_all_positive(steps))


def best_of_all(evidence: Evidence) -> Finding:
    """Who leads both columns of Table r3."""
    found = overalls(evidence)
    if len(found) < len(paper.TABLE_R3):
        return missing(*(look(row.method).name for row in paper.TABLE_R3 if row.method not in found))
    mains, means = {name: o.main.value for name, o in found.items()}, {name: o.mean.value for name, o in found.items()}
    first = [loafing.ranking(values)[0] for values in (mains, means)]
    told = "; ".join(
        f"{what}: " + ", ".join(f"{look(name).name} {values[name]:.2f}" for name in loafing.ranking(values))
        for what, values in (("main", mains), ("all-mean", means))
    )
    return Finding(told, first == ["stimulative", "stimulative"])


def ordering(evidence: Evidence) -> Finding:
    """Pairs of methods that stand in the paper's order."""
    found = overalls(evidence)
    if len(found) < len(paper.TABLE_R3):
        return missing(*(look(row.method).name for row in paper.TABLE_R3 if row.method not in found))
    mains, means = {name: o.main.value for name, o in found.items()}, {name: o.mean.value for name, o in found.items()}
    by_main = loafing.agreement(mains, {row.method: row.main_pct for row in paper.TABLE_R3})
    by_mean = loafing.agreement(means, {row.method: row.all_mean_pct for row in paper.TABLE_R3})
    return Finding(
        f"pairs in the paper's order: {by_main[0]} of {by_main[1]} by main accuracy, {by_mean[0]} of {by_mean[1]} by all-mean",
        by_main[0] == by_main[1] and by_mean[0] == by_mean[1],
    )


def every_lambda(evidence: Evidence) -> Finding:
    """Every lambda beside common training."""
    points, common = lambdas(evidence)
    if len(points) < 2 or common is None:
        return missing("at least two lambdas and common training with the same recipe")
    gaps = [(weight, loafing.difference(row, common)) for weight, row in points]
    told = ", ".join(f"lambda {weight:g} {_points(gap)}" for weight, gap in gaps)
    return Finding(
        f"stimulative minus common ({_pct(loafing.accuracy(common))}): {told} (independent)",
        *_all_positive([gap for _, gap in gaps]),
    )


def time(evidence: Evidence) -> Finding:
    """Ratio of training times."""
    costs = _costs(evidence)
    if isinstance(costs, list):
        return missing(*costs)
    cpu = loafing.ratio(costs[1].cpu_seconds, costs[0].cpu_seconds)
    wall = loafing.ratio(costs[1].seconds, costs[0].seconds)
    if cpu is None or wall is None:
        return missing("times above 0")
    return Finding(
        f"ratio of processor time per epoch {cpu.value:.2f} (epochs range over {cpu.low:.2f} to {cpu.high:.2f}), of wall clock "
        f"{wall.value:.2f} on a machine that did other work as well",
        cpu.value < paper.TIME_RATIO_BELOW,
        cpu.high < paper.TIME_RATIO_BELOW or cpu.low >= paper.TIME_RATIO_BELOW,
    )


def memory(evidence: Evidence) -> Finding:
    """Ratio of memory."""
    costs = _costs(evidence)
    if isinstance(costs, list):
        return missing(*costs)
    found = costs[1].memory_mib / costs[0].memory_mib
    return Finding(
        f"ratio {found:.3f} ({costs[1].memory_mib:.0f} against {costs[0].memory_mib:.0f} MiB for the whole process, data set "
        "and libraries among them)",
        abs(found - 1) <= SAME_MEMORY_FRAC,
    )


def bounded(evidence: Evidence) -> Finding:
    """Measured gap of cross entropies beside the bound."""
    run = evidence.method("stimulative")
    found = loafing.bound(run.sweeps["ordered"], evidence.num_classes) if run and "ordered" in run.sweeps else None
    if found is None:
        return missing("the ordered sub-networks of stimulative training with their cross entropies")
    return Finding(
        f"gap {found.gap:.4f} nats, bound {found.limit:.3g} nats (eps1 {found.eps1:.2f}, eps2 {found.eps2:.4f}); the bound is "
        f"never below log {found.num_classes} = {found.floor:.2f} nats, so it says little about a gap this small",
        found.gap <= found.limit,
    )


def _costs(evidence: Evidence) -> tuple[Cost, Cost] | list[str]:
    runs = pair(evidence)
    if isinstance(runs, list):
        return runs
    common, stimulative = (loafing.training_cost(run.records) for run in runs)
    return ["records of the epochs"] if common is None or stimulative is None else (common, stimulative)
