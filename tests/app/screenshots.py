"""`python -m tests.app.screenshots FOLDER`: the pictures of README and docs, from the running dashboard."""

import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.app.browsing import FLAGS, PAGES, Scheme, block, chromium, dashboard, done, opened, tab

Act = Callable[[Page, str], None]


def broken(page: Page, url: str) -> None:
    """Open Break it and leave one block per stage."""
    opened(page, url)
    page.get_by_role("button", name="One per stage").click()
    expect(page.get_by_text(re.compile("^6 of 9 blocks are gone"))).to_be_visible()
    done(page)


def classroom(page: Page, url: str) -> None:
    """Open the teacher view and delete a block, without revealing the answer."""
    opened(page, url + "?view=class")
    block(page, 9).click()
    expect(page.get_by_text("hidden until revealed").first).to_be_visible()


def lesson(page: Page, url: str) -> None:
    """Do the third step of the lesson."""
    opened(page, url)
    page.get_by_role("button", name="Lesson in five steps").click()
    for _ in range(2):
        page.get_by_role("button", name="Next").click()
    page.locator(".st-key-lesson_do button").click()
    done(page)


def at(path: str) -> Act:
    """Return an act that opens a page and waits for its figure."""

    def act(page: Page, url: str) -> None:
        page.goto(url.rstrip("/") + path)
        expect(page.get_by_text(re.compile("Accuracies are measured"))).to_be_visible(timeout=60_000)
        expect(page.locator(".js-plotly-plot").first).to_be_visible()
        page.wait_for_timeout(2500)

    return act


PICTURES: dict[str, tuple[Act, int, int, Scheme]] = {
    "break-it": (broken, 1280, 800, "light"),
    "break-it-dark": (broken, 1280, 800, "dark"),
    "break-it-phone": (broken, 375, 1500, "light"),
    "lesson": (lesson, 1280, 1000, "light"),
    "teacher-view": (classroom, 1280, 920, "dark"),
    "sub-networks": (at(PAGES["Sub-networks"]), 1280, 1000, "light"),
    "damage": (at(PAGES["Damage"]), 1280, 1150, "light"),
    "use-it": (at(PAGES["Use it"]), 1280, 1350, "light"),
}
"""File -> what is done before the picture, width, height, theme. `train.png` is not among them: it shows a real training."""


def main(arguments: Sequence[str]) -> int:
    """Write all pictures; return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m tests.app.screenshots FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    log = Path(tempfile.mkdtemp()) / "log"
    expect.set_options(timeout=60_000)
    with dashboard(log) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for name, (act, width, height, scheme) in PICTURES.items():
            with tab(browser, served.url, size=(width, height), scheme=scheme) as page:
                act(page, served.url + "/")
                page.mouse.move(0, 0)
                page.wait_for_timeout(500)
                page.screenshot(path=folder / f"{name}.png")
                print(folder / f"{name}.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
