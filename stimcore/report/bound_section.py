"""Appendix B on measured numbers: the bound, and how far the measured gap is from it."""

from stimcore.analysis.bound import measure_bound
from stimcore.report.results import ExperimentResults, method_words
from stimcore.report.section import Cell, Column, Section, Table


def bound_section(results: ExperimentResults) -> Section:
    """Return eps1, eps2, the bound and the gap that it bounds, per method."""
    rows: list[tuple[Cell, ...]] = []
    missing: list[str] = []
    for method, network in results.methods.items():
        sweep = network.sweeps.get("ordered")
        bound = measure_bound(sweep, results.num_classes) if sweep is not None else None
        if bound is None:
            missing.append(method_words(method))
        else:
            rows.append((method_words(method), bound.eps1, bound.eps2, bound.limit, bound.floor, bound.gap))
    columns = (
        Column("method"),
        Column("eps1: largest CE of main", 3),
        Column("eps2: largest mean KL", 4),
        Column("bound", 3, general=True),
        Column("least the bound can be: log N", 3),
        Column("gap, measured", 4),
    )
    return Section(
        name="bound",
        title="Appendix B: the bound",
        text=(
            "|CE of main - mean CE of its sub-networks| < eps1 + (eps2 + log N) / exp(-eps1), everything in nats; eps1 and "
            "eps2 are measured on the test images over all ordered sub-networks. The paper prints no numbers for it.",
            "With eps1 = eps2 = 0 the bound is log N, the cross entropy of guessing: it never becomes tiny, and one image that "
            "the main network gets badly wrong makes it astronomically large. A gap below it is therefore weak evidence.",
        ),
        tables=(Table("bound", "Measured here, nats", columns, rows),) if rows else (),
        gaps=[f"No stored cross entropies of ordered sub-networks: {', '.join(missing)}."] if missing else [],
    )
