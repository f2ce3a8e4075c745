"""The command line of `python -m stimcore.report`: which experiments, and what is written."""

from pathlib import Path

from stimcore import cli


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(
        prog="python -m stimcore.report",
        description="Write the tables and figures of experiments next to the paper's. Nothing is evaluated: what was not "
        "swept and stored is listed as a gap.",
    )
    line.add_argument("experiments", nargs="+", metavar="EXPERIMENT", type=Path, help="exported/EXPERIMENT, or exported")
    line.add_argument(
        "--out", type=cli.output_folder, metavar="DIR", help="write DIR/EXPERIMENT.html, and CSV and SVG in DIR/EXPERIMENT/"
    )
    line.add_argument(
        "--markdown", type=cli.output_file, metavar="FILE", help="write claims and tables as Markdown (docs/results.md)"
    )
    line.add_argument(
        "--forget", nargs="+", default=[], metavar="NAME", help="with --markdown: drop the parts of experiments that are gone"
    )
    cli.add_json(line, "write claims, tables and gaps")
    line.add_argument("--no-svg", action="store_true", help="write no SVG files: no browser is started")
    return line
