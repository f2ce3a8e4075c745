"""Help texts of convert and nets are frozen.

`STIMCORE_WRITE_FROZEN=1 pytest tests/nets/test_help.py` writes them anew; the difference is to be reviewed.
"""

import os
from pathlib import Path

import pytest

from stimcore import convert
from stimcore.nets import __main__ as nets

FROZEN = Path(__file__).parent / "frozen"
PARSERS = {"convert": convert.parser, "nets": nets.parser}


@pytest.mark.parametrize("name", PARSERS)
def test_help_texts_are_frozen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    text = PARSERS[name]().format_help()
    path = FROZEN / f"{name}.txt"
    if os.environ.get("STIMCORE_WRITE_FROZEN"):
        path.write_text(text, encoding="utf-8")
    assert text.split() == path.read_text(encoding="utf-8").split()  # Python 3.13 breaks lines elsewhere
