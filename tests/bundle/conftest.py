"""A copy of the small experiment that a test may break."""

import shutil
from pathlib import Path

import pytest

from stimcore.bundle import Bundle


@pytest.fixture
def experiment(small: list[Bundle], tmp_path: Path) -> Path:
    """The folder of a copy of the small experiment, with the bundles `common` and `stimulative`."""
    return Path(shutil.copytree(small[0].experiment.path, tmp_path / "exported" / "small"))
