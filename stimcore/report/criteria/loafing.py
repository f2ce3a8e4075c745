"""Claims about loafing: sub-networks that do worse inside a network than alone, and the bound of Appendix B."""

from itertools import pairwise

from stimcore.analysis.bound import measure_bound
from stimcore.analysis.comparisons import nested_family, nested_table, ordered, twin_gaps
from stimcore.analysis.seeds import compare
from stimcore.report.criteria.finding import Finding, all_positive, basis_of, in_points, missing
from stimcore.report.results import ExperimentResults


def common_loafs(results: ExperimentResults) -> Finding:
    """Judge the gaps of all twins inside the commonly trained (or imported) network."""
    gaps = [] if results.base is None else twin_gaps(results.twins, results.base)
    if not gaps:
        return missing("twins, or the ordered sub-networks of common training")
    points = [gap.points for gap in gaps]
    listed = ", ".join(f"{gap.twin.short} {in_points(gap.points)}" for gap in gaps)
    return Finding(f"gap (twin minus inside, {basis_of(points)}): {listed}", *all_positive(points))


def stimulative_closes(results: ExperimentResults) -> Finding:
    """Compare the gaps of all twins between stimulative and common training."""
    pair = results.common_and_stimulative("ordered")
    if isinstance(pair, list):
        return missing(*pair)
    common, stimulative = ({gap.twin.name: gap for gap in twin_gaps(results.twins, network)} for network in pair)
    shared = [(gap, stimulative[name]) for name, gap in common.items() if name in stimulative]
    if not shared:
        return missing("twins")
    listed = ", ".join(f"{new.twin.short} {in_points(new.points)} against {old.points.value:.2f}" for old, new in shared)
    picks = [ordered(old.twin.depths) for old, _ in shared]
    closed = [
        gain
        for (old, new), pick in zip(shared, picks, strict=True)
        if (gain := compare(new.main, old.main, pick, pick)) is not None
    ]
    return Finding(f"gap (twin minus inside, {basis_of(closed)}), stimulative against common: {listed}", *all_positive(closed))


def deeper_loafs(results: ExperimentResults) -> Finding:
    """Judge one sub-network alone and inside ever deeper networks."""
    members = nested_family(results.networks, results.topology.network)
    cells = nested_table(members)
    names = [member.name for member in members]
    rows = {row: [cells[row, column] for column in names if (row, column) in cells] for row in names}
    rows = {name: row for name, row in rows.items() if len(row) > 1}
    if not rows:
        return missing("at least two nested networks, trained alone and swept")
    listed = "; ".join(f"{name}: " + ", ".join(f"{cell.value:.2f}" for cell in row) for name, row in rows.items())
    steps = [
        step
        for member in members
        for before, after in pairwise([column for column in members if (member.name, column.name) in cells])
        if (step := compare(before.network, after.network, *2 * (ordered(member.depths),))) is not None
    ]
    return Finding(
        f"accuracy in percent, alone first, then inside ever deeper networks ({basis_of(steps)}): {listed}",
        *all_positive(steps),
    )


def bounded(results: ExperimentResults) -> Finding:
    """Compare the measured gap of cross entropies with the bound of Appendix B."""
    network = results.method("stimulative")
    swept = network is not None and "ordered" in network.sweeps
    bound = measure_bound(network.sweeps["ordered"], results.num_classes) if network is not None and swept else None
    if bound is None or network is None:
        return missing("the ordered sub-networks of stimulative training with their cross entropies")
    return Finding(
        f"seed {network.seed}: gap {bound.gap:.4f} nats, bound {bound.limit:.3g} nats (eps1 {bound.eps1:.2f}, eps2 "
        f"{bound.eps2:.4f}); the bound is never below log {bound.num_classes} = {bound.floor:.2f} nats, so it says little "
        "about a gap this small",
        bound.gap <= bound.limit,
    )
