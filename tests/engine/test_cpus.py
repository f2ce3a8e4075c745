"""How many processors count: affinity, and the quotas of control groups in both versions, of this group and those above."""

import os
from pathlib import Path

import pytest

from stimcore.engine import cpus
from stimcore.engine.cpus import check_threads, session_threads, usable_cpus
from stimcore.errors import UsageError

MANY = 64


def machine(root: Path, files: dict[str, str]) -> Path:
    """Write the files of a machine, by their paths."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
    return root


V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, MANY),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, MANY),
        ({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "nonsense\n"}, MANY),
        ({"sys/fs/cgroup/cpu.max": "6400000000 100000\n"}, MANY),
        # a service of systemd: the quota is that of its own group, or of a slice above it
        ({"proc/self/cgroup": "0::/a.slice/b.service\n", "sys/fs/cgroup/a.slice/b.service/cpu.max": "300000 100000"}, 3),
        ({"proc/self/cgroup": "0::/a.slice/b.service\n", "sys/fs/cgroup/a.slice/cpu.max": "400000 100000"}, 4),
        # the group of another process is none of ours
        ({"proc/self/cgroup": "0::/a.slice\n", "sys/fs/cgroup/b.slice/cpu.max": "100000 100000"}, MANY),
        ({f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, MANY),
        ({f"{V1}/cpu.cfs_quota_us": "250000\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, 3),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/docker/c1\n",
                f"{V1}/docker/c1/cpu.cfs_quota_us": "100000",
                f"{V1}/docker/c1/cpu.cfs_period_us": "50000",
                f"{V1}/x/cpu.cfs_quota_us": "50000",
                f"{V1}/x/cpu.cfs_period_us": "50000",
            },
            2,
        ),
    ],
)
def test_quotas_count(files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)), raising=False)
    assert usable_cpus(machine(tmp_path, files)) == expected


def test_affinity_counts_where_the_system_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: MANY)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert usable_cpus(tmp_path) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus(tmp_path) == MANY
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(tmp_path) == 1


def test_a_session_gets_threads_of_its_own_only_where_something_restricts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 10_000)
    assert session_threads(3) == 3
    assert session_threads(0) == usable_cpus() < 10_000
    monkeypatch.setattr("stimcore.engine.cpus.usable_cpus", lambda: 10_000)
    assert session_threads(0) == 0


@pytest.mark.parametrize("threads", [-1, 0, 4, 100_000])
def test_more_threads_than_processors_are_refused(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 3)
    with pytest.raises(UsageError, match=f"--threads {threads}; allowed: 1 to 3, the processors that this process may use"):
        check_threads(threads)
    check_threads(3)
