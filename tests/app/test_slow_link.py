"""Break it over a slow link (300 ms round trip, 1 Mbit/s), over one that is cut for 20 s, and with an answer that is late."""

import re
import urllib.request
from time import monotonic

import pytest
from playwright.sync_api import Browser, Page, WebSocketRoute, expect

from tests.app.browsing import FULL, PATIENCE_MS, Dashboard, at_rest, block, code, done, drawn, ends_run, tab
from tests.app.slow_link import SlowLink

SECONDS = 120_000
CUT_MS = 20_000
PRESS = """(button) => new Promise((resolve) => {
  const root = button.getRootNode(), label = button.getAttribute('aria-label'), start = performance.now();
  const number = /Block (\\d+)/.exec(label)[1];
  button.click();
  const look = () => {
    const now = [...root.querySelectorAll('button')].find((b) => b.getAttribute('aria-label')?.startsWith(`Block ${number},`));
    if (now?.getAttribute('aria-pressed') === 'true') resolve(performance.now() - start); else requestAnimationFrame(look);
  };
  look();
})"""
"""Clicks a block's button in the page, and returns the milliseconds until the picture shows it as deleted."""


def test_the_link_delays_and_bounds_what_passes(served: Dashboard) -> None:
    with SlowLink(served.port, round_trip_s=0.2, bytes_per_s=50_000) as link:
        began = monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{link.port}/_stcore/health", timeout=20) as answer:
            assert answer.read() == b"ok"
        assert monotonic() - began >= 0.2
        link.cut()
        with pytest.raises(OSError, match="(?i)connection|remote end"):
            urllib.request.urlopen(f"http://127.0.0.1:{link.port}/_stcore/health", timeout=5)
        link.join()
        with urllib.request.urlopen(f"http://127.0.0.1:{link.port}/_stcore/health", timeout=20) as answer:
            assert answer.status == 200


def test_an_answer_that_is_late_leaves_the_page_alive(page: Page, served: Dashboard) -> None:
    """The page asks for what it showed two clicks before, while the answer to its last click is still on its way."""
    late: list[tuple[WebSocketRoute, str | bytes]] = []
    is_late = False

    def carry(browser_end: WebSocketRoute) -> None:
        server_end = browser_end.connect_to_server()
        server_end.on_message(lambda message: late.append((browser_end, message)) if is_late else browser_end.send(message))
        browser_end.on_message(server_end.send)

    def wait_for_run(since: int) -> None:
        for _ in range(PATIENCE_MS // 20):
            if any(ends_run(message) for _, message in late[since:]):
                return
            page.wait_for_timeout(20)
        raise AssertionError("the dashboard did not answer")

    page.route_web_socket("**/_stcore/stream", carry)
    page.goto(f"{served.url}/?spec={FULL}")
    drawn(page)
    block(page, 5).click()
    expect(page.get_by_text(re.compile(r"^Block 5 is gone\."))).to_be_visible()
    at_rest(page)
    is_late = True
    block(page, 6).click()
    wait_for_run(since=0)
    arrived = len(late)
    page.get_by_role("button", name="Put everything back").click()
    wait_for_run(since=arrived)
    is_late = False
    for browser_end, message in late:
        browser_end.send(message)
    expect(code(page)).to_have_value(FULL)
    block(page, 8).click()
    expect(page.get_by_text(re.compile(r"^Block 8 is gone\."))).to_be_visible()


@pytest.mark.slow
def test_a_slow_link_and_a_cut_one_lose_nothing(browser: Browser, served: Dashboard) -> None:
    with SlowLink(served.port) as link:
        url = f"http://127.0.0.1:{link.port}"
        # while the link is cut the browser and Streamlit report that in the console: any message may be one of these
        with tab(browser, url, expected="") as page:
            page.set_default_timeout(SECONDS)
            page.goto(f"{url}/?experiment=resnet20-fashion&spec={FULL}")
            expect(block(page, 5)).to_be_visible(timeout=SECONDS)
            done(page)
            assert block(page, 5).evaluate(PRESS) < 200, "the picture does not wait for the link"
            expect(page.get_by_text(re.compile(r"^Block 5 is gone\."))).to_be_visible(timeout=SECONDS)
            expect(code(page)).to_have_value("1-2-3.4-x5-6.7-8-9")
            page.get_by_role("button", name="Undo").click()
            expect(code(page)).to_have_value(FULL, timeout=SECONDS)  # the edit was made once
            block(page, 8).click()
            expect(code(page)).to_have_value("1-2-3.4-5-6.7-x8-9", timeout=SECONDS)
            link.cut()
            page.wait_for_timeout(CUT_MS)
            link.join()
            expect(page.locator("[data-testid=stApp][data-test-connection-state=CONNECTED]")).to_be_attached(timeout=SECONDS)
            expect(code(page)).to_have_value("1-2-3.4-5-6.7-x8-9")
            block(page, 3).click()
            expect(page.get_by_text(re.compile(r"^2 of 9 blocks are gone\."))).to_be_visible(timeout=SECONDS)
            expect(code(page)).to_have_value("1-2-x3.4-5-6.7-x8-9")
