"""Work on several processes: a killed worker loses nothing, one that always dies is named."""

import os
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
    found = list(parallel.run(double_unless_first_time, pieces, jobs=2))
    assert sorted(found) == [(i, 2 * i) for i in range(8)]
    assert (tmp_path / "died").exists()


def test_a_piece_that_kills_its_worker_again_and_again_is_named() -> None:
    with pytest.raises(Unavailable, match="piece 0 of the work killed its process 3 times"):
        list(parallel.run(always_die, [(1,)], jobs=2))
