"""Bursts of clicks, thirty visitors, bytes on the wire, a killed server, and what closed tabs leave."""

import asyncio
import re
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from app.main import NUM_DESCRIPTORS
from stimcore import files
from stimcore.bench.page.suite import REMOVABLE
from stimcore.bench.page.visitors import Visitor
from tests.app.browsing import Dashboard, block, code, dashboard, done, opened, tab

FULL = "1-2-3.4-5-6.7-8-9"


@pytest.mark.slow
def test_burst_of_clicks_loses_none(page: Page, served: Dashboard) -> None:
    opened(page, served.url)
    for _ in range(2):
        for number in REMOVABLE:
            block(page, number).click(delay=0)
    block(page, 5).click(delay=0)
    expect(code(page)).to_have_value(FULL.replace("5", "x5"))
    expect(block(page, 5)).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(1000)
    expect(code(page)).to_have_value(FULL.replace("5", "x5"))


@pytest.mark.slow
def test_first_visit_is_small_on_the_wire(browser: Browser, served: Dashboard) -> None:
    for path in ("/", "/damage"):
        with tab(browser, served.url, locale="en-US") as page:  # with a setting, the window is new and its cache is empty
            session = page.context.new_cdp_session(page)
            session.send("Network.enable")
            sizes: list[float] = []
            session.on("Network.loadingFinished", lambda event, sizes=sizes: sizes.append(event["encodedDataLength"]))
            page.goto(served.url + path)
            expect(page.get_by_text(re.compile("Accuracies are measured"))).to_be_visible(timeout=120_000)
            if path != "/":
                expect(page.locator(".js-plotly-plot").first).to_be_visible()  # the largest script has arrived
            page.wait_for_timeout(1000)
            assert 100_000 < sum(sizes) <= 3_000_000, sum(sizes)


@pytest.mark.slow
def test_a_killed_dashboard_comes_back_with_its_state(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    with dashboard(tmp_path_factory.mktemp("killed") / "log") as restarted:
        context = browser.new_context()
        page = context.new_page()
        opened(page, restarted.url)
        block(page, 3).click()
        expect(code(page)).to_have_value(FULL.replace("3", "x3"))
        restarted.stop(kill=True)
        expect(page.get_by_text(re.compile("connection|not connected", re.I)).first).to_be_visible()
        restarted.start()
        done(page)
        expect(code(page)).to_have_value(FULL.replace("3", "x3"))
        expect(block(page, 3)).to_have_attribute("aria-pressed", "true")
        context.close()


@pytest.mark.slow
def test_tabs_that_were_closed_hold_few_file_descriptors(served: Dashboard) -> None:
    """Streamlit remembers a closed tab for two minutes, with three descriptors of its own; ours must not come on top."""

    async def visit(times: int) -> None:
        for _ in range(times):
            visitor = Visitor()
            await visitor.open(served.url, "")
            await visitor.close()

    process = psutil.Process(served.process.pid)
    with ThreadPoolExecutor(1) as aside:  # a browser's driver has a loop in this thread
        aside.submit(asyncio.run, visit(3)).result()
        held = process.num_fds()
        aside.submit(asyncio.run, visit(10)).result()
    assert process.num_fds() - held <= 10 * 3 + 4, "a few more for requests of other visitors"


def test_the_dashboard_takes_as_many_file_descriptors_as_it_needs() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))  # what macOS gives a process
        for _ in range(2):
            assert files.allow_descriptors(NUM_DESCRIPTORS) == min(NUM_DESCRIPTORS, before[1])
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(NUM_DESCRIPTORS, before[1]), before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_thirty_visitors_of_one_state(browser: Browser, served: Dashboard) -> None:
    """All of them see the same job, and the dashboard stays within its share of processor and memory."""
    process = psutil.Process(served.process.pid)
    with tab(browser, served.url) as first:
        opened(first, served.url + "/?spec=1-2-3.4-5-6.7-9-8")
        before = process.memory_info().rss
        contexts = [browser.new_context() for _ in range(30)]
        pages = [context.new_page() for context in contexts]
        for other in pages:
            other.goto(served.url + "/?spec=1-2-3.4-5-6.7-9-8")
        for other in pages:
            done(other)
        first.get_by_role("button", name="Measure here now").click()
        start, spent = time.monotonic(), process.cpu_times()
        done(first)
        seconds = max(time.monotonic() - start, 0.1)
        used = process.cpu_times()
        assert (used.user + used.system - spent.user - spent.system) / seconds <= 0.5
        assert process.memory_info().rss - before <= 31 * 2**20
        values = {other.locator(".accuracy").first.inner_text() for other in pages}
        assert len(values) == 1
        for context in contexts:
            context.close()
    assert threading.active_count() < 50
