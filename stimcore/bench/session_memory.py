"""Memory that one onnxruntime session adds to a process of its own, which has loaded everything else before.

    python -m stimcore.bench.session_memory MODEL.onnx

prints MB of 2^20 bytes: resident memory after five images, less what was resident before the session was made.
"""

import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil

from stimcore.engine.provider import file_session
from stimcore.errors import Unavailable

CALLS = 5
PROCESSES = 3


def added_mb(file: Path) -> float:
    """Return what a session of a file adds to this process, with one thread, after `CALLS` images one by one."""
    process = psutil.Process()
    before = process.memory_info().rss
    session = file_session(file, threads=1)
    image = np.zeros((1, *session.get_inputs()[0].shape[1:]), np.float32)
    for _ in range(CALLS):
        session.run(None, {session.get_inputs()[0].name: image})
    return float(process.memory_info().rss - before) / 2**20


def measure(file: Path) -> float:
    """Return the median over `PROCESSES` processes, each of which opens the file alone.

    Raises:
        Unavailable: A process failed.
    """
    values = []
    for _ in range(PROCESSES):
        command = [sys.executable, "-m", "stimcore.bench.session_memory", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode:
            last = next(reversed(done.stderr.strip().splitlines()), "")
            raise Unavailable(f"the memory of {file.name} could not be measured: {last[:200]}")
        values.append(float(done.stdout))
    return statistics.median(values)


if __name__ == "__main__":
    print(added_mb(Path(sys.argv[1])))
