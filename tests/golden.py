"""Committed texts that tests compare with, and the one variable with which `make golden` rewrites them.

A test that compares with a committed file has the mark `golden` and asks `REWRITE` whether it is to write the file first. The
difference is then reviewed like any other change: `git diff` shows it.
"""

import os
from pathlib import Path

REWRITE = os.environ.get("STIMCORE_GOLDEN") == "write"
"""Whether tests write the committed texts before they compare with them."""


def golden_text(path: Path, text: str) -> str:
    """Return the committed text of a file, after writing `text` to it if that was asked for.

    Args:
        path: The committed file.
        text: What the program writes today.
    """
    if REWRITE:
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")
