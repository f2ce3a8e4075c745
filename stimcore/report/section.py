"""A section of the report: sentences, tables, a figure and gaps; and tables as text, CSV and JSON."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from stimcore.analysis.estimates import Estimate
from stimcore.figures.layout import csv_cell

Cell = str | int | float | Estimate | None
"""None is a number that was not measured, or that the paper does not print: never a zero."""
MISSING = "–"
ENDS = ("low", "high", "low over images", "high over images")
"""What the ends of an estimate's intervals are called in CSV, the latter two of those over seeds."""


@dataclass(frozen=True)
class Column:
    """A column and how its numbers are written.

    Attributes:
        title: Title with the unit.
        digits: Digits after the point; significant digits where `general`.
        general: Whether its numbers may be of any magnitude.
    """

    title: str
    digits: int = 2
    general: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Name of its CSV file, without the suffix.
        caption: One line above it.
        columns: The first one names the row.
        rows: A cell per column.
        shown: Whether the page prints it; the data behind a figure are offered as CSV only.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    shown: bool = True


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: Name of its anchor, and of its figure's SVG file.
        title: Heading.
        text: Paragraphs: what the paper shows, what is compared, what differs.
        tables: Tables, and the data behind the figure.
        figure: Figure, None where nothing was measured.
        alt: The figure in one sentence, printed below it.
        gaps: Sentences on what is missing here.
    """

    name: str
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figure: go.Figure | None = None
    alt: str = ""
    gaps: Sequence[str] = field(default_factory=tuple)


def format_cell(cell: Cell, column: Column) -> str:
    """Return a cell as page and Markdown print it; a dash where there is no number.

    A number over seeds has its interval over images behind that over seeds.

    Example:
        >>> format_cell(Estimate(90.956, 90.4, 91.5), Column("accuracy")), format_cell(None, Column("accuracy"))
        ('90.96 [90.40, 91.50]', '–')
        >>> format_cell(Estimate(0.06, 0.02, 0.09, seeds=3, over_images=(-0.26, 0.37)), Column("points"))
        '0.06 [0.02, 0.09], images [-0.26, 0.37]'
    """
    if cell is None:
        return MISSING
    if isinstance(cell, Estimate):
        ends = ((cell.low, cell.high), *(() if cell.over_images is None else (cell.over_images,)))
        intervals = ["[{}, {}]".format(*(_format_number(end, column) for end in pair)) for pair in ends]
        return f"{_format_number(cell.value, column)} {', images '.join(intervals)}"
    return cell if isinstance(cell, str) else _format_number(cell, column)


def _format_number(value: float, column: Column) -> str:
    if math.isinf(value):
        return "beyond any float" if value > 0 else "-inf"
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:.{column.digits}{'g' if column.general else 'f'}}"
    # Rounding a small negative number must not print "-0.00".
    return text.removeprefix("-") if not column.general and float(text) == 0 else text


def table_fields(table: Table) -> list[list[str]]:
    """Return header and rows for CSV at full precision: an estimate takes a field for its value and for every end.

    Example:
        >>> table_fields(Table("t", "T", [Column("network"), Column("x")], [("a", Estimate(1.0, 0.5, 2.0)), ("b", None)]))
        [['network', 'x', 'x low', 'x high'], ['a', '1', '0.5', '2'], ['b', '', '', '']]
    """
    ends = [max((_num_ends(row[i]) for row in table.rows), default=0) for i in range(len(table.columns))]
    header: list[str] = []
    for column, number in zip(table.columns, ends, strict=True):
        header += [column.title, *(f"{column.title} {end}" for end in ENDS[:number])]
    rows = [header]
    for row in table.rows:
        fields: list[str] = []
        for cell, number in zip(row, ends, strict=True):
            values = [cell.value, cell.low, cell.high, *(cell.over_images or ())] if isinstance(cell, Estimate) else [cell]
            fields += [_format_field(value) for value in values] + [""] * (1 + number - len(values))
        rows.append(fields)
    return rows


def _num_ends(cell: Cell) -> int:
    """Return the number of ends of a cell's intervals."""
    return 0 if not isinstance(cell, Estimate) else 2 if cell.over_images is None else 4


def _format_field(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def table_csv(table: Table) -> str:
    """Return the text of a table's CSV file, header first.

    Example:
        >>> print(table_csv(Table("t", "T", [Column("network"), Column("x")], [("a, b", 1.5)])), end="")
        network,x
        "a, b",1.5
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(csv_cell, row) for row in table_fields(table))
    return out.getvalue()


def table_dict(table: Table) -> dict[str, Any]:
    """Return caption, columns and rows in plain JSON types; None where there is no number.

    Example:
        >>> table_dict(Table("t", "T", [Column("x")], [(Estimate(1.0, 0.0, math.inf),)]))["rows"]
        [[{'value': 1.0, 'low': 0.0, 'high': 'infinite'}]]
    """
    return {
        "caption": table.caption,
        "columns": [column.title for column in table.columns],
        "rows": [[_plain_cell(cell) for cell in row] for row in table.rows],
    }


def _plain_cell(cell: Cell) -> Any:
    if isinstance(cell, Estimate):
        plain = {"value": _plain_cell(cell.value), "low": _plain_cell(cell.low), "high": _plain_cell(cell.high)}
        return plain if cell.over_images is None else plain | {"over_images": list(map(_plain_cell, cell.over_images))}
    if isinstance(cell, float) and math.isinf(cell):
        return "infinite"  # JSON has no infinity
    return cell
