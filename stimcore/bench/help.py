"""What --help of every command costs, in processor time and memory.

Torch and onnxruntime take seconds to import, so that a command answers help and wrong options before it needs them.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from stimcore import cli
from stimcore.bench.check import at_least
from stimcore.errors import Unavailable
from stimcore.runs.machine import describe_processor

PEAK = (
    "import runpy, sys, pathlib, atexit; module, *sys.argv = sys.argv[1:]; sys.argv.insert(0, module); status = "
    "pathlib.Path('/proc/self/status'); atexit.register(lambda: print(status.read_text() if status.exists() else '', "
    "file=sys.stderr)); runpy.run_module(module, run_name='__main__', alter_sys=True)"
)
"""Program that runs a module as `python -m` does, and ends with what Linux says about its memory."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    rounds: int


def run(settings: Settings) -> dict[str, Any]:
    """Measure, and return the report.

    Raises:
        UsageError: A number is out of range.
        Unavailable: A command does not answer.
    """
    at_least(settings, rounds=1)
    seconds: dict[str, float] = {}
    megabytes: dict[str, float] = {}
    for name in cli.COMMANDS:
        turns = [_ask(f"stimcore.{cli.MODULES.get(name, name)}") for _ in range(settings.rounds)]
        # the least of several: the processor time of a process grows with everything else that runs beside it
        seconds[name], megabytes[name] = min(turn[0] for turn in turns), max(turn[1] for turn in turns)
    return {
        "bench": "help",
        "network": "none",
        "machine": describe_processor(),
        "n": settings.rounds,
        "seconds": seconds,
        "megabytes": megabytes,
    }


def show(report: dict[str, Any]) -> int:
    """Print seconds and megabytes of every command; return the exit code."""
    for name, seconds in report["seconds"].items():
        print(f"{name:12} {seconds:6.2f} s {report['megabytes'][name]:6.0f} MB")
    return 0


def _ask(module: str) -> tuple[float, float]:
    """Return the seconds of processor time and the megabytes that a command's help takes; 0 MB where Linux does not tell."""
    before = os.times()
    command = [sys.executable, "-c", PEAK, module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    after = os.times()
    if done.returncode:
        raise Unavailable(f"'{module} --help' ended with {done.returncode}: {done.stderr[-200:]}")
    peaks = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("VmHWM:")]
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, int(peaks[0]) / 1024 if peaks else 0.0
