"""What measured numbers depend on: processor or GPU, threads, versions, commit."""

import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch

PACKAGE = Path(__file__).parents[1]


def describe(device: torch.device) -> dict[str, str | int]:
    """The machine in plain values."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if line.startswith("model name")]
        if path.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of the source, with `-dirty` behind it where the package differs from it; empty outside a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit + ("-dirty" if commit and git("status", "--porcelain", "--untracked-files=no", "--", ".") else "")


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_bytes` start anew, where the system can (CUDA, Linux); elsewhere it stays that of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: the resident set's high-water mark


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory since `reset_peak_memory`: allocated on the GPU, resident in the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo


def memory_bytes(device: torch.device) -> int:
    """Memory in use now, as `peak_memory_bytes` counts it; what a method needs is the peak minus this before the first step."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    path = Path("/proc/self/statm")
    if not path.exists():
        return peak_memory_bytes(device)
    return int(path.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
