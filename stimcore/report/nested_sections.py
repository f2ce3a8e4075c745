"""Tables r5 and r6, and the gaps of twins: the same architecture alone and inside a larger network."""

from collections.abc import Sequence

from stimcore.analysis import paper
from stimcore.analysis.comparisons import nested_family, nested_table, twin_gaps
from stimcore.analysis.seeds import seed_groups
from stimcore.report.results import ExperimentResults, NetworkResults, method_words
from stimcore.report.section import Cell, Column, Section, Table


def nested_section(results: ExperimentResults) -> Section:
    """Return the matrix of a nested family here, and the paper's for DenseNet."""
    members = nested_family(results.networks, results.topology.network)
    names = [member.name for member in members]
    cells = nested_table(members)
    rows: list[tuple[Cell, ...]] = [(row, *(cells.get((row, column)) for column in names)) for row in names]
    ours = Table(
        "table-nested",
        f"Measured here: {results.topology.network} and its sub-networks, {results.dataset}, %",
        (Column("sub-network, inside:"), *(Column(name) for name in names)),
        rows,
    )
    has_nested = len(cells) > len(names)
    gaps = [] if has_nested else ["No network of this experiment holds another one that was trained alone and swept."]
    filled = {column for row, column in cells if row != column}
    unswept = [member.name for member in members[1:] if member.sweep is None and member.name not in filled]
    if unswept:
        gaps.append(f"Neither swept nor exported with these sub-networks, so without a column: {', '.join(unswept)}.")
    return Section(
        name="table-r5-r6",
        title="Tables r5 and r6: one network inside another",
        text=(
            "Rows are the sub-networks, columns the main networks they sit in, with the main network's weights; the diagonal "
            "is each network trained alone. The paper's corner reads 'Main-net \\ Sub-net', which would put a large network "
            "inside a small one; only this reading is possible.",
        ),
        tables=(
            *((ours,) if has_nested else ()),
            *(_paper_table(name, table) for name, table in (("r5", paper.TABLE_R5), ("r6", paper.TABLE_R6))),
        ),
        gaps=gaps,
    )


def _paper_table(name: str, table: paper.Matrix) -> Table:
    return Table(
        f"paper-table-{name}",
        f"Paper, Table {name}: {table.dataset}, %",
        (Column("sub-network, inside:"), *(Column(network) for network in table.networks)),
        [(row, *(table.cells.get((row, column)) for column in table.networks)) for row in table.networks],
    )


def gaps_section(results: ExperimentResults) -> Section:
    """Return the loafing gaps of all twins in every method's main network."""
    groups = [
        (words, rows)
        for words, networks in seed_groups(list(results.methods.values()))
        if (rows := _gap_rows(results, [network for network in networks if network is not None]))
    ]
    missing = [] if groups else ["No twin was trained alone here, or no main network was swept: there is no gap to show."]
    tables = [
        Table(
            "table-gaps" if number == len(groups) else "table-gaps-seeds",
            "Loafing gap: accuracy of the twin minus that of the same sub-network inside, in points; behind an interval over "
            "seeds stands that over images" + (f"; {words}" if words else ""),
            [
                Column(title)
                for title in ("sub-network in main network", "twin, alone", "inside", "gap, points", "interval", "label")
            ],
            rows,
        )
        for number, (words, rows) in enumerate(groups, start=1)
    ]
    return Section(
        name="gaps",
        title="Loafing gaps",
        text=(
            "A twin is the same architecture trained alone, by common training with the recipe of the main network, or "
            "imported. The column 'interval' says what the interval of the gap covers: the choice of seeds, the choice of "
            "images of two networks that were compared image by image, or two independent counts, which is wider than need be.",
        ),
        tables=tables,
        gaps=missing,
    )


def _gap_rows(results: ExperimentResults, networks: Sequence[NetworkResults]) -> list[tuple[Cell, ...]]:
    """Return a row for every twin in every main network."""
    return [
        (
            f"{gap.twin.short} in {method_words(network.method)}",
            gap.alone,
            gap.inside,
            gap.points,
            gap.points.basis_words,
            gap.twin.label,
        )
        for network in networks
        for gap in twin_gaps(results.twins, network)
    ]
