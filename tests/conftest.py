"""Bundles and the browser that several rooms' tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from stimcore.bundle import Bundle
from tests.app.browsing import FLAGS, chromium
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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, one for the whole session: playwright's event loop runs in this thread from here on."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()
