"""The report as one HTML page that needs nothing else: plotly.js, styles, CSV downloads and figures are inside it.

Its content security policy forbids every request, so that a page that is handed on stays what it was.
"""

import base64
import html
from collections.abc import Sequence

from plotly.offline import get_plotlyjs

from stimcore.analysis import paper
from stimcore.report.claims import FAILS, HOLDS, UNMEASURED
from stimcore.report.contents import Report
from stimcore.report.section import MISSING, Cell, Column, Section, Table, written
from stimcore.report.tablefile import csv_text

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #101010; background: #fff; margin: 0 auto; max-width: 1120px;
  padding: 0 20px 64px }
h1 { font-size: 1.9rem; margin: 2rem 0 .25rem } h2 { font-size: 1.3rem; margin: 2.8rem 0 .4rem }
p { max-width: 78ch; margin: .4rem 0 } nav ul { columns: 3 16rem; padding-left: 1.1rem; margin: .5rem 0 }
.scroll { overflow-x: auto; margin: .8rem 0 } table { border-collapse: collapse; font-size: .92rem }
caption { text-align: left; white-space: nowrap; font-weight: 600; padding: .3rem 0 }
th, td { border-bottom: 1px solid #d8d8d8; padding: .35rem .7rem; text-align: right; vertical-align: top; white-space: nowrap }
thead th { border-bottom: 2px solid #101010; font-weight: 600; white-space: normal; min-width: 4.5rem }
th:first-child, .words { text-align: left } td.words { white-space: normal; min-width: 9rem }
tbody th { font-weight: 500; white-space: normal; min-width: 7rem } .paper { background: #f3f0e6 }
.gap { border-left: 4px solid #b36b00; background: #fff7e8; padding: .4rem .8rem; max-width: 78ch }
.holds { color: #00572f; font-weight: 600 } .fails { color: #a11212; font-weight: 600 } .unmeasured { color: #555 }
.files { font-size: .88rem } a { color: #0b5c8a } figure { margin: .6rem 0 }
figcaption { font-size: .88rem; color: #444; max-width: 88ch } .range { color: #555; font-size: .86em }
"""


def page(report: Report) -> str:
    """The whole page."""
    evidence = report.evidence
    title = f"{evidence.name}: stimulative training, measured here beside the paper"
    links = "".join(f'<li><a href="#{s.name}">{html.escape(s.title)}</a></li>' for s in report.sections)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n'
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n<h1>{html.escape(evidence.name)}</h1>\n"
        f"<p>{evidence.topology.network} on {html.escape(evidence.dataset)}, {evidence.images:,} test images. "
        f"{_counted(report)}</p>\n"
        '<p>Columns on a <span class="paper">shaded ground</span> are the paper\'s numbers (label: paper); all others were '
        "measured here, with the label that the table says.</p>\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n'
        + "\n".join(_section(section) for section in report.sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _counted(report: Report) -> str:
    verdicts = [claim.verdict for claim in report.claims]
    holds, fails, unmeasured = (verdicts.count(verdict) for verdict in (HOLDS, FAILS, UNMEASURED))
    return (
        f"Of {len(verdicts)} claims of the paper, {holds} hold{'s' if holds == 1 else ''} here, "
        f"{fails} do{'es' if fails == 1 else ''} not, {unmeasured} {'was' if unmeasured == 1 else 'were'} not measured."
    )


def _section(section: Section) -> str:
    parts = [f'<section id="{section.name}">\n<h2>{html.escape(section.title)}</h2>']
    parts += [f"<p>{html.escape(text)}</p>" for text in section.text]
    parts += [f'<p class="gap">{html.escape(gap)}</p>' for gap in section.gaps]
    if section.figure is not None:
        drawn = section.figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"{section.name}-plot",
            config={
                "displaylogo": False,
                "responsive": True,
                "toImageButtonOptions": {"format": "svg", "filename": section.name},
            },
        )
        parts.append(f"<figure>{drawn}<figcaption>{html.escape(section.alt)}</figcaption></figure>")
    parts += [_table(table) for table in section.tables if table.shown]
    if section.tables:
        parts.append('<p class="files">Data: ' + ", ".join(_download(table) for table in section.tables) + "</p>")
    return "\n".join(parts) + "\n</section>"


def _download(table: Table) -> str:
    data = base64.b64encode(csv_text(table).encode()).decode()
    return f'<a download="{table.name}.csv" href="data:text/csv;base64,{data}">{table.name}.csv</a>'


def _table(table: Table) -> str:
    all_paper = table.name.startswith("paper-")
    kinds = ["paper" if all_paper or "paper" in column.title else "" for column in table.columns]
    head = "".join(
        f'<th scope="col" class="{kind} {"words" if _in_words(table, i) else ""}">{html.escape(column.title)}</th>'
        for i, (column, kind) in enumerate(zip(table.columns, kinds, strict=True))
    )
    rows = "".join(_row(table, row, kinds) for row in table.rows)
    caption = html.escape(table.caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table id="{table.name}">'
        f"<caption>{caption}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _in_words(table: Table, column: int) -> bool:
    return any(isinstance(row[column], str) for row in table.rows)


def _row(table: Table, row: Sequence[Cell], kinds: Sequence[str]) -> str:
    labelled = "label" in [column.title for column in table.columns] and paper.LABEL in row
    cells = [f'<th scope="row" class="{"paper" if labelled or kinds[0] else ""}">{html.escape(str(row[0]))}</th>']
    for cell, column, kind in zip(row[1:], table.columns[1:], kinds[1:], strict=True):
        words = "words" if isinstance(cell, str) else ""
        if table.name == "claims" and isinstance(cell, str) and column.title == "verdict here":
            words = "words " + ("fails" if cell.startswith("does") else "holds" if cell.startswith("holds") else "unmeasured")
        classes = " ".join(filter(None, (words, "paper" if labelled else kind)))
        cells.append(f'<td class="{classes}">{_cell(cell, column)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _cell(cell: Cell, column: Column) -> str:
    text = html.escape(written(cell, column))
    if cell is None:
        return f'<span title="not measured, or not printed">{MISSING}</span>'
    if not isinstance(cell, str) and " [" in text:
        value, ends = text.split(" [")
        return f'{value} <span class="range">[{ends}</span>'
    return text
