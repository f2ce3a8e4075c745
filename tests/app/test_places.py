"""Where a class meets the dashboard besides a window of its own: behind a path of a proxy, in a frame, and on paper."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.app.browsing import FULL, Dashboard, Turn, block, dashboard, done, lane, opened, tab

HIDDEN_ON_PAPER = (".st-key-tools", ".st-key-settings", ".st-key-head_controls", ".st-key-languages", ".st-key-reset button")


@pytest.mark.slow
def test_on_paper_everything_is_black_on_white_and_no_control_is_left(browser: Browser, served: Dashboard) -> None:
    with tab(browser, served.url, size=(1000, 500), scheme="dark") as page:
        opened(page, f"{served.url}/?spec={FULL.replace('5', 'x5')}")
        for selector in HIDDEN_ON_PAPER:
            expect(page.locator(selector).first).to_be_visible()
        page.emulate_media(media="print")
        for selector in HIDDEN_ON_PAPER:
            expect(page.locator(selector).first).to_be_hidden()
        for shown in (block(page, 1), lane(page, "common"), page.get_by_text("Accuracies are measured")):
            expect(shown).to_be_visible()
        colours = "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
        assert page.locator(".stApp").evaluate(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
        assert lane(page, "common").locator(".accuracy").evaluate("e => getComputedStyle(e).color") == "rgb(0, 0, 0)"
        assert page.locator(".stMain").evaluate("e => getComputedStyle(e).overflowY") == "visible"  # no page is cut off


def test_figures_shrink_to_the_paper_and_are_themselves_again_afterwards(turn: Turn) -> None:
    """They were cut off at the edge of a sheet: half of the blocks were missing."""
    page = turn("/damage")
    figure = page.locator(".st-key-figure_delete-one")
    expect(figure.locator(".main-svg").first).to_be_visible(timeout=120_000)
    layer = figure.locator(".main-svg").first
    expect(page.get_by_text(re.compile("Accuracies are measured on 10,000 images"))).to_be_visible(timeout=120_000)
    size = layer.bounding_box()
    assert size is not None
    width, height = size["width"], size["height"]
    try:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        figure.locator(".plot-container").evaluate("e => { e.style.width = '600px'; }")  # the sheet
        box = layer.bounding_box()
        assert box is not None
        assert box["width"] == 600
        assert box["height"] == pytest.approx(600 * height / width, abs=1)
        assert layer.get_attribute("viewBox") == f"0 0 {width:.0f} {height:.0f}"  # all of the figure, smaller
    finally:
        page.emulate_media(media="null")
        figure.locator(".plot-container").evaluate("e => { e.style.width = '100%'; }")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert layer.get_attribute("viewBox") is None
    assert layer.bounding_box() == size


@pytest.mark.parametrize("experiment", ["resnet20-fashion", "densenet-loafing"])
def test_the_picture_of_a_network_is_whole_on_paper(turn: Turn, experiment: str) -> None:
    page = turn(f"/?experiment={experiment}&spec=main")
    expect(block(page, 1)).to_be_visible(timeout=120_000)
    inside = "e => [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight]"
    try:
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 800, "height": 500})
        assert page.locator(".net").evaluate(inside) == [0, 0]
        page.set_viewport_size({"width": 600, "height": 200})
        assert page.locator(".net").evaluate(inside) == [0, 0]
    finally:
        page.emulate_media(media="null")


@pytest.mark.slow
def test_behind_a_path(browser: Browser, tmp_path: Path) -> None:
    with dashboard(tmp_path / "log", STREAMLIT_SERVER_BASE_URL_PATH="school/class") as running:
        with tab(browser, running.url) as page:
            page.goto(f"{running.url}/?spec={FULL}")
            done(page)
            block(page, 5).click()
            expect(page).to_have_url(re.compile(r"/school/class/\?.*spec=1-2-3\.4-x5"))
            expect(page.get_by_text(re.compile("^Block 5 is gone"))).to_be_visible()
            page.get_by_role("link", name="Damage").click()
            expect(page).to_have_url(re.compile("/school/class/damage"))
            expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=120_000)


@pytest.mark.slow
def test_in_a_frame_of_a_learning_platform(browser: Browser, served: Dashboard) -> None:
    with tab(browser, served.url) as page:
        frame = (
            f"<iframe src='{served.url}/?embed=true&view=class&spec={FULL.replace('5', 'x5')}' width=1200 height=720></iframe>"
        )
        page.goto(f"{served.url}/_stcore/health")  # a page of the same address, so that nothing else is loaded
        page.set_content(frame)
        inside = page.frame_locator("iframe")
        expect(inside.get_by_role("button", name="Reveal")).to_be_visible(timeout=120_000)
        inside.get_by_role("button", name="Reveal").click()
        expect(inside.locator(".lane .accuracy").first).to_have_text(re.compile(r"^\d+\.\d %$"))
