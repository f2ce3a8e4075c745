"""The help texts of all commands and their sub-commands are frozen: a changed text or option is a change that someone reviewed.

`make golden` rewrites the files in `tests/frozen`.
"""

import importlib
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import pytest

from stimcore import cli
from tests.conftest import OPTIONAL
from tests.golden import REWRITE, golden_text

FROZEN = Path(__file__).parent / "frozen"
MODULES = {
    "stimcore": "stimcore.cli",
    **{name: f"stimcore.{name}.__main__" for name in cli.COMMANDS},
    "app": "stimcore.dashboard",
    "convert": "stimcore.convert",
    "serve.healthcheck": "stimcore.serve.healthcheck",
}
"""Command -> module with its function `parser`."""


def parsers(name: str, parser: ArgumentParser) -> Iterator[tuple[str, ArgumentParser]]:
    """Yield a command and all its sub-commands, `bench step` as `bench-step`."""
    yield name, parser
    for action in parser._actions:  # argparse has no public way to list sub-commands
        for word, choice in action.choices.items() if isinstance(action.choices, dict) else ():
            if isinstance(choice, ArgumentParser):
                yield from parsers(f"{name}-{word}", choice)


@pytest.mark.golden
@pytest.mark.parametrize("command", MODULES)
def test_help_texts_are_frozen(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    try:
        module = importlib.import_module(MODULES[command])
    except ModuleNotFoundError as missing:
        if missing.name in OPTIONAL:
            pytest.skip(f"needs {missing.name}, which is not installed")
        raise
    texts = {f"help-{name}.txt": parser.format_help() for name, parser in parsers(command, module.parser())}
    committed = {path.name for pattern in (f"help-{command}.txt", f"help-{command}-*.txt") for path in FROZEN.glob(pattern)}
    assert REWRITE or set(texts) == committed
    for name, text in texts.items():
        frozen = golden_text(FROZEN / name, text)
        if sys.version_info >= (3, 13):  # argparse breaks the lines of a usage elsewhere
            text, frozen = " ".join(text.split()), " ".join(frozen.split())
        assert text == frozen


def test_no_frozen_text_is_left_over() -> None:
    names = {path.stem.removeprefix("help-").partition("-")[0] for path in FROZEN.glob("help-*.txt")}
    assert names == set(MODULES)
