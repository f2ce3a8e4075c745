"""Environments with what a benchmark measures beside the project: other packages, and other versions of the same ones."""

import subprocess
from pathlib import Path

from stimcore.errors import UsageError


def version(option: str, python: Path, code: str, packages: str) -> str:
    """Return what a program prints that names the version of a package in an environment.

    Args:
        option: The option that named the environment.
        python: The python of the environment.
        code: The program.
        packages: What has to be installed there.

    Raises:
        UsageError: There is no such python, or the program fails there.
    """
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, encoding="utf-8", check=False)
    except OSError as reason:
        raise UsageError(f"{option} {python} can't be started", allowed="the python of an environment") from reason
    if done.returncode:
        last = next(reversed(done.stderr.strip().splitlines()), "")
        raise UsageError(f"{option} {python}: {last}", todo=f"Run: PYTHON -m pip install {packages}")
    return done.stdout.strip().splitlines()[-1]
