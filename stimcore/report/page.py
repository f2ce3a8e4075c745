"""The report as one HTML page that needs nothing else: plotly.js, styles, CSV downloads and figures are inside it.

Names in a bundle are not trusted: the template escapes every value, and the page's content security policy runs the two scripts
written here, known by their hashes, and nothing else. It also forbids every request, so that a page that is handed on stays
what it was.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from stimcore.analysis import paper
from stimcore.figures.layout import CONFIG
from stimcore.report.claims import FAILS, HOLDS, UNMEASURED
from stimcore.report.report import ExperimentReport
from stimcore.report.section import Cell, Column, Section, Table, format_cell, table_csv

DRAW = """
for (const data of document.querySelectorAll("script.figure")) {
  const figure = JSON.parse(data.textContent);
  Plotly.newPlot(data.dataset.plot, figure.data, figure.layout, figure.config);
}
"""
"""Draws the figures that the page carries as JSON."""

VERDICT_CLASSES = {HOLDS: "holds", FAILS: "fails", UNMEASURED: "unmeasured"}

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render_page(report: ExperimentReport) -> str:
    """Return the text of the page."""
    results = report.results
    return _ENVIRONMENT.get_template("page.html").render(
        title=f"{results.name}: stimulative training, measured here next to the paper",
        name=results.name,
        summary=f"{results.topology.network} on {results.dataset}, {results.images:,} test images. {_count_claims(report)}",
        sections=[_section(section) for section in report.sections],
        plotly=get_plotlyjs(),
        draw=DRAW,
        script_hashes=" ".join(map(_csp_hash, (get_plotlyjs(), DRAW))),
    )


def _csp_hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _count_claims(report: ExperimentReport) -> str:
    outcomes = [claim.verdict for claim in report.claims if not claim.added]
    holds, fails, unmeasured = (outcomes.count(verdict) for verdict in (HOLDS, FAILS, UNMEASURED))
    return (
        f"Of {len(outcomes)} claims of the paper, {holds} hold{'s' if holds == 1 else ''} here, "
        f"{fails} do{'es' if fails == 1 else ''} not, {unmeasured} {'was' if unmeasured == 1 else 'were'} not measured."
    )


def _section(section: Section) -> dict[str, Any]:
    """Return what the template prints of a section."""
    return {
        "name": section.name,
        "title": section.title,
        "text": section.text,
        "gaps": section.gaps,
        "figure": None if section.figure is None else _figure(section),
        "alt": section.alt,
        "tables": [_table(table) for table in section.tables if table.shown],
        "downloads": [(f"{table.name}.csv", _data_url(table_csv(table))) for table in section.tables],
    }


def _figure(section: Section) -> dict[str, Any]:
    """Return a figure as plotly.js takes it; the template writes it as JSON that can't end its script element."""
    config = {**CONFIG, "toImageButtonOptions": {"format": "svg", "filename": section.name}}
    return {**json.loads(section.figure.to_json()), "config": config}  # type: ignore[union-attr]  # _section checks it


def _data_url(text: str) -> str:
    return f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"


def _table(table: Table) -> dict[str, Any]:
    """Return a table as rows of cells with their CSS classes."""
    all_paper = table.name.startswith("paper-")
    shades = ["paper" if all_paper or "paper" in column.title else "" for column in table.columns]
    in_words = [any(isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))]
    head = [
        {"text": column.title, "classes": _classes(shade, "words" if words else "")}
        for column, shade, words in zip(table.columns, shades, in_words, strict=True)
    ]
    return {
        "name": table.name,
        "caption": table.caption,
        "head": head,
        "rows": [_row(table, row, shades) for row in table.rows],
    }


def _row(table: Table, row: Sequence[Cell], shades: Sequence[str]) -> dict[str, Any]:
    from_paper = "label" in [column.title for column in table.columns] and paper.LABEL in row
    if from_paper:
        shades = ["paper"] * len(shades)
    cells = [
        _cell(cell, column, _classes("words" if isinstance(cell, str) else "", _verdict_class(table, column, cell), shade))
        for cell, column, shade in zip(row[1:], table.columns[1:], shades[1:], strict=True)
    ]
    return {"title": str(row[0]), "classes": shades[0], "cells": cells}


def _verdict_class(table: Table, column: Column, cell: Cell) -> str:
    if table.name not in ("claims", "claims-added") or column.title != "verdict here" or not isinstance(cell, str):
        return ""
    return VERDICT_CLASSES[cell.partition(",")[0]]


def _cell(cell: Cell, column: Column, classes: str) -> dict[str, Any]:
    """Return the text of a cell; the interval apart from the value, because the page prints it smaller."""
    text, interval = format_cell(cell, column), ""
    if cell is not None and not isinstance(cell, str) and " [" in text:
        text, _, ends = text.partition(" [")
        interval = f"[{ends}"
    return {"text": text, "interval": interval, "missing": cell is None, "classes": classes}


def _classes(*names: str) -> str:
    return " ".join(filter(None, names))
