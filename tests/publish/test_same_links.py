"""A link that was made on the dashboard opens on the published page with the same numbers, and the other way round."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from stimcore.publish.site import PAGES, Settings, build_site
from tests.app.browsing import PAGES as DASHBOARD_PAGES
from tests.app.browsing import ROOT, block, code, dashboard, done, lane, opened, tab
from tests.publish.hosting import hosted, visit

EXPERIMENT = ROOT / "exported" / "resnet20-fashion"
SWAPPED = "1-2-3.4-5-6.7-9-8"


@pytest.fixture(scope="module")
def site_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("links") / "site"
    build_site([EXPERIMENT], Settings(images=16, walls="stored")).write(folder)
    with hosted(folder) as address:
        yield f"{address}/"


@pytest.fixture(scope="module")
def dashboard_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("dashboard")
    with dashboard(folder / "log", STIMCORE_EXPORTED=str(ROOT / "exported"), STIMCORE_RUNS=str(folder / "runs")) as running:
        yield running.url


def numbers(page: Page) -> list[str]:
    """Return the accuracies of the lanes, once all of them are there."""
    for name in ("common", "stimulative"):
        expect(lane(page, name).locator(".accuracy")).to_have_text(re.compile(r"^\d+\.\d %$"), timeout=120_000)
    return [lane(page, name).locator(".accuracy").inner_text() for name in ("common", "stimulative")]


def query(page: Page) -> str:
    return urlsplit(page.url).query


def test_both_have_pages_at_the_same_addresses() -> None:
    shared = {path.strip("/") for path in DASHBOARD_PAGES.values()} - {"train"}  # a page without a server trains nothing
    assert set(PAGES) == shared


@pytest.mark.slow
def test_links_open_in_both(browser: Browser, site_url: str, dashboard_url: str, tmp_path: Path) -> None:
    with tab(browser, dashboard_url) as page:
        opened(page, f"{dashboard_url}/?experiment={EXPERIMENT.name}&spec=main")
        block(page, 5).click()
        expect(code(page)).to_have_value("1-2-3.4-x5-6.7-8-9")
        done(page)
        link, seen = query(page), numbers(page)
    with visit(browser, f"{site_url}?{link}") as page:
        expect(code(page)).to_have_value("1-2-3.4-x5-6.7-8-9")
        assert numbers(page) == seen
        code(page).fill(SWAPPED)
        code(page).press("Enter")
        expect(page.locator("h1")).to_contain_text("Blocks 8 and 9")
        link, seen = query(page), numbers(page)
    with tab(browser, dashboard_url) as page:
        page.goto(f"{dashboard_url}/?{link}")
        expect(code(page)).to_have_value(SWAPPED, timeout=120_000)
        done(page)
        assert numbers(page) == seen
    with visit(browser, f"{site_url}damage/?experiment={EXPERIMENT.name}", root=site_url) as page:
        page.get_by_label("Block", exact=True).select_option("8")
        damage = query(page)
        hatched = [figure.locator("rect[fill^='url']").count() for figure in page.locator("main figure").all()[:2]]
        assert hatched == [0, 2]  # the first block of a stage, with two methods, has a figure and a scale of its own
        page.goto(f"{site_url}subnetworks/?experiment={EXPERIMENT.name}")
        page.get_by_label("Sub-network", exact=True).select_option(label="d2-1-3")
        subnetworks = query(page)
        page.goto(f"{site_url}?experiment={EXPERIMENT.name}&spec=main")
        page.get_by_label("Guess first").check()
        guess = query(page)
    assert (parse_qs(damage)["block"], parse_qs(subnetworks)["subnet"]) == (["8"], ["d2-1-3"])
    with tab(browser, dashboard_url) as page:
        page.goto(f"{dashboard_url}/damage?{damage}")
        expect(page.get_by_role("combobox", name=re.compile("Block")).first).to_have_value("8", timeout=120_000)
        page.goto(f"{dashboard_url}/subnetworks?{subnetworks}")
        expect(page.get_by_role("combobox", name=re.compile("Sub-network")).first).to_have_value("d2-1-3", timeout=120_000)
        page.goto(f"{dashboard_url}/?{guess}")
        expect(page.get_by_role("switch", name="Guess first")).to_be_checked(timeout=120_000)
