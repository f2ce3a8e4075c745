"""The picture wall of Break it in a browser: the same 24 pictures per method, their answers, and when they are hidden."""

import base64
import re

import pytest
from playwright.sync_api import Page, expect

from stimcore.bundle import open_bundle
from stimcore.bundle.wall import DIFFERENT_IMAGES, WALL_IMAGES
from stimcore.engine.engine import Engine
from stimcore.serve.image_codec import encode_png
from tests.app.browsing import FULL, ROOT, Dashboard, Turn, block, code, done, drawn, opened

EXPORTED = ROOT / "exported"
SEARCHED = 10_000
"""Evaluation images among which the pictures of the wall are looked for."""
GROUPS = """() => {
  const host = [...document.querySelectorAll('*')].find((e) => e.shadowRoot?.querySelector('.wall .count'));
  return [...host.shadowRoot.querySelectorAll('.group')].map((group) => ({
    count: group.querySelector('.count').textContent,
    wrong: [...group.querySelectorAll('button')].map((button) => button.classList.contains('wrong')),
    answers: [...group.querySelectorAll('button')].map((button) => button.ariaLabel),
    pictures: [...group.querySelectorAll('img')].map((image) => image.src),
  }));
}"""


def answered(page: Page) -> None:
    """Wait until every method has answered."""
    expect(page.locator(".wall .count")).to_have_text([re.compile(r"^\d+ of 24 right$")] * 2, timeout=150_000)


@pytest.mark.parametrize("experiment", ["resnet20-fashion", pytest.param("mobilenetv3-fashion", marks=pytest.mark.slow)])
def test_the_story_shows_pictures_that_only_one_method_gets_right(page: Page, served: Dashboard, experiment: str) -> None:
    page.goto(f"{served.url}/?experiment={experiment}")
    done(page)
    answered(page)
    first, second = page.evaluate(GROUPS)
    assert len(first["pictures"]) == WALL_IMAGES
    assert first["pictures"] == second["pictures"]
    for group in (first, second):
        assert group["count"] == f"{group['wrong'].count(False)} of {WALL_IMAGES} right"
    assert sum(a != b for a, b in zip(first["answers"], second["answers"], strict=True)) >= DIFFERENT_IMAGES
    page.reload()
    answered(page)
    assert page.evaluate(GROUPS) == [first, second]


def test_answers_are_those_of_the_networks(turn: Turn) -> None:
    page = turn("/?experiment=resnet20-fashion&spec=d1-1-1")
    expect(code(page)).to_have_value("d1-1-1")
    answered(page)
    groups = page.evaluate(GROUPS)
    for method, group in zip(("common", "stimulative"), groups, strict=True):
        bundle = open_bundle(EXPORTED / "resnet20-fashion" / method, verify=False)
        images, labels = bundle.experiment.evaluation
        pngs = [base64.b64encode(encode_png(image)).decode() for image in images[:SEARCHED]]
        shown = {src.removeprefix("data:image/png;base64,"): place for place, src in enumerate(group["pictures"])}
        on_wall = [(index, shown[png]) for index, png in enumerate(pngs) if png in shown]
        assert on_wall
        pixels = bundle.experiment.normalise(images[[index for index, _ in on_wall]])
        answers = Engine(bundle, device="cpu", threads=1).logits(bundle.topology.parse("d1-1-1"), pixels).argmax(1)
        for answer, (index, place) in zip(answers, on_wall, strict=True):
            assert group["wrong"][place] == (answer != labels[index])


def test_a_picture_says_what_each_method_answers(turn: Turn) -> None:
    page = turn("/?experiment=resnet20-fashion&spec=d1-1-1")
    answered(page)
    says = page.locator(".says")
    expect(says).to_have_text(re.compile("^Point at a picture"))
    pattern = re.compile(r"^This is: .+\. Common training: .+, \d+ % sure\. Stimulative training: .+, \d+ % sure\.$")
    pictures = page.locator(".wall .group").first.get_by_role("button")
    pictures.nth(3).hover()
    expect(says).to_have_text(pattern)
    before = says.inner_text()
    pictures.first.focus()
    page.keyboard.press("ArrowRight")
    expect(pictures.nth(1)).to_be_focused()
    expect(says).to_have_text(pattern)
    assert says.inner_text() != before


def test_hidden_while_answers_are_covered_or_the_lesson_is_open(turn: Turn) -> None:
    page = turn(f"/?spec={FULL}")
    expect(code(page)).to_have_value(FULL)
    drawn(page)
    answered(page)
    page.get_by_role("button", name="Lesson in five steps").click()
    expect(page.locator(".wall .group")).to_have_count(0)
    page.get_by_role("button", name="Close the lesson").click()
    answered(page)
    page.get_by_text("Guess first", exact=True).click()
    block(page, 5).click()
    expect(page.get_by_role("button", name="Reveal")).to_be_visible()
    expect(page.locator(".wall .group")).to_have_count(0)
    page.get_by_role("button", name="Reveal").click()
    answered(page)


@pytest.mark.slow
def test_follows_a_state_that_has_to_be_measured(page: Page, served: Dashboard) -> None:
    opened(page, f"{served.url}/?spec={FULL}")
    answered(page)
    page.goto(f"{served.url}/?spec=1-3-2.4-5-6.7-x8-9")
    done(page)
    answered(page)
    assert len(page.evaluate(GROUPS)) == 2
