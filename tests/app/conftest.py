"""One dashboard for all browser tests of a session; every test gets a new visitor of it."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from stimcore.bundle import Bundle
from tests.app.browsing import PATIENCE_MS, ROOT, Dashboard, dashboard, tab

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def served(small: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard on the committed experiments and on `small`, a small one with a third method."""
    folder = tmp_path_factory.mktemp("dashboard")
    exported = folder / "exported"
    shutil.copytree(ROOT / "exported", exported)
    shutil.copytree(small[0].path.parent, exported / "small")
    shutil.copytree(small[0].path, exported / "small" / "common-again")
    with dashboard(folder / "log", STIMCORE_EXPORTED=str(exported), STIMCORE_RUNS=str(folder / "runs")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, served: Dashboard) -> Iterator[Page]:
    """A visitor of `served`."""
    with tab(browser, served.url) as opened_tab:
        yield opened_tab
