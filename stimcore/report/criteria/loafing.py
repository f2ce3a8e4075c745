"""Claims about loafing: sub-networks that do worse inside a network than alone, and the bound of Appendix B."""

from collections.abc import Sequence
from itertools import pairwise

from stimcore.analysis.bound import measure_bound
from stimcore.analysis.comparisons import NestedNetwork, TwinGap, nested_family, nested_table, ordered, twin_gaps
from stimcore.analysis.seeds import compare, runs_of, seeds_words
from stimcore.report.criteria.finding import Finding, all_positive, basis_of, count_confirming, in_points, missing
from stimcore.report.results import ExperimentResults


def common_loafs(results: ExperimentResults) -> Finding:
    """Judge the gaps of all twins inside the commonly trained (or imported) network."""
    gaps = [] if results.base is None else twin_gaps(results.twins, results.base)
    if not gaps:
        return missing("twins, or the ordered sub-networks of common training")
    points = [gap.points for gap in gaps]
    words = [f"{gap.twin.short} {in_points(gap.points)}" for gap in gaps]
    exceptions = [text for text, gap in zip(words, gaps, strict=True) if gap.points.value <= 0]
    return Finding(
        f"{_exceptions_first(len(gaps), exceptions)}gap (twin minus inside, {_basis_of_gaps(gaps)}): {', '.join(words)}",
        *all_positive(points),
    )


def stimulative_closes(results: ExperimentResults) -> Finding:
    """Compare the gaps of all twins between stimulative and common training."""
    pair = results.common_and_stimulative("ordered")
    if isinstance(pair, list):
        return missing(*pair)
    common, stimulative = ({gap.twin.name: gap for gap in twin_gaps(results.twins, network)} for network in pair)
    shared = [(gap, stimulative[name]) for name, gap in common.items() if name in stimulative]
    if not shared:
        return missing("twins")
    compared = [
        (old, new, gain)
        for old, new in shared
        if (gain := compare(new.main, old.main, *2 * (ordered(old.twin.depths),))) is not None
    ]
    gains = [gain for *_, gain in compared]
    # A twin of one seed has a gap of this seed alone; by how much training closes it does not depend on the twin.
    over = _basis_of_gaps([new for _, new, _ in compared])
    apart = basis_of(gains) != over
    words = [
        f"{new.twin.short} {in_points(new.points)} against {old.points.value:.2f}" + f", closed by {in_points(gain)}" * apart
        for old, new, gain in compared
    ]
    exceptions = [text for text, gain in zip(words, gains, strict=True) if gain.value <= 0]
    return Finding(
        f"{_exceptions_first(len(gains), exceptions)}gap (twin minus inside, {over}{f'; closed {basis_of(gains)}' * apart}), "
        f"stimulative against common: {', '.join(words)}",
        *all_positive(gains),
    )


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
    compared = [
        (
            f"{member.name} in {after.name} ({cells[member.name, after.name].value:.2f} against "
            f"{cells[member.name, before.name].value:.2f})",
            step,
        )
        for member in members
        for before, after in pairwise([column for column in members if (member.name, column.name) in cells])
        if (step := compare(before.network, after.network, *2 * (ordered(member.depths),))) is not None
    ]
    steps = [step for _, step in compared]
    exceptions = [words for words, step in compared if step.value <= 0]
    return Finding(
        f"{_exceptions_first(len(steps), exceptions)}accuracy in percent, alone first, then inside ever deeper networks "
        f"({basis_of(steps)}{_fewer_seeds(results, members)}): {listed}",
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


def _basis_of_gaps(gaps: Sequence[TwinGap]) -> str:
    """Return what the intervals of gaps cover, with the seed of those that are of one seed although a network has several."""
    return ", ".join(dict.fromkeys(_basis_of_gap(gap) for gap in gaps))


def _basis_of_gap(gap: TwinGap) -> str:
    seeds = [{run.seed for run in runs_of(network)} for network in (gap.twin, gap.main)]
    shared = set.intersection(*seeds)
    one_of_several = gap.points.seeds == 1 and max(map(len, seeds)) > 1 and shared
    return gap.points.basis_words + (f", seed {min(shared)}" if one_of_several else "")


def _fewer_seeds(results: ExperimentResults, members: Sequence[NestedNetwork]) -> str:
    """Return which seeds a nested family is compared on, where one of its networks has more of them."""
    runs = {network.name: len(runs_of(network)) for network in results.networks}
    fewer = any(len(runs_of(member.network)) < runs[member.network.name] for member in members)
    return f"; {seeds_words(members[0].network)}" if fewer else ""


def _exceptions_first(num: int, exceptions: Sequence[str]) -> str:
    """Return what contradicts a claim about several comparisons, as the beginning of a finding; empty where nothing does."""
    return f"{count_confirming(num, exceptions)}; " if exceptions else ""
