"""A part of the report: sentences, tables, a figure, and what is missing; and how a cell is written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import plotly.graph_objects as go

from stimcore.analysis.loafing import Estimate

Cell = str | int | float | Estimate | None
"""None is a number that was not measured, or that the paper does not print: never a zero."""
MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column and how its numbers are written.

    Attributes:
        title: With its unit.
        digits: After the point; significant digits where `general`.
        general: For numbers of any magnitude.
    """

    title: str
    digits: int = 2
    general: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Of its CSV file, without the suffix.
        caption: One line above it.
        columns: The first one names the row.
        rows: A cell per column.
        shown: Whether the page prints it; the data behind a figure are only offered as CSV.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    shown: bool = True


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: Of its anchor, and of its figure's SVG file.
        title: Its heading.
        text: Sentences: what the paper shows, what is compared, what differs.
        tables: Printed, or behind the figure.
        figure: What is drawn.
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


def written(cell: Cell, column: Column) -> str:
    """A cell as the page and the Markdown print it: `90.96 [90.38, 91.51]`, a dash where there is no number."""
    if cell is None:
        return MISSING
    if isinstance(cell, Estimate):
        low, high = (_number(end, column) for end in (cell.low, cell.high))
        return f"{_number(cell.value, column)} [{low}, {high}]"
    return cell if isinstance(cell, str) else _number(cell, column)


def _number(value: float, column: Column) -> str:
    if math.isinf(value):
        return "beyond any float" if value > 0 else "-inf"
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:.{column.digits}{'g' if column.general else 'f'}}"
    return text.removeprefix("-") if not column.general and float(text) == 0 else text


def plain(table: Table) -> list[list[str]]:
    """Header and rows for CSV: full precision; an estimate takes three columns, a missing number is an empty field."""
    wide = [any(isinstance(row[i], Estimate) for row in table.rows) for i in range(len(table.columns))]
    header: list[str] = []
    for column, is_wide in zip(table.columns, wide, strict=True):
        header += [column.title, *([f"{column.title} low", f"{column.title} high"] if is_wide else [])]
    rows = [header]
    for row in table.rows:
        fields: list[str] = []
        for cell, is_wide in zip(row, wide, strict=True):
            if isinstance(cell, Estimate):
                fields += [_raw(value) for value in (cell.value, cell.low, cell.high)]
            else:
                fields += [_raw(cell), *(["", ""] if is_wide else [])]
        rows.append(fields)
    return rows


def _raw(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
