"""A small real experiment for the session, and real server processes that serve it."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.exported import export
from tests.serve.processes import Running

Start = Callable[..., Running]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`exported/tiny/{common,stimulative}`; tests must not change it."""
    return export(tmp_path_factory.mktemp("serving") / "exported")


@pytest.fixture
def own_exported(exported: Path, tmp_path: Path) -> Path:
    """A copy of `exported` that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "exported"))


@pytest.fixture
def start(exported: Path, tmp_path: Path) -> Iterator[Start]:
    """A function that starts a server, which ends with the test."""
    servers: list[Running] = []
    numbers = itertools.count()

    def begin(folder: Path = exported, **words: Any) -> Running:
        servers.append(Running(folder, tmp_path / f"server-{next(numbers)}.log", **words))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server for all tests that do not change it."""
    runs = exported.parent / "runs-of-exported"
    with Running(
        exported, tmp_path_factory.mktemp("server") / "server.log", words=["--runs", str(runs)], limits=["jobs_per_client=32"]
    ) as running:
        yield running
