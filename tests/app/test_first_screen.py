"""Break it on one screen: sentence, picture and answers are in sight before anyone scrolls, for every committed experiment."""

import re
from collections.abc import Mapping, Sequence

import pytest
from playwright.sync_api import Page, expect

from tests.app.browsing import ROOT, Dashboard, Turn, box_of, done

DESKTOPS = ((1280, 720), (1366, 768), (1920, 1080))
PHONES = ((375, 812), (390, 844))
EXPERIMENTS = sorted(path.parent.name for path in ROOT.glob("exported/*/experiment.json"))
SIX = "&".join(
    f"methods={name.replace(' ', '+')}"
    for name in (
        "Common training",
        "Stimulative training",
        "Layer supervision",
        "Stage supervision",
        "Self distillation",
        "Stochastic depth",
    )
)
MOST_WHOLE = 14
"""Blocks up to which the whole picture is on a desktop's screen without scrolling; longer ones scroll inside their box."""

BOXES = """() => {
  const all = (root) => [...root.querySelectorAll('*')].flatMap((e) => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
  const elements = all(document.querySelector('.stMain'));
  const box = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const parts = {sentence: '.st-key-sentence .stMarkdown', picture: '.net', block: '.net button', end: '.net .end',
    lane: '.lane', number: '.lane .accuracy', drop: '.lane .drop'};
  const visible = (e) => e.getBoundingClientRect().width > 0;
  const boxes = (css) => elements.filter((e) => e.matches(css) && visible(e)).map(box);
  return Object.fromEntries(Object.entries(parts).map(([name, css]) => [name, boxes(css)]));
}"""
"""Left, top, right and bottom of the parts that a visitor has to see, in CSS pixels of the window."""

Box = Sequence[float]


def screens(sizes: Sequence[tuple[int, int]]) -> list[object]:
    """Return experiment, width and height; all but one experiment on the smallest screen are slow."""
    return [
        pytest.param(name, *size, marks=() if size == sizes[0] and name == "resnet20-fashion" else pytest.mark.slow)
        for name in EXPERIMENTS
        for size in sizes
    ]


def first_screen(turn: Turn, address: str, width: int, height: int) -> Page:
    """Turn the tab to an address in a window of a size, as a visitor sees it who has not scrolled yet; return it."""
    page = turn(address)
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("document.querySelector('.stMain').scrollTop = 0")
    return page


def boxes(page: Page) -> Mapping[str, Sequence[Box]]:
    """Return the boxes of all parts once the page has settled."""
    expect(page.locator(".lane").first).to_be_visible(timeout=120_000)
    if "view=class" not in page.url:
        done(page)
    page.wait_for_timeout(400)
    measured: Mapping[str, Sequence[Box]] = page.evaluate(BOXES)
    return measured


def outside(parts: Mapping[str, Sequence[Box]], names: Sequence[str], width: int, height: int) -> list[tuple[str, Box]]:
    """Return the boxes that are not wholly inside the window."""
    return [
        (name, box)
        for name in names
        for box in parts[name]
        if box[0] < -0.5 or box[1] < -0.5 or box[2] > width + 0.5 or box[3] > height + 0.5
    ]


def check_desktop(page: Page, width: int, height: int, num_lanes: int | None = None) -> None:
    """Check that sentence, whole picture and all lanes are on the screen."""
    parts = boxes(page)
    assert len(parts["sentence"]) == 1
    assert len(parts["picture"]) == 1
    assert len(parts["lane"]) == len(parts["number"]) >= 1
    assert num_lanes in (None, len(parts["lane"]))
    names = ["sentence", "picture", "lane", "number", "drop"]
    if len(parts["block"]) <= MOST_WHOLE:
        assert len(parts["end"]) == 2
        right = max(box[2] for box in parts["picture"])
        assert all(box[2] <= right for box in (*parts["block"], *parts["end"]))
        names += ["block", "end"]
    assert outside(parts, names, width, height) == []
    assert max(box[3] for box in parts["sentence"]) <= min(box[1] for box in parts["picture"])
    assert max(box[3] for box in parts["picture"]) <= min(box[1] for box in parts["lane"])


@pytest.mark.parametrize(("experiment", "width", "height"), screens(DESKTOPS))
def test_a_desktop_shows_the_finding(turn: Turn, served: Dashboard, experiment: str, width: int, height: int) -> None:
    page = first_screen(turn, f"/?experiment={experiment}", width, height)
    check_desktop(page, width, height)
    button = page.get_by_role("button", name="Lesson in five steps")
    if button.count():
        button.click()
        expect(page.get_by_role("heading", name=re.compile("^1 of 5"))).to_be_visible()
        check_desktop(page, width, height, 2)
        for step in range(2, 6):
            page.get_by_role("button", name="Next").click()
            expect(page.get_by_role("heading", name=re.compile(f"^{step} of 5"))).to_be_visible()
            check_desktop(page, width, height, 2)
    page.goto(f"{served.url}/?experiment={experiment}&view=class")
    expect(page.get_by_role("button", name="Reveal")).to_be_visible()
    check_desktop(page, width, height)
    page.get_by_role("button", name="Reveal").click()
    expect(page.get_by_role("button", name="Reveal")).to_have_count(0)
    check_desktop(page, width, height)


def test_six_methods_fit_a_small_desktop(turn: Turn) -> None:
    for view in ("", "&view=class"):
        page = first_screen(turn, f"/?experiment=resnet20-fashion&{SIX}{view}", 1366, 768)
        expect(page.locator(".lane")).to_have_count(6)
        check_desktop(page, 1366, 768, 6)
    covered = "spec=1-x2-3.4-5-6.7-8-9&view=class"  # another test may have revealed the state that the page opens on
    check_guesses(first_screen(turn, f"/?experiment=resnet20-fashion&{SIX}&{covered}&lang=de", 1280, 720), 1280, 720)
    turn("/?lang=")


def check_guesses(page: Page, width: int, height: int) -> None:
    """Check that no guess covers another one, and that the button under them is on the screen."""
    values = page.locator(".st-key-guess [data-testid=stSliderThumbValue]")
    expect(values).to_have_count(6)
    placed = [box_of(value) for value in values.all()]
    for i, one in enumerate(placed):
        for other in placed[:i]:
            beside = min(one["x"] + one["width"], other["x"] + other["width"]) <= max(one["x"], other["x"])
            below = min(one["y"] + one["height"], other["y"] + other["height"]) <= max(one["y"], other["y"])
            assert beside or below, (one, other)
    for box in (*placed, box_of(page.locator(".st-key-reveal"))):
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height


@pytest.mark.parametrize(("experiment", "width", "height"), screens(PHONES))
def test_a_phone_shows_the_finding_before_the_controls(turn: Turn, experiment: str, width: int, height: int) -> None:
    page = first_screen(turn, f"/?experiment={experiment}", width, height)
    parts = boxes(page)
    assert outside(parts, ["sentence", "picture", "lane", "number", "drop"], width, height) == []
    lowest = max(box[3] for box in parts["lane"])
    for key in ("tools", "reset", "settings", "choices", "head_controls"):
        assert box_of(page.locator(f".st-key-{key}"))["y"] >= lowest, key
