"""Committed texts that tests compare with, and the one variable with which `make golden` rewrites them.

A test that compares with a committed file has the mark `golden` and asks `REWRITE` whether it is to write the file first. The
difference is then reviewed like any other change: `git diff` shows it.
"""

import os
import re
from collections.abc import Iterable
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


def golden_sentences(path: Path, promises: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return a committed page as it has to be, and as it is; it is corrected first if that was asked for.

    Args:
        path: The page.
        promises: Pattern of a sentence with numbers in it, in which a space stands for any gap between words, and the sentence
            as it has to be. A pattern occurs once in the page.
    """
    text = corrected = path.read_text(encoding="utf-8")
    for pattern, sentence in promises:
        (match,) = re.finditer(pattern.replace(" ", r"\s+"), text)
        corrected = corrected.replace(match[0], _filled(match[0], sentence))
    return corrected, golden_text(path, corrected)


def _filled(text: str, sentence: str) -> str:
    """Return the sentence with the line breaks of the text where both have equally many words."""
    words, gaps = sentence.split(), re.findall(r"\s+", text)
    if len(gaps) != len(words) - 1:
        return sentence
    return "".join(word + gap for word, gap in zip(words, [*gaps, ""], strict=True))
