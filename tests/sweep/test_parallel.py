"""Work on several processes: a killed worker loses nothing, one that always dies is named."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stimcore.errors import Unavailable
from stimcore.sweep import parallel


def double_unless_first_time(value: int, marker: str) -> int:
    """Kills its process the first time that it meets 3."""
    if value == 3 and not Path(marker).exists():
        Path(marker).touch()
        os._exit(9)
    return 2 * value


def always_die(_: int) -> int:
    os._exit(9)


def test_a_killed_worker_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    pieces = [(value, str(tmp_path / "died")) for value in range(8)]
    results = list(parallel.run(double_unless_first_time, pieces, jobs=2))
    assert sorted(results) == [(i, 2 * i) for i in range(8)]
    assert (tmp_path / "died").exists()


def test_a_piece_that_kills_its_worker_again_and_again_is_named() -> None:
    with pytest.raises(Unavailable, match="piece 0 of the work killed its process 3 times"):
        list(parallel.run(always_die, [(1,)], jobs=2))


def wait_for_ever(_: int) -> int:
    time.sleep(600)
    return 0


def sleep_or_die(value: int) -> int:
    """Kills its process when it meets 1."""
    if value == 1:
        os._exit(9)
    return value


@pytest.mark.slow
def test_a_dask_worker_that_a_piece_kills_again_and_again_is_a_sentence() -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with pytest.raises(Unavailable, match="piece 0 of the work killed its worker again and again. It may need more memory"):
            list(parallel.run(sleep_or_die, [(1,)], scheduler=cluster.scheduler_address))


def wait_until_open(address: str) -> None:
    """Wait until something listens at `tcp://HOST:PORT`."""
    host, port = address.removeprefix("tcp://").split(":")
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            return
        except ConnectionError:
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.mark.slow
def test_a_dask_scheduler_that_goes_away_is_a_sentence() -> None:
    """Killed in the middle of the work, as a machine that is switched off."""
    pytest.importorskip("distributed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as scheduler:
        wait_until_open(address)
        killed_at: list[float] = []

        def kill() -> None:
            killed_at.append(time.monotonic())
            scheduler.kill()

        threading.Timer(4, kill).start()
        with pytest.raises(Unavailable, match=f"the scheduler at {address} went away. Run the command again"):
            list(parallel.run(wait_for_ever, [(1,)], scheduler=address))
        assert time.monotonic() - killed_at[0] < 5
