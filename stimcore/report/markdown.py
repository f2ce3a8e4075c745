"""docs/results.md: the claims of every experiment, and below them its tables.

An experiment that is in the file but not on this machine (its data may not be committed) keeps its part as it is.
"""

import re
from collections.abc import Mapping, Sequence

from stimcore.report.claims import CLAIMS, Claim
from stimcore.report.contents import Report
from stimcore.report.section import Section, Table, written
from stimcore.report.verdicts import spoken

COMMAND = "python -m stimcore.report exported --markdown docs/results.md"
HEAD = f"""# What was found

Written by `{COMMAND}` from the bundles in `exported/` and their stored
sweeps; a test compares this page with them. Change it by running that command, not by hand. The same tables and the figures as
one HTML page, with CSV and SVG files: `python -m stimcore.report exported/EXPERIMENT --out report/`.

Every accuracy is measured here, on all test images, of the last epoch, with a 95% interval in brackets; *paper* marks what the
appendix of Ye et al. (NeurIPS 2022) prints. Networks, data and budgets are far smaller than the paper's, with one seed unless a
table says otherwise: an interval covers the choice of test images, not the luck of a seed. The criteria were fixed before any
number was seen, but for those that say so. A verdict follows from the measured number; *clearly* means that its whole interval
says the same, *within noise* that it doesn't.

"""
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_VERDICT = re.compile(r"^\| ([^|]+?) \| \*\*([^|]+?)\*\* \|", re.MULTILINE)
SUMMARY = "Summary"


def parts(text: str) -> dict[str, str]:
    """Heading -> text below it, of the file as it is."""
    pieces = _SECTION.split(text)
    return dict(zip(pieces[1::2], (body.strip() for body in pieces[2::2]), strict=True))


def results(reports: Sequence[Report], before: str = "") -> str:
    """The whole file.

    Args:
        reports: Of the experiments that are here.
        before: The file as it is, empty where there is none.
    """
    kept = {name: body for name, body in parts(before).items() if name != SUMMARY}
    bodies = dict(sorted((kept | {report.evidence.name: experiment(report) for report in reports}).items()))
    written_bodies = "".join(f"\n## {name}\n\n{body}\n" for name, body in bodies.items())
    return f"{HEAD}## {SUMMARY}\n\n{_summary(bodies)}\n{written_bodies}"


def _summary(bodies: Mapping[str, str]) -> str:
    """Claims down, experiments across; read from the parts themselves, so that kept ones take part."""
    found = {name: dict(_VERDICT.findall(body)) for name, body in bodies.items()}
    lines = ["| claim | criterion | " + " | ".join(found) + " |", "| --- | --- |" + " --- |" * len(found)]
    for name, criterion, _, _ in CLAIMS:
        lines.append(f"| {name} | {criterion} | " + " | ".join(verdicts.get(name, "–") for verdicts in found.values()) + " |")
    return "\n".join(lines)


def experiment(report: Report) -> str:
    """The part of one experiment, without its heading."""
    evidence = report.evidence
    lines = [
        f"{evidence.topology.network} on {evidence.dataset}, {evidence.images:,} test images.",
        "",
        "| claim | verdict | measured here | paper |",
        "| --- | --- | --- | --- |",
        *(_claim(claim) for claim in report.claims),
    ]
    for section in report.sections:
        if section.name != "claims":
            lines += _section(section)
    return "\n".join(lines)


def _claim(claim: Claim) -> str:
    return f"| {claim.name} | **{spoken(claim)}** | {_safe(claim.finding.measured)} | {_safe(claim.printed)} |"


def _section(section: Section) -> list[str]:
    tables = [table for table in section.tables if table.shown and not table.name.startswith("paper-")]
    if not tables and not section.gaps:
        return []
    lines = ["", f"### {section.title}"]
    lines += [f"\n*{_safe(gap)}*" for gap in section.gaps]
    for table in tables:
        lines += ["", f"{table.caption}:", "", *_table(table)]
    return lines


def _table(table: Table) -> list[str]:
    return [
        "| " + " | ".join(_safe(column.title) for column in table.columns) + " |",
        "|" + " --- |" * len(table.columns),
        *(
            "| " + " | ".join(_safe(written(c, column)) for c, column in zip(row, table.columns, strict=True)) + " |"
            for row in table.rows
        ),
    ]


def _safe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
