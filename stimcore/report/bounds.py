"""Appendix B on measured numbers: the bound, and how far the measured gap is from it."""

from stimcore.analysis import loafing
from stimcore.report.evidence import Evidence
from stimcore.report.figures.looks import look
from stimcore.report.section import Cell, Column, Section, Table


def table_bound(evidence: Evidence) -> Section:
    """Per method eps1, eps2, the bound and the gap it bounds."""
    rows: list[tuple[Cell, ...]] = []
    lacking: list[str] = []
    for method, run in evidence.methods.items():
        found = loafing.bound(run.sweeps["ordered"], evidence.num_classes) if "ordered" in run.sweeps else None
        if found is None:
            lacking.append(look(method).name)
            continue
        rows.append((look(method).name, found.eps1, found.eps2, found.limit, found.floor, found.gap))
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
            "|CE of main - mean CE of its sub-networks| < eps1 + (eps2 + log N) / exp(-eps1), everything in nats, eps1 and "
            "eps2 "
            "measured on the test images over all ordered sub-networks. The paper prints no numbers for it.",
            "With eps1 = eps2 = 0 the bound is log N, the cross entropy of guessing: it never becomes tiny, and one image "
            "that the "
            "main network gets badly wrong makes it astronomically large. That a gap stays below it is therefore weak "
            "evidence.",
        ),
        tables=(Table("bound", "Measured here, nats", columns, rows),) if rows else (),
        gaps=[f"No stored cross entropies of ordered sub-networks: {', '.join(lacking)}."] if lacking else [],
    )
