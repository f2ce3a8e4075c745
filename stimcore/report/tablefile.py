"""A table as CSV and as plain JSON: full precision, an estimate in three fields, an empty field where there is no number."""

import csv
import io
import math
from typing import Any

from stimcore.analysis.loafing import Estimate
from stimcore.report.section import Cell, Table, plain


def csv_text(table: Table) -> str:
    """The CSV file's text, header first."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(plain(table))
    return out.getvalue()


def to_dict(table: Table) -> dict[str, Any]:
    """Caption, columns and rows in plain JSON types; `null` where there is no number."""
    return {
        "caption": table.caption,
        "columns": [column.title for column in table.columns],
        "rows": [[_json(cell) for cell in row] for row in table.rows],
    }


def _json(cell: Cell) -> Any:
    if isinstance(cell, Estimate):
        return {"value": _json(cell.value), "low": _json(cell.low), "high": _json(cell.high)}
    if isinstance(cell, float) and math.isinf(cell):
        return "infinite"
    return cell
