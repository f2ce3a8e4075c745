"""`python -m stimcore.report`: stored evidence as a page, CSV, SVG, JSON and Markdown beside the paper's numbers."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stimcore import cli, files
from stimcore.errors import UsageError
from stimcore.report import markdown, svg
from stimcore.report.claims import UNMEASURED
from stimcore.report.contents import Report, report
from stimcore.report.evidence import experiments, read
from stimcore.report.page import page
from stimcore.report.tablefile import csv_text, to_dict
from stimcore.report.verdicts import spoken


def parser() -> cli.Parser:
    """The command line; its help text is frozen by a test."""
    line = cli.Parser(
        prog="python -m stimcore.report",
        description="Write the tables and figures of experiments beside the paper's. Nothing is evaluated: sweeps that were "
        "not stored are told as gaps.",
    )
    line.add_argument("experiments", nargs="+", metavar="EXPERIMENT", type=Path, help="exported/EXPERIMENT, or exported")
    line.add_argument("--out", type=Path, metavar="DIR", help="write DIR/EXPERIMENT.html, and CSV and SVG in DIR/EXPERIMENT/")
    line.add_argument("--markdown", type=Path, metavar="FILE", help="write claims and tables as Markdown (docs/results.md)")
    line.add_argument("--json", metavar="FILE", help="write claims, tables and gaps ('-' for standard output)")
    line.add_argument("--no-svg", action="store_true", help="leave the SVG files out: no browser is started")
    return line


def main(argv: Sequence[str]) -> int:
    """Reports; 1 when a bundle could not be read and so is a gap."""
    options = parser().parse_args(argv)
    if not (options.out or options.markdown or options.json):
        raise UsageError("nothing to write", allowed="--out DIR, --markdown FILE or --json FILE, one or more")
    if options.no_svg and not options.out:
        raise UsageError("--no-svg without --out", allowed="--no-svg with --out DIR")
    quiet = options.json == "-"
    found = [_report(path) for path in experiments(options.experiments)]
    if options.out:
        for item in found:
            _write(item, options.out, with_svg=not options.no_svg, quiet=quiet)
    if options.markdown:
        before = options.markdown.read_text(encoding="utf-8") if options.markdown.exists() else ""
        files.write_text(options.markdown, markdown.results(found, before))
        if not quiet:
            print(f"{options.markdown}: {', '.join(item.evidence.name for item in found)}")
    if not quiet:
        for item in found:
            _tell(item)
    cli.write_report(options.json, {"experiments": [_plain(item) for item in found]})
    problems = [problem for item in found for problem in item.evidence.problems]
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _report(path: Path) -> Report:
    beside = path.with_name(f"{path.name}-lambda")
    return report(read(path), read(beside) if (beside / "experiment.json").is_file() else None)


def _write(item: Report, out: Path, *, with_svg: bool, quiet: bool) -> None:
    folder = out / item.evidence.name
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(out / f"{item.evidence.name}.html", page(item))
    tables = [table for section in item.sections for table in section.tables]
    for table in tables:
        files.write_text(folder / f"{table.name}.csv", csv_text(table))
    figures = {folder / f"{section.name}.svg": section.figure for section in item.sections if section.figure is not None}
    why = svg.write(figures) if with_svg and figures else ""
    if why:
        print(why, file=sys.stderr)
    if not quiet:
        drawn = 0 if why or not with_svg else len(figures)
        print(f"{out / item.evidence.name}.html; {len(tables)} CSV and {drawn} SVG files in {folder}")


def _tell(item: Report) -> None:
    print(f"{item.evidence.name}:")
    for claim in item.claims:
        if claim.verdict != UNMEASURED:
            print(f"  {claim.name}: {spoken(claim)}. {claim.finding.measured}")
    if missing := [claim.name for claim in item.claims if claim.verdict == UNMEASURED]:
        print(f"  {UNMEASURED}: {', '.join(missing)}")
    for title, gap in item.gaps:
        print(f"  gap in '{title}': {gap}")


def _plain(item: Report) -> dict[str, Any]:
    return {
        "experiment": item.evidence.name,
        "images": item.evidence.images,
        "claims": [
            {
                "name": claim.name,
                "criterion": claim.criterion,
                "verdict": claim.verdict,
                "clear": claim.finding.clear,
                "measured": claim.finding.measured,
                "paper": claim.printed,
            }
            for claim in item.claims
        ],
        "tables": {table.name: to_dict(table) for section in item.sections for table in section.tables},
        "gaps": [{"section": title, "gap": gap} for title, gap in item.gaps],
    }


if __name__ == "__main__":
    cli.run(main)
