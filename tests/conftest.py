"""Bundles that several rooms' tests share."""

from pathlib import Path

import pytest

from stimcore.bundle import Bundle
from tests.bundles import small_experiment

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Two bundles of a ResNet-20 with random weights: 12 x 12 pixels, 600 training and 400 test images, 5 classes."""
    return small_experiment(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def fashion() -> Path:
    """The committed experiment."""
    return ROOT / "exported" / "resnet20-fashion"
