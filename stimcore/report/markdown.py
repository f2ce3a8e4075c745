"""docs/results.md: what every experiment shows, its claims, and its runs beside common training; the report has the rest.

An experiment that is in the file but not on this machine (its images may not be committed) keeps its part as it is.
"""

import re
from collections.abc import Mapping, Sequence

from stimcore.analysis.estimates import Estimate
from stimcore.analysis.seeds import compare, compare_all_ordered, gap_closed
from stimcore.report.claims import CLAIMS, OURS, PAPERS, Claim, is_added, measured_claims
from stimcore.report.report import ExperimentReport
from stimcore.report.results import ExperimentResults, NetworkResults
from stimcore.report.section import MISSING, Section, Table, format_cell

COMMAND = "python -m stimcore.report exported --markdown docs/results.md"
HEAD = f"""# Results

Written by `{COMMAND}` from the bundles in `exported/`; a test compares it with them.
`python -m stimcore.report exported/EXPERIMENT --out report/` writes every table and figure of the paper's appendix beside what
was measured here, as one HTML page with CSV and SVG files. [experiments.md](experiments.md) describes the runs.

Every accuracy was measured on all test images after the last epoch, with a 95% interval in brackets; *paper* marks what the
appendix of Ye et al. (NeurIPS 2022) prints. Networks, data and budgets are far smaller than the paper's. Where a run was
repeated with other seeds, numbers are means over seeds, and intervals cover the luck of a seed; with one seed they cover the
choice of test images only. All rows of a table have the same seeds, or say how many they have; a claim whose numbers are not
means over all seeds names their seed. A verdict follows from the measured number; *clearly* means that its whole interval over
several seeds confirms it, and that over images as well where two networks are compared (all seeds are measured on the same
images, which three seeds can't vary); *one seed* that its interval confirms it for the only seed there is, *within noise* that
it does not.

"""
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_VERDICT = re.compile(r"^\| ([^|]+?) \| \*\*([^|]+?)\*\* \|", re.MULTILINE)
SUMMARY = "Summary"
IN_SHORT = "In short,"
_SHORT = re.compile(rf"^{IN_SHORT} (.+)$", re.MULTILINE)
SECTIONS = ("table-comparison", "table-r5-r6", "gaps", "table-recalibration")
"""Sections of the report that the file repeats; all others are in the report only."""
MOST_CHARACTERS = 400
"""Length of a cell above which it is cut at a word: the report has the whole of it."""


def parts(text: str) -> dict[str, str]:
    """Return heading -> text below it, of a results file.

    Example:
        >>> parts("# Results" + chr(10) + "## Summary" + chr(10) + "| claim |")
        {'Summary': '| claim |'}
    """
    pieces = _SECTION.split(text)
    return dict(zip(pieces[1::2], (body.strip() for body in pieces[2::2]), strict=True))


def render_results(reports: Sequence[ExperimentReport], before: str = "", forget: Sequence[str] = ()) -> str:
    """Return the text of the whole file.

    Args:
        reports: Reports of the experiments on this machine.
        before: The file as it is, empty where there is none.
        forget: Experiments whose parts are dropped.
    """
    kept = {name: body for name, body in parts(before).items() if name not in (SUMMARY, *forget)}
    new = {" ".join(report.results.name.split()): render_experiment(report) for report in reports}  # a heading is one line
    bodies = dict(sorted((kept | new).items()))
    experiments = "".join(f"\n## {name}\n\n{body}\n" for name, body in bodies.items())
    return f"{HEAD}## {SUMMARY}\n\n{_summary(bodies)}\n{experiments}"


def _summary(bodies: Mapping[str, str]) -> str:
    """Return what every experiment shows in a sentence, and below it claims down and experiments across.

    Sentences and verdicts are read from the parts themselves, so that kept parts are included.
    """
    sentences = [f"- **{_escape(name)}**: {match[1]}" for name, body in bodies.items() if (match := _SHORT.search(body))]
    columns = {name: dict(_VERDICT.findall(body)) for name, body in bodies.items()}
    head = ["| claim | criterion | " + " | ".join(map(_escape, columns)) + " |", "| --- | --- |" + " --- |" * len(columns)]
    lines = [*sentences, ""] if sentences else []
    for title, added in ((PAPERS, False), (OURS, True)):
        rows = [
            f"| {name} | {criterion} | " + " | ".join(column.get(name, MISSING) for column in columns.values()) + " |"
            for name, criterion, _, _ in CLAIMS
            if is_added(criterion) == added and any(name in column for column in columns.values())
        ]
        if rows:
            lines += [f"**{title}**", "", *head, *rows, ""]
    return "\n".join(lines).rstrip()


def render_experiment(report: ExperimentReport) -> str:
    """Return the part of one experiment, without its heading: a sentence, its claims, and the runs beside common training."""
    results = report.results
    lines = [f"{_escape(results.topology.network)} on {_escape(results.dataset)}, {results.images:,} test images."]
    if sentence := _in_short(results):
        lines += ["", f"{IN_SHORT} {sentence}"]
    for title, added in ((PAPERS, False), (OURS, True)):
        if rows := [_claim_row(claim) for claim in measured_claims(report.claims, added=added)]:
            lines += ["", f"**{title}**", "", "| claim | verdict | measured here | paper |", "| --- | --- | --- | --- |", *rows]
    for section in report.sections:
        if section.name in SECTIONS:
            lines += _section_lines(section)
    return "\n".join(lines)


def _in_short(results: ExperimentResults) -> str:
    """Return what stimulative training changes in one sentence; empty where it or common training is missing."""
    pair = results.common_and_stimulative("ordered")
    if isinstance(pair, list):
        return ""
    common, stimulative = pair
    main, mean = compare(stimulative, common), compare_all_ordered(stimulative, common)
    if main is None or mean is None:
        return ""
    basis = ", ".join(dict.fromkeys((main.basis_words, mean.basis_words)))
    if main.over_images is not None:
        basis += "; the first over images: [{:.2f}, {:.2f}]".format(*main.over_images)
    return (
        f"stimulative minus common training: main network {_points(main)}, mean of all ordered sub-networks {_points(mean)} "
        f"({basis})." + _closed_gaps(results, common, stimulative)
    )


def _closed_gaps(results: ExperimentResults, common: NetworkResults, stimulative: NetworkResults) -> str:
    """Return how much of common training's gap stimulative training and the other runs close; empty where that is unknown."""
    if (own := gap_closed(stimulative, common)) is None:
        return ""
    others = [
        f"{network.title} {_percent(closed)}"
        for network in results.main_networks
        if network not in (common, stimulative) and (closed := gap_closed(network, common)) is not None
    ]
    sentence = f" Stimulative training closes {_percent(own)} of the gap between the main network and this mean"
    return f"{sentence}; other runs: {', '.join(others)}." if others else f"{sentence}."


def _percent(value: Estimate | float) -> str:
    return f"{value:.1f}%" if isinstance(value, float) else f"{value.value:.1f}% [{value.low:.1f}, {value.high:.1f}]"


def _points(value: Estimate) -> str:
    return f"{value.value:+.2f} points [{value.low:.2f}, {value.high:.2f}]"


def _claim_row(claim: Claim) -> str:
    return (
        f"| {claim.name} | **{claim.full_verdict}** | {_escape(shortened(claim.finding.measured))} | {_escape(claim.printed)} |"
    )


def _section_lines(section: Section) -> list[str]:
    tables = [table for table in section.tables if table.shown and not table.name.startswith("paper-")]
    if not tables:
        return []
    lines = ["", f"### {section.title}"]
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


def shortened(text: str) -> str:
    """Return a text of at most `MOST_CHARACTERS`; what is longer ends at a semicolon or a word, with dots.

    Example:
        >>> shortened("one block: 3; " * 40)[-17:]
        'one block: 3; ...'
    """
    if len(text) <= MOST_CHARACTERS:
        return text
    start = text[:MOST_CHARACTERS]
    return start[: max(start.rfind("; ") + 2, start.rfind(" ") + 1 if "; " not in start else 0)] + "..."


def _escape(text: str) -> str:
    """Return text that can neither break a table nor become HTML; names in bundles are not trusted."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
