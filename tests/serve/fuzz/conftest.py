"""A server that only these tests use: what they measure of its processes must not be the work of other tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.processes import Running


@pytest.fixture(scope="module")
def target(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of the small experiment, with room for the evaluations that the tests start."""
    log = tmp_path_factory.mktemp("fuzz") / "server.log"
    with Running(exported, log, limits=["jobs_per_client=64", "jobs=256"]) as running:
        yield running
