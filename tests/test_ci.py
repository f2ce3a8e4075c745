"""`.ci/run` shows how the tests ended and fails with them: run for real, on a small project with this one's Makefile."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECKERS = ("ruff", "mypy", "lint-imports")
"""What `make lint` runs; it has tests of its own, so that stand-ins do here."""
SYSTEM = ("apt-get", "sudo", "chromium")
"""What `.ci/run` may call or look for, so that nothing is installed."""


def program(path: Path, command: str) -> None:
    """Write a program that runs one shell command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the real Makefile, pytest settings and `.ci/run`, an installed environment and two tests."""
    for name in (".ci/run", "Makefile", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*.txt"))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in CHECKERS:
        program(tmp_path / ".venv" / "bin" / name, "exit 0")
    for name in SYSTEM:
        program(tmp_path / "system" / name, "exit 0")
    program(tmp_path / ".venv" / "bin" / "python", f'exec "{sys.executable}" "$@"')
    for name in ("serving", "ready"):  # newer than the requirements: nothing is installed again
        (tmp_path / ".venv" / name).touch()
    (tmp_path / "tests").mkdir()
    for name in ("first", "second"):
        (tmp_path / "tests" / f"test_{name}.py").write_text("def test_it():\n    assert True\n", encoding="utf-8")
    return tmp_path


def ci(project: Path) -> subprocess.CompletedProcess[str]:
    """Run `.ci/run` as a machine for continuous integration does: not inside another test run, no terminal."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "MAKE", "COV_"))}
    variables |= {"PATH": f"{project / 'system'}:{variables['PATH']}", "WORKERS": "1"}  # two tests need no more processes
    return subprocess.run([project / ".ci" / "run"], env=variables, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow  # the next test shows the closing line too
def test_ci_ends_with_the_closing_line_of_the_tests(project: Path) -> None:
    done = ci(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"=+ 2 passed.* in [\d.]+s.* =+", done.stdout.rstrip().splitlines()[-1])


def test_ci_fails_when_a_test_fails(project: Path) -> None:
    (project / "tests" / "test_second.py").write_text("def test_it():\n    assert 1 == 2\n", encoding="utf-8")
    done = ci(project)
    assert done.returncode != 0
    assert "FAILED tests/test_second.py::test_it" in done.stdout
    assert re.search(r"^=+ 1 failed, 1 passed.* in [\d.]+s.* =+$", done.stdout, re.MULTILINE)


def test_ci_fails_when_a_checker_complains(project: Path) -> None:
    program(project / ".venv" / "bin" / "mypy", "echo 'error: a type'; exit 1")
    done = ci(project)
    assert done.returncode != 0
    assert "error: a type" in done.stdout
    assert "passed" not in done.stdout


TORN = """
def pytest_configure(config):
    config.pluginmanager.register(Torn(config), "torn")

class Torn:
    def __init__(self, config):
        self.config = config

    def pytest_runtest_logreport(self, report):
        controller = self.config.pluginmanager.getplugin("dsession")
        if controller is not None:
            controller.sched.workqueue.clear()
"""
"""A conftest.py that loses the tests which no process has begun."""


@pytest.mark.parametrize(("torn", "code"), [pytest.param(False, 0, marks=pytest.mark.slow), (True, 1)])
def test_a_run_that_loses_tests_fails(tmp_path: Path, torn: bool, code: int) -> None:
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "conftest.py", "scheduling.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    for number in range(8):
        text = "import pytest\n\n\n@pytest.mark.parametrize('n', range(3))\ndef test_it(n):\n    assert n < 3\n"
        (tmp_path / "tests" / f"test_{number}.py").write_text(text, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(TORN if torn else "", encoding="utf-8")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        "tests",
    ]
    done = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("tests have not been run" in done.stdout) is torn
