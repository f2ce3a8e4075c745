"""The machine: its devices and memory, and a description for measured numbers, which depend on it."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from stimcore.errors import UsageError

try:
    import resource
except ModuleNotFoundError:  # on Windows
    resource = None  # type: ignore[assignment]  # a module that is missing has no type of its own

STATM = Path("/proc/self/statm")
"""Where Linux says how many pages the process has: all of them, then those in memory, and more."""
PACKAGE = Path(__file__).parents[1]
"""The folder of the package, whose commit is recorded."""


def pick_device(name: str) -> torch.device:
    """Return a device by name: `auto` (CUDA if there is a GPU), `cpu`, `cuda` or `cuda:1`.

    Raises:
        UsageError: There is no device of that name on this machine.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"there is no device '{name}'", allowed="auto, cpu, cuda, cuda:0, ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        gpus = "".join(f", cuda:{number}" for number in range(torch.cuda.device_count()))
        raise UsageError(f"device '{name}' is not on this machine", allowed="cpu" + gpus)
    return device


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Compute with 0 in place of denormal numbers on this thread, as a context manager or as a decorator.

    On a processor, arithmetic with denormal numbers is many times slower, and weight decay leads to them. The mode belongs to
    the thread and not to torch, so everything else that runs on the thread afterwards would compute in it too. That is why the
    former mode is restored on leaving.

    Example:
        >>> with flush_denormals():
        ...     sys.float_info.min / 2
        0.0
        >>> sys.float_info.min / 2
        1.1125369292536007e-308
    """
    before = sys.float_info.min / 2 == 0  # torch can set the mode but not report it
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def describe(device: torch.device) -> dict[str, str | int]:
    """Return processor or GPU, cores, threads, versions and commit as plain values."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return describe_processor() | {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def describe_processor() -> dict[str, str | int]:
    """Return processor, cores, version of Python and commit as plain values."""
    return {
        "device": processor_name(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "commit": _commit(),
    }


def processor_name() -> str:
    """Return the name of the processor."""
    text = ""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit of the source; empty outside a checkout. `-dirty` is appended when the package has other changes."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, check=False)
        return done.stdout.decode(errors="replace").strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit + ("-dirty" if commit and git("status", "--porcelain", "--untracked-files=no", "--", ".") else "")


def reset_peak_memory(device: torch.device) -> None:
    """Make `peak_memory_bytes` start again from the memory in use now.

    This works on CUDA and on Linux. Elsewhere `peak_memory_bytes` stays the peak of the whole process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: the resident set's high-water mark


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory since `reset_peak_memory`: allocated on the GPU, or resident in the process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        import psutil

        return int(psutil.Process().memory_info().peak_wset)  # Windows has no getrusage, and counts the peak itself
    unit_bytes = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit_bytes


def memory_bytes(device: torch.device) -> int:
    """Return the memory in use now, counted as in `peak_memory_bytes`.

    The memory that a method needs is the peak minus the memory in use before the first step, which includes the data set.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if resource is not None and STATM.exists():  # on Linux, where a machine with a GPU and torch of its own may lack psutil
        return int(STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    import psutil

    return int(psutil.Process().memory_info().rss)
