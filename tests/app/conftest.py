"""One dashboard and one browser for all tests of a session; a new visitor for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app.browsing import Dashboard, dashboard, tab

expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """The dashboard on the committed experiments."""
    with dashboard(tmp_path_factory.mktemp("dashboard") / "log") as found:
        yield found


@pytest.fixture
def page(browser: Browser, served: Dashboard) -> Iterator[Page]:
    """A visitor of `served`."""
    with tab(browser, served.url) as found:
        yield found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where a dashboard of a test's own writes."""
    return tmp_path / "log"
