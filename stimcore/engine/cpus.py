"""How many processors this process may use: the machine's, less what affinity and the quotas of control groups take away.

A container that is limited to two processors still sees all 64 of its machine. As many threads as the machine has would then
take turns on the two, and each of them would be stopped in the middle of its work when the quota of a period is used up.

Only Linux has affinity masks and control groups that a program can read like this. Elsewhere every processor counts.
"""

import math
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

from stimcore.errors import UsageError


def usable_cpus(root: Path = Path("/")) -> int:
    """Return the number of processors that this process may use, at least 1.

    Args:
        root: Where `proc` and `sys` are found; tests give another folder.

    Example:
        >>> 1 <= usable_cpus() <= (os.cpu_count() or 1)
        True
    """
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    # half a processor more than a whole one still carries a second thread half of the time
    return max(1, min([_affinity(), *(math.ceil(quota) for quota in quotas)]))


def check_threads(threads: int) -> None:
    """Check a number of threads from the command line: many times more than there are processors would only take turns.

    Raises:
        UsageError: It is below 1, or above `usable_cpus`.
    """
    usable = usable_cpus()
    if not 1 <= threads <= usable:
        raise UsageError(f"--threads {threads}", allowed=f"1 to {usable}, the processors that this process may use")


def session_threads(threads: int) -> int:
    """Return the threads of an onnxruntime session: as many as asked for, or its own choice where nothing restricts it.

    Args:
        threads: Threads that were asked for; 0 for onnxruntime's choice, which knows the machine's cores but no quotas.

    Returns:
        The number of threads; 0 leaves the choice to onnxruntime.
    """
    if threads:
        return threads
    usable = usable_cpus()
    return usable if usable < (os.cpu_count() or 1) else 0


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas_v2(root: Path) -> list[float]:
    """Return the quotas of this process's group and of all groups above it, in processors (control groups, version 2)."""
    quotas = []
    for folder in _groups(root, "", root / "sys/fs/cgroup"):
        words = _read(folder / "cpu.max").split()  # "QUOTA PERIOD" in microseconds, or "max PERIOD"
        if len(words) == 2 and words[0] != "max":
            quotas.append(_ratio(words[0], words[1]))
    return [quota for quota in quotas if quota > 0]


def _quotas_v1(root: Path) -> list[float]:
    """Return the same for the `cpu` controller of version 1; a quota of -1 is none."""
    mounts = [root / "sys/fs/cgroup" / name for name in ("cpu", "cpu,cpuacct")]
    quotas = [
        _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))
        for mount in mounts
        for folder in _groups(root, "cpu", mount)
    ]
    return [quota for quota in quotas if quota > 0]


def _groups(root: Path, controller: str, mount: Path) -> list[Path]:
    """Return the folder of this process's group and of the groups above it, up to the mount.

    Inside a container the path in `/proc/self/cgroup` may be that of the host, of which nothing is mounted. The mount itself is
    then the container's group, and the only one that exists.

    Args:
        root: Where `proc` is found.
        controller: A controller of version 1; empty for version 2.
        mount: Where the hierarchy is mounted.
    """
    folders = [mount]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            parts = PurePosixPath(path).parts[1:]
            folders += [mount.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1) if ".." not in parts]
    return folders


def _ratio(quota: str, period: str) -> float:
    """Return quota / period; 0 where the texts are no numbers."""
    with suppress(ValueError, ZeroDivisionError):
        return int(quota) / int(period)
    return 0.0


def _read(path: Path) -> str:
    """Return the text of a file; empty where it is missing or can't be read."""
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii").strip()
    return ""
