"""docs/results.md: the claims of every experiment, followed by its tables.

An experiment that is in the file but not on this machine (its images may not be committed) keeps its part as it is.
"""

import re
from collections.abc import Mapping, Sequence

from stimcore.report.claims import ADDED, CLAIMS, OURS, PAPERS, Claim, measured_claims, unmeasured_sentence
from stimcore.report.report import ExperimentReport
from stimcore.report.section import MISSING, Section, Table, format_cell

COMMAND = "python -m stimcore.report exported --markdown docs/results.md"
HEAD = f"""# Results

This page is written by `{COMMAND}` from the bundles in `exported/` and
their stored sweeps, and a test compares it with them. Change it by running that command, not by hand. The same tables, with the
figures, as one HTML page with CSV and SVG files: `python -m stimcore.report exported/EXPERIMENT --out report/`.

Every accuracy was measured here, on all test images, after the last epoch, with a 95% interval in brackets; *paper* marks what
the appendix of Ye et al. (NeurIPS 2022) prints. Networks, data and budgets are far smaller than the paper's. Where a run was
repeated with other seeds, numbers are means over seeds, and intervals cover the luck of a seed; with one seed they cover the
choice of test images only. The criteria were fixed before any number was seen, except for those that state otherwise. A verdict
follows from the measured number; *clearly* means that its whole interval over several seeds confirms it, *one seed* that its
interval confirms it for the only seed there is, *within noise* that it does not.

"""
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_VERDICT = re.compile(r"^\| ([^|]+?) \| \*\*([^|]+?)\*\* \|", re.MULTILINE)
SUMMARY = "Summary"


def parts(text: str) -> dict[str, str]:
    """Return heading -> text below it, of a results file.

    Example:
        >>> parts("# Results" + chr(10) + "## Summary" + chr(10) + "| claim |")
        {'Summary': '| claim |'}
    """
    pieces = _SECTION.split(text)
    return dict(zip(pieces[1::2], (body.strip() for body in pieces[2::2]), strict=True))


def render_results(reports: Sequence[ExperimentReport], before: str = "") -> str:
    """Return the text of the whole file.

    Args:
        reports: Reports of the experiments on this machine.
        before: The file as it is, empty where there is none.
    """
    kept = {name: body for name, body in parts(before).items() if name != SUMMARY}
    bodies = dict(sorted((kept | {report.results.name: render_experiment(report) for report in reports}).items()))
    experiments = "".join(f"\n## {name}\n\n{body}\n" for name, body in bodies.items())
    return f"{HEAD}## {SUMMARY}\n\n{_summary(bodies)}\n{experiments}"


def _summary(bodies: Mapping[str, str]) -> str:
    """Return claims down, experiments across; verdicts are read from the parts themselves, so that kept parts are included."""
    columns = {name: dict(_VERDICT.findall(body)) for name, body in bodies.items()}
    head = ["| claim | criterion | " + " | ".join(columns) + " |", "| --- | --- |" + " --- |" * len(columns)]
    lines: list[str] = []
    for title, added in ((PAPERS, False), (OURS, True)):
        rows = [
            f"| {name} | {criterion} | " + " | ".join(column.get(name, MISSING) for column in columns.values()) + " |"
            for name, criterion, _, _ in CLAIMS
            if (ADDED in criterion) == added and any(name in column for column in columns.values())
        ]
        if rows:
            lines += [f"**{title}**", "", *head, *rows, ""]
    return "\n".join(lines).rstrip()


def render_experiment(report: ExperimentReport) -> str:
    """Return the part of one experiment, without its heading."""
    results = report.results
    lines = [
        f"{_escape(results.topology.network)} on {_escape(results.dataset)}, {results.images:,} test images.",
    ]
    for title, added in ((PAPERS, False), (OURS, True)):
        if rows := [_claim_row(claim) for claim in measured_claims(report.claims, added=added)]:
            lines += ["", f"**{title}**", "", "| claim | verdict | measured here | paper |", "| --- | --- | --- | --- |", *rows]
    if sentence := unmeasured_sentence(report.claims):
        lines += ["", sentence]
    for section in report.sections:
        if section.name != "claims":
            lines += _section_lines(section)
    return "\n".join(lines)


def _claim_row(claim: Claim) -> str:
    return f"| {claim.name} | **{claim.full_verdict}** | {_escape(claim.finding.measured)} | {_escape(claim.printed)} |"


def _section_lines(section: Section) -> list[str]:
    tables = [table for table in section.tables if table.shown and not table.name.startswith("paper-")]
    if not tables and not section.gaps:
        return []
    lines = ["", f"### {section.title}"]
    lines += [f"\n*{_escape(gap)}*" for gap in section.gaps]
    for table in tables:
        lines += ["", f"{_escape(table.caption)}:", "", *_table_lines(table)]
    return lines


def _table_lines(table: Table) -> list[str]:
    rows = [[_escape(format_cell(cell, column)) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows]
    return [
        "| " + " | ".join(_escape(column.title) for column in table.columns) + " |",
        "|" + " --- |" * len(table.columns),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _escape(text: str) -> str:
    """Return text that can neither break a table nor become HTML; names in bundles are not trusted."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
