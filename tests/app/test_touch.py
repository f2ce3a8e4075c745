"""Touch, enlarged pages, and visitors who prefer reduced motion."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app.browsing import FULL, PAGES, Dashboard, at_rest, block, box_of, code, opened, tab

MOVES = """() => [...document.querySelectorAll('*')].find((e) => e.shadowRoot?.querySelector('.lanes')).shadowRoot
  .querySelector('.track i').computedStyleMap().get('transition-duration').toString()"""


def swipe(page: Page, start: tuple[float, float], way: tuple[float, float]) -> None:
    """Put a finger down at `start`, move it by `way`, and lift it; in CSS pixels."""
    session = page.context.new_cdp_session(page)
    (x, y), (dx, dy) = start, way
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 13):
        at = {"x": x + dx * step / 12, "y": y + dy * step / 12}
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [at]})
        page.wait_for_timeout(16)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def middle(page: Page, number: int) -> tuple[float, float]:
    """Return the middle of a block's button."""
    box = box_of(block(page, number))
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_finger_taps_drags_and_scrolls(browser: Browser, served: Dashboard) -> None:
    with tab(browser, served.url, size=(390, 700), has_touch=True, is_mobile=True) as page:
        opened(page, served.url)
        block(page, 5).tap()
        expect(code(page)).to_have_value(FULL.replace("5", "x5"))
        block(page, 5).tap()
        expect(code(page)).to_have_value(FULL)
        block(page, 4).tap(force=True)
        expect(page.locator(".hint")).to_have_text(re.compile("^Block 4 can't be deleted"))
        at_rest(page)  # or the answers that arrive move the page between the measure and the finger
        block(page, 1).scroll_into_view_if_needed()
        start, end = middle(page, 3), middle(page, 1)
        swipe(page, start, (end[0] - start[0] - 8, 3))
        expect(code(page)).to_have_value("3-1-2.4-5-6.7-8-9")
        start, end = middle(page, 4), middle(page, 6)
        swipe(page, start, (end[0] - start[0], 3))  # locked: it stays
        expect(block(page, 3)).to_be_visible()
        before = page.evaluate("document.querySelector('.stMain').scrollTop")
        swipe(page, middle(page, 2), (0, -250))  # up, from a block: the page scrolls and nothing is moved
        page.wait_for_function("before => document.querySelector('.stMain').scrollTop > before + 50", arg=before)
        expect(code(page)).to_have_value("3-1-2.4-5-6.7-8-9")


@pytest.mark.slow
def test_nothing_is_lost_at_twice_the_size(browser: Browser, served: Dashboard) -> None:
    """A window of 1280 x 900 at 200 % has 640 x 450 CSS pixels."""
    for name, path in PAGES.items():
        with tab(browser, served.url, size=(640, 450), device_scale_factor=2) as page:
            page.goto(served.url + path)
            expect(page.get_by_text(re.compile("Accuracies are measured"))).to_be_visible(timeout=120_000)
            if name != "Break it":
                expect(page.locator(".js-plotly-plot").first).to_be_visible()
            wide = "Math.max(document.documentElement.scrollWidth, document.querySelector('.stMain').scrollWidth) - innerWidth"
            assert page.evaluate(wide) <= 0, name


@pytest.mark.slow
def test_reduced_motion_is_respected(browser: Browser, served: Dashboard) -> None:
    for preference, expected in (("reduce", "0s"), ("no-preference", "0.3s")):
        with tab(browser, served.url, reduced_motion=preference) as page:
            opened(page, served.url)
            assert page.evaluate(MOVES) == expected
