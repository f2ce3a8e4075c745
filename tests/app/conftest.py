"""One dashboard for all browser tests of a session; a test gets a new visitor of it, or the tab that tests share."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from stimcore.bundle import Bundle
from tests.app.browsing import PATIENCE_MS, ROOT, SIZE, Dashboard, SharedTab, Turn, blank_tab, dashboard, tab, unharmed

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


@pytest.fixture(scope="session")
def shared(browser: Browser, served: Dashboard, request: pytest.FixtureRequest) -> Iterator[SharedTab]:
    """The tab that tests share; a test asks for `turn`."""
    with blank_tab(browser, served.url, SIZE, "light") as opened_tab:
        yield SharedTab(opened_tab, served.url, request.session)


@pytest.fixture
def turn(shared: SharedTab, served: Dashboard) -> Iterator[Turn]:
    """Turns the tab that tests share to an address, in a window of the usual size: see `SharedTab.turn`."""
    shared.page.set_viewport_size({"width": SIZE[0], "height": SIZE[1]})
    with unharmed(shared.page, served.url):
        yield shared.turn
