"""Tables r5 and r6, and the gaps of twins: the same architecture alone and inside a larger network."""

from stimcore.analysis import loafing, paper
from stimcore.report.comparisons import family, twin_gaps
from stimcore.report.evidence import Evidence
from stimcore.report.figures.looks import look
from stimcore.report.section import Cell, Column, Section, Table


def table_nested(evidence: Evidence) -> Section:
    """The matrix of a nested family here, and the paper's for DenseNet."""
    members = family(evidence)
    names = [member.name for member in members]
    cells = loafing.matrix(members)
    rows: list[tuple[Cell, ...]] = [
        (row, *(loafing.accuracy(cells[row, column]) if (row, column) in cells else None for column in names)) for row in names
    ]
    ours = Table(
        "table-nested",
        f"Measured here: {evidence.topology.network} and its sub-networks, {evidence.dataset}, %",
        (Column("sub-network, inside:"), *(Column(name) for name in names)),
        rows,
    )
    enough = len(cells) > len(names)
    lacking = [] if enough else ["No network of this experiment holds another one that was trained alone and swept."]
    unswept = [member.name for member in members[1:] if member.sweep is None]
    return Section(
        name="table-r5-r6",
        title="Tables r5 and r6: one network inside another",
        text=(
            "Rows are the sub-networks, columns the main networks they sit in, with the main network's weights; the diagonal "
            "is "
            "each network trained alone. The paper's corner reads 'Main-net \\ Sub-net', which would put a large network "
            "inside a "
            "small one; only this reading is possible.",
        ),
        tables=(
            *((ours,) if enough else ()),
            *(_printed(name, table) for name, table in (("r5", paper.TABLE_R5), ("r6", paper.TABLE_R6))),
        ),
        gaps=[*lacking, *([f"Not swept, so without a column of sub-networks: {', '.join(unswept)}."] if unswept else [])],
    )


def _printed(name: str, table: paper.Matrix) -> Table:
    return Table(
        f"paper-table-{name}",
        f"Paper, Table {name}: {table.dataset}, %",
        (Column("sub-network, inside:"), *(Column(network) for network in table.networks)),
        [(row, *(table.cells.get((row, column)) for column in table.networks)) for row in table.networks],
    )


def table_gaps(evidence: Evidence) -> Section:
    """Loafing gaps of all twins in every method's main network."""
    rows: list[tuple[Cell, ...]] = []
    for method, run in evidence.methods.items():
        for gap in twin_gaps(evidence, run).values():
            rows.append(
                (
                    f"{gap.twin.short} in {look(method).name}",
                    loafing.accuracy(gap.twin.main),
                    loafing.accuracy(gap.inside),
                    gap.points,
                    gap.twin.label,
                )
            )
    lacking = [] if rows else ["No twin was trained alone here, or no main network was swept: there is no gap to show."]
    table = Table(
        "table-gaps",
        "Loafing gap: accuracy of the twin minus that of the same sub-network inside, in points",
        (
            Column("sub-network in main network"),
            Column("twin, alone"),
            Column("inside"),
            Column("gap, points"),
            Column("label"),
        ),
        rows,
    )
    return Section(
        name="gaps",
        title="Loafing gaps",
        text=(
            "A twin is the same architecture trained alone, by common training with the recipe of the main network, or "
            "imported. "
            "The interval takes both counts as independent, which is wider than a paired one.",
        ),
        tables=(table,) if rows else (),
        gaps=lacking,
    )
