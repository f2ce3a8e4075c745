"""Command lines are frozen: a change of a help text is a change that someone reviewed."""

import os
from pathlib import Path

import pytest

from stimcore.cli import Parser
from stimcore.experiments import __main__ as experiments
from stimcore.report import __main__ as report

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(("name", "parser"), [("report", report.parser()), ("experiments", experiments.parser())])
def test_help_text(name: str, parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    """`STIMCORE_GOLDEN=write` writes them anew."""
    monkeypatch.setenv("COLUMNS", "100")
    path = GOLDEN / f"help-{name}.txt"
    if os.environ.get("STIMCORE_GOLDEN") == "write":
        path.write_text(parser.format_help(), encoding="utf-8")
    words = parser.format_help().split()  # Python 3.13 breaks lines elsewhere
    assert words == path.read_text(encoding="utf-8").split()
