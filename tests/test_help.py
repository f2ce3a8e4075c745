"""The help texts of all commands and their sub-commands are frozen: a changed text or option is a change that someone reviewed.

`make golden` rewrites the files in `tests/frozen`.
"""

import importlib
import json
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import pytest

from stimcore import cli
from stimcore.bench.__main__ import BENCHES
from tests.conftest import OPTIONAL
from tests.golden import REWRITE, golden_text

FROZEN = Path(__file__).parent / "frozen"
MODULES = {
    "stimcore": "stimcore.cli",
    **{name: f"stimcore.{name}.__main__" for name in cli.COMMANDS},
    "app": "stimcore.dashboard",
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


HEAVY = ("torch", "torchvision", "onnxruntime", "onnx", "plotly", "streamlit", "fastapi", "uvicorn", "sklearn")
"""Packages that take long to import or much memory, which nobody needs who asks for help."""
MOST_MB = 100
"""Memory of any `--help`. What it takes of the processor is measured by `bench help`: no test asserts a time."""
ASK_ALL = """
import contextlib, io, json, pathlib, re, runpy, sys

status = pathlib.Path("/proc/self/status")  # Linux only; `getrusage` would count the parent's memory before `exec` too

asked, heavy = json.loads(sys.argv[1])
for words in asked:
    printed = io.StringIO()
    sys.argv = ["python -m", *words[1:]]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), contextlib.suppress(SystemExit):
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    peak = re.search("VmHWM: *(.*) kB", status.read_text().replace(chr(9), " ")) if status.exists() else None
    megabytes = float(peak[1]) / 1024 if peak else 0.0
    print(json.dumps([words, printed.getvalue()[:60], megabytes, [name for name in heavy if name in sys.modules]]))
"""


def test_nothing_heavy_is_imported_for_help_and_for_wrong_options() -> None:
    """One process asks every command: what one of them imports stays in it, and is seen with the first that does."""
    commands = [f"stimcore.{cli.MODULES.get(name, name)}" for name in cli.COMMANDS]
    asked = [[command, "--help"] for command in commands]
    asked += [["stimcore.bench", name, "--help"] for name in BENCHES]
    asked += [[command, "--no-such-option"] for command in commands]
    code = [sys.executable, "-c", ASK_ALL, json.dumps([asked, HEAVY])]
    done = subprocess.run(code, cwd=FROZEN.parents[1], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [words for words, *_ in rows] == asked
    for words, printed, megabytes, imported in rows:
        assert printed.startswith("usage: " if "--help" in words else "error: "), words
        assert imported == [], words
        assert (10 if sys.platform == "linux" else 0) <= megabytes <= MOST_MB, words


def test_no_frozen_text_is_left_over() -> None:
    names = {path.stem.removeprefix("help-").partition("-")[0] for path in FROZEN.glob("help-*.txt")}
    assert names == set(MODULES)
