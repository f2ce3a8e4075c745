"""A server that only these tests use: what they measure of its processes must not be the work of other tests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.processes import Running


@pytest.fixture(scope="package")
def folder(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments, of which `odd` is the one that tests change, and run folders."""
    root = tmp_path_factory.mktemp("folders")
    for name in ("tiny", "odd"):
        shutil.copytree(exported / "tiny", root / "exported" / name)
    shutil.rmtree(root / "exported" / "odd" / "common")
    shutil.copytree(exported.parent / "runs-of-exported", root / "runs")
    return root


@pytest.fixture(scope="package")
def target(folder: Path) -> Iterator[Running]:
    """A server of both, with room for the evaluations that tests start; it looks at its bundles when the tests ask it to."""
    limits = ["watch_s=1000", "jobs_per_client=64", "jobs=256"]
    with Running(folder / "exported", folder / "server.log", limits=limits, words=["--runs", str(folder / "runs")]) as running:
        yield running
