"""Break it over a slow link (300 ms round trip, 1 Mbit/s), and over one that is cut for 20 seconds."""

import re
import urllib.request
from time import monotonic

import pytest
from playwright.sync_api import Browser, expect

from tests.app.browsing import FULL, Dashboard, block, code, done, tab
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


@pytest.mark.slow
def test_a_slow_link_and_a_cut_one_lose_nothing(browser: Browser, served: Dashboard) -> None:
    with SlowLink(served.port) as link:
        url = f"http://127.0.0.1:{link.port}"
        with tab(browser, url, expected="ERR_") as page:
            page.set_default_timeout(SECONDS)
            page.goto(f"{url}/?experiment=resnet20-fashion&spec={FULL}")
            expect(block(page, 5)).to_be_visible(timeout=SECONDS)
            done(page)
            assert block(page, 5).evaluate(PRESS) < 200, "the picture does not wait for the link"
            expect(page.get_by_text(re.compile(r"^1 of 9 blocks is gone\."))).to_be_visible(timeout=SECONDS)
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
