"""Help texts of export, sweep and bundle are frozen.

`STIMCORE_WRITE_FROZEN=1 pytest tests/export/test_help.py` writes them anew; the difference is to be reviewed.
"""

import os
from pathlib import Path

import pytest

from stimcore.bundle import __main__ as bundle
from stimcore.export import __main__ as export
from stimcore.sweep import __main__ as sweep

FROZEN = Path(__file__).parent / "frozen"
PARSERS = {"export": export.parser, "sweep": sweep.parser, "bundle": bundle.parser}


@pytest.mark.parametrize("name", PARSERS)
def test_help_texts_are_frozen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    text = PARSERS[name]().format_help()
    path = FROZEN / f"{name}.txt"
    if os.environ.get("STIMCORE_WRITE_FROZEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
