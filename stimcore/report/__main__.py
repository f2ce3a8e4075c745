"""`python -m stimcore.report`: stored results as a page, CSV, SVG, JSON and Markdown next to the paper's numbers."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stimcore import cli
from stimcore.report.arguments import parser

if __name__ == "__main__":
    cli.answer_early(parser)

from stimcore import files
from stimcore.errors import UsageError
from stimcore.figures.svg_files import write_svg
from stimcore.report.claims import UNMEASURED
from stimcore.report.markdown import SUMMARY, parts, render_results
from stimcore.report.page import render_page
from stimcore.report.report import ExperimentReport, build_report
from stimcore.report.results import find_experiments, read_experiment
from stimcore.report.section import table_csv, table_dict

__all__ = ["main", "parser"]


def main(argv: Sequence[str]) -> int:
    """Write what the options ask for; return 1 when a bundle could not be read and is missing from the report."""
    options = parser().parse_args(argv)
    if not (options.out or options.markdown or options.json):
        raise UsageError("nothing to write", allowed="--out DIR, --markdown FILE or --json FILE, one or more")
    if options.no_svg and not options.out:
        raise UsageError("--no-svg without --out", allowed="--no-svg with --out DIR")
    if options.forget and not options.markdown:
        raise UsageError("--forget without --markdown", allowed="--forget with --markdown FILE")
    quiet = options.json == "-"
    reports = [_build(path) for path in find_experiments(options.experiments)]
    if options.out:
        for report in reports:
            _write(report, options.out, with_svg=not options.no_svg, quiet=quiet)
    if options.markdown:
        _write_markdown(options.markdown, reports, forget=options.forget, quiet=quiet)
    cli.write_report(options.json, {"experiments": [_plain(report) for report in reports]})
    if not quiet:
        for report in reports:
            _print_claims(report)
    problems = [problem for report in reports for problem in report.results.problems]
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _build(path: Path) -> ExperimentReport:
    lambdas = path.with_name(f"{path.name}-lambda")
    lambda_results = read_experiment(lambdas) if (lambdas / "experiment.json").is_file() else None
    return build_report(read_experiment(path), lambda_results)


def _write_markdown(target: Path, reports: Sequence[ExperimentReport], *, forget: Sequence[str], quiet: bool) -> None:
    """Write the short form; experiments that are in the file but not among the reports stay as they are, or are dropped.

    Raises:
        UsageError: An experiment to drop is not in the file, or is one of the reports.
    """
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    named = [report.results.name for report in reports]
    others = [name for name in parts(before) if name not in (SUMMARY, *named)]
    if unknown := [name for name in forget if name not in others]:
        raise UsageError(f"{target} has no part to drop for {', '.join(unknown)}", allowed=", ".join(others) or "none")
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(target, render_results(reports, before, forget))
    if quiet:
        return
    print(f"{target}: {', '.join(named)}")
    if kept := [name for name in others if name not in forget]:
        print(f"kept as they were, since they are not among the experiments: {', '.join(kept)} (--forget NAME drops one)")


def _write(report: ExperimentReport, out: Path, *, with_svg: bool, quiet: bool) -> None:
    name = report.results.name
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(out / f"{name}.html", render_page(report))
    tables = [table for section in report.sections for table in section.tables]
    for table in tables:
        files.write_text(folder / f"{table.name}.csv", table_csv(table))
    figures = {folder / f"{section.name}.svg": section.figure for section in report.sections if section.figure is not None}
    reason = write_svg(figures) if with_svg and figures else ""
    if reason:
        print(reason, file=sys.stderr)
    if not quiet:
        num_svg = 0 if reason or not with_svg else len(figures)
        print(f"{out / name}.html; {len(tables)} CSV and {num_svg} SVG files in {folder}")


def _print_claims(report: ExperimentReport) -> None:
    print(f"{report.results.name}:")
    for claim in report.claims:
        if claim.verdict != UNMEASURED:
            print(f"  {claim.name}: {claim.full_verdict}. {claim.finding.measured}")
    if unmeasured := [claim.name for claim in report.claims if claim.verdict == UNMEASURED]:
        print(f"  {UNMEASURED}: {', '.join(unmeasured)}")
    for title, gap in report.gaps:
        print(f"  gap in '{title}': {gap}")


def _plain(report: ExperimentReport) -> dict[str, Any]:
    """Return claims, tables and gaps in plain JSON types."""
    return {
        "experiment": report.results.name,
        "images": report.results.images,
        "claims": [
            {
                "name": claim.name,
                "criterion": claim.criterion,
                "verdict": claim.verdict,
                "clear": claim.finding.clear,
                "measured": claim.finding.measured,
                "paper": claim.printed,
            }
            for claim in report.claims
        ],
        "tables": {table.name: table_dict(table) for section in report.sections for table in section.tables},
        "gaps": [{"section": title, "gap": gap} for title, gap in report.gaps],
    }


if __name__ == "__main__":
    cli.run(main)
