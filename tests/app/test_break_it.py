"""The page Break it in a browser: ResNet-20 on Fashion-MNIST, the committed bundles, 10,000 images."""

import contextlib
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from stimcore.analysis.contrast import clearest, contrasts
from stimcore.bundle import open_bundle
from tests.app.browsing import FULL, ROOT, Dashboard, Turn, at_rest, block, box_of, code, done, drawn, lane, opened, tab
from tests.app.test_story import sweeps

EXPERIMENT = ROOT / "exported" / "resnet20-fashion"

WATCH = """() => {
  window.widths = [];
  window.counts = new Set();
  setInterval(() => {
    const host = [...document.querySelectorAll('*')].find((e) => e.shadowRoot?.querySelector('.lanes'));
    const band = host?.shadowRoot.querySelector('.band');
    if (band && !band.hidden) window.widths.push(parseFloat(band.style.width));
    const text = document.body.innerText.match(/([\\d,]+) of 10,000 images/);
    if (text) window.counts.add(text[1]);
  }, 25);
}"""


def accuracy(page: Page, method: str) -> float:
    """Return the accuracy of a lane, in percent."""
    text = lane(page, method).locator(".accuracy").inner_text()
    return float(text.removesuffix(" %"))


@pytest.fixture
def whole(turn: Turn) -> Page:
    """The page with the whole network, in the tab that tests share."""
    page = turn(f"/?spec={FULL}")
    expect(code(page)).to_have_value(FULL)
    drawn(page)
    block(page, 1).press("Home")  # the block that the key Tab comes to: the picture remembers which one had the focus last
    block(page, 1).blur()
    return page


def test_opens_with_both_methods_whole(whole: Page) -> None:
    page = whole
    expect(page.locator(".axis .legend")).not_to_contain_text("your guess", use_inner_text=True)
    for method in ("common", "stimulative"):
        expected = open_bundle(EXPERIMENT / method, verify=False).main
        assert accuracy(page, method) == round(expected.accuracy_pct, 1)
        expect(lane(page, method).locator(".drop")).to_have_text("the full network")
    expect(page.get_by_text("10,000 images").first).to_be_visible()


def test_opens_on_the_clearest_contrast(page: Page, served: Dashboard) -> None:
    page.goto(served.url)
    done(page)
    bundles = [open_bundle(EXPERIMENT / method, verify=False) for method in ("common", "stimulative")]
    states = contrasts(bundles[0].topology, *map(sweeps, bundles))
    clear = clearest(states, bundles[0].topology.num_blocks)
    assert clear is not None
    expect(page.get_by_text(re.compile(rf"^{clear.num_gone} of 9 blocks are gone\."))).to_be_visible()
    for method, bundle in zip(("common", "stimulative"), bundles, strict=True):
        stored = next(r for sweep in sweeps(bundle) for r in sweep.results if r.spec == clear.spec)
        assert accuracy(page, method) == round(stored.accuracy_pct, 1)
    assert "spec=" not in page.url
    page.get_by_role("button", name="Put everything back").click()
    expect(page.get_by_text(re.compile(r"^Nothing is gone yet\."))).to_be_visible()
    expect(page).to_have_url(re.compile(f"spec={FULL}"))  # a link to the whole network shows the whole network
    expect(page.get_by_role("button", name="Put everything back")).to_be_disabled()
    page.reload()
    done(page)
    expect(code(page)).to_have_value(FULL)
    page.get_by_role("button", name="Undo").wait_for()


def test_delete_undo_back_and_share(whole: Page, served: Dashboard, browser: Browser) -> None:
    page = whole
    block(page, 5).click()
    expect(block(page, 5)).to_have_attribute("aria-pressed", "true")
    expect(code(page)).to_have_value(FULL.replace("5", "x5"))
    expect(page).to_have_url(re.compile("spec=1-2-3.4-x5-6.7-8-9"))
    for method in ("common", "stimulative"):
        expect(lane(page, method).locator(".drop")).to_have_text(
            re.compile(r"^(loses|gains) \d+\.\d points \(-?\d+\.\d to \d+\.\d\)$"), timeout=120_000
        )
    done(page)
    with tab(browser, served.url) as other:
        opened(other, page.url)
        expect(code(other)).to_have_value(FULL.replace("5", "x5"))
        assert [accuracy(other, m) for m in ("common", "stimulative")] == [accuracy(page, m) for m in ("common", "stimulative")]
        block(other, 8).click()
        expect(code(other)).to_have_value(FULL.replace("5", "x5").replace("8", "x8"))
    expect(code(page)).to_have_value(FULL.replace("5", "x5"))  # two visitors do not meet
    page.get_by_role("button", name="Undo").click()
    expect(code(page)).to_have_value(FULL)
    page.go_back()
    expect(code(page)).to_have_value(FULL.replace("5", "x5"))
    page.get_by_role("button", name="Put everything back").click()
    expect(code(page)).to_have_value(FULL)


def leave_by_back(page: Page, title: str) -> None:
    """Go back from a page of another title; Streamlit loses a Back that comes while it computes, and stays where it is."""
    for _ in range(3):
        page.go_back()
        with contextlib.suppress(AssertionError):
            expect(page.get_by_role("heading", name=title, level=1)).to_have_count(0, timeout=30_000)
            return


def test_back_and_forward_lead_to_the_network_that_was_left(turn: Turn) -> None:
    page = turn("/")
    opening, edit = code(page).input_value(), re.compile(f"spec={FULL.replace('9', 'x9')}")
    page.get_by_role("button", name="Put everything back").click()
    expect(code(page)).to_have_value(FULL)
    drawn(page)
    block(page, 9).click()
    expect(page).to_have_url(edit)
    page.get_by_role("link", name="Damage", exact=True).click()
    expect(page.get_by_role("heading", name="Damage", level=1)).to_be_visible()
    at_rest(page)
    for _ in range(2):
        leave_by_back(page, "Damage")
        expect(code(page)).to_have_value(FULL.replace("9", "x9"))
        expect(page).to_have_url(edit)
        at_rest(page)
        page.go_forward()
        expect(page.get_by_role("heading", name="Damage", level=1)).to_be_visible()
        at_rest(page)
    leave_by_back(page, "Damage")
    left = FULL.replace("9", "x9")
    bare, whole = re.compile("^(?!.*spec=)"), re.compile(f"spec={FULL}(&|$)")
    for text, address in ((left, edit), (left, edit), (FULL, whole), (opening, bare)):
        expect(code(page)).to_have_value(text)
        expect(page).to_have_url(address)  # two entries show the same network
        page.wait_for_timeout(500)  # Streamlit has read the address by then, and is not at rest any more
        at_rest(page)
        if text != opening:
            page.go_back()
    assert "spec=" not in page.url  # a bare address on the same page is the story


def test_another_experiment_opens_on_its_own_story(whole: Page) -> None:
    """After every kind of edit: the code of the old network must not stay in the field, nor in the address."""
    page, experiment = whole, whole.get_by_role("combobox", name="Experiment")
    for name, edit in (
        ("mobilenetv3-fashion", block(page, 5)),
        ("vit-tiny-fashion", page.get_by_role("button", name=PRESET).first),
        ("resnet20-fashion", page.get_by_role("button", name="One per stage")),
    ):
        edit.click()
        expect(page).to_have_url(re.compile("spec="))
        before = code(page).input_value()
        experiment.click()
        experiment.fill(name)
        experiment.press("Enter")
        expect(code(page)).not_to_have_value(before)
        expect(page).not_to_have_url(re.compile("spec="))
        expect(page.get_by_text(re.compile(r"^\d of \d+ blocks are gone\."))).to_be_visible()
        expect(page.get_by_test_id("stAlert")).to_have_count(0)
        expect(page.get_by_role("button", name="Undo")).to_be_disabled()


def test_locked_block_says_why(whole: Page) -> None:
    page = whole
    block(page, 4).click(force=True)
    expect(page.locator(".hint")).to_have_text(re.compile("^Block 4 can't be deleted or moved: .*skip path"))
    expect(code(page)).to_have_value(FULL)


def test_drag_and_keyboard(whole: Page) -> None:
    page = whole
    start, end = box_of(block(page, 3)), box_of(block(page, 1))
    page.mouse.move(start["x"] + 20, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(end["x"] - 60, end["y"] + 20, steps=8)  # past the end of the stage: it stops there
    page.mouse.up()
    expect(code(page)).to_have_value("3-1-2.4-5-6.7-8-9")
    block(page, 3).focus()
    page.keyboard.press("Alt+ArrowRight")
    expect(code(page)).to_have_value("1-3-2.4-5-6.7-8-9")
    expect(block(page, 3)).to_be_focused()
    page.keyboard.press("Enter")
    expect(code(page)).to_have_value("1-x3-2.4-5-6.7-8-9")
    page.keyboard.press("ArrowRight")
    expect(block(page, 2)).to_be_focused()
    page.keyboard.press("Control+z")
    expect(code(page)).to_have_value("1-3-2.4-5-6.7-8-9")
    block(page, 5).focus()
    page.keyboard.press("Alt+ArrowLeft")  # past the locked block 4: nothing moves
    expect(code(page)).to_have_value("1-3-2.4-5-6.7-8-9")
    block(page, 4).focus()
    page.keyboard.press("Enter")
    expect(page.locator(".hint")).to_have_text(re.compile("^Block 4 can't be deleted"))
    start = box_of(block(page, 4))
    page.mouse.move(start["x"] + 20, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(start["x"] + 200, start["y"] + 20, steps=6)  # a locked block can't be dragged either
    page.mouse.up()
    page.wait_for_timeout(500)
    expect(code(page)).to_have_value("1-3-2.4-5-6.7-8-9")


def test_an_answer_does_not_end_a_drag_or_a_click(whole: Page) -> None:
    """An answer to the edit before arrives while the next block is held down."""
    page = whole
    start, end = box_of(block(page, 3)), box_of(block(page, 1))
    block(page, 5).click()
    page.mouse.move(start["x"] + 20, start["y"] + 20)
    page.mouse.down()
    page.mouse.move(start["x"] - 20, start["y"] + 20, steps=4)
    expect(code(page)).to_have_value(FULL.replace("5", "x5"))
    at_rest(page)
    page.mouse.move(end["x"] + 20, end["y"] + 20, steps=4)
    page.mouse.up()
    expect(code(page)).to_have_value("3-1-2.4-x5-6.7-8-9")
    block(page, 5).click()
    start = box_of(block(page, 2))
    page.mouse.move(start["x"] + 20, start["y"] + 20)
    page.mouse.down()
    expect(code(page)).to_have_value("3-1-2.4-5-6.7-8-9")
    at_rest(page)
    page.mouse.up()
    expect(code(page)).to_have_value("3-1-x2.4-5-6.7-8-9")


PRESET = re.compile(r"^Delete block \d+$")
"""The block that the page offers to delete: the one with the clearest contrast in the stored sweeps."""


def test_tab_reaches_the_network_and_leaves_it(whole: Page) -> None:
    page = whole
    page.get_by_role("button", name=PRESET).first.focus()
    page.keyboard.press("Shift+Tab")
    expect(block(page, 1)).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(code(page)).to_have_value(FULL.replace("2", "x2"))
    expect(block(page, 2)).to_be_focused()
    page.keyboard.press("Tab")
    expect(block(page, 2)).not_to_be_focused()
    assert not page.locator(".net button:focus").count()


NARROWED = "window.widths.length > 1 && Math.max(...window.widths) > 1.3 * window.widths[window.widths.length - 1]"
"""Whether the band of an interval has become narrower while images were counted."""


@pytest.mark.slow
def test_measures_here_and_narrows_and_stops(turn: Turn) -> None:
    page = turn("/?spec=x1-2-3.4-5-6.7-8-9")  # nothing before the edit is left, so that it takes longest
    drawn(page)
    page.evaluate(WATCH)
    page.get_by_role("button", name="Measure here now").click()
    page.wait_for_function(f"window.counts.size >= 2 && {NARROWED}", timeout=120_000)
    page.get_by_role("main").get_by_role("button", name="Stop").click()
    expect(page.get_by_text(re.compile("^Stopped"))).to_be_visible()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()


def test_a_measurement_ends_with_all_images(turn: Turn) -> None:
    page = turn("/?experiment=small&spec=1-2-x3.4-5-6.7-8-9")
    drawn(page)
    page.get_by_role("button", name="Measure here now").click()
    expect(page.get_by_text(re.compile("^Done: measured here on 400 images"))).to_be_visible(timeout=120_000)


@pytest.mark.slow
def test_ten_thousand_images_are_measured_to_the_end(page: Page, served: Dashboard) -> None:
    opened(page, f"{served.url}/?spec=1-2-x3.4-5-6.7-8-9")
    page.evaluate(WATCH)
    page.get_by_role("button", name="Measure here now").click()
    expect(page.get_by_text(re.compile("^Done: measured here on 10,000 images"))).to_be_visible(timeout=300_000)
    assert len(page.evaluate("[...window.counts]")) >= 2
    assert page.evaluate(NARROWED)


def test_change_while_measuring_never_shows_the_old_number(turn: Turn) -> None:
    page = turn("/?spec=x1-2-3.4-5-6.7-8-x9")
    drawn(page)
    page.get_by_role("button", name="Measure here now").click()
    # Streamlit has a button of this name in its head while the script runs
    expect(page.get_by_role("main").get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("button", name="One per stage").click()
    expect(page.get_by_text(re.compile(r"^6 of 9 blocks are gone\. Common training: \d+ of 100 pictures right"))).to_be_visible(
        timeout=120_000
    )
    done(page)
    assert accuracy(page, "common") < 60 < accuracy(page, "stimulative")


def test_addresses_without_a_network_get_a_sentence(turn: Turn) -> None:
    for text in ("1-2", "9-8-7", "1-2-3.4-5-6.7-8-9."):  # test_addresses.py has the hostile ones
        page = turn(f"/?spec={text}")
        expect(code(page)).to_have_value(text)
        expect(page.get_by_text("Showing the full network.")).to_be_visible()
        expect(block(page, 5)).to_have_attribute("aria-pressed", "false")


def test_guess_then_reveal(page: Page, served: Dashboard) -> None:
    opened(page, f"{served.url}/?view=class")
    expect(page.get_by_text("Accuracies are measured")).to_have_count(0)
    first = code(page).input_value()
    block(page, 9).click()
    expect(code(page)).to_have_value(first.replace("x9", "9") if "x9" in first else first.replace("9", "x9"))
    page.wait_for_timeout(1000)  # the answers of the state before are hidden too: until this one's button is there
    expect(page.get_by_text("hidden until revealed").first).to_be_visible()
    expect(page.locator(".accuracy").first).to_have_text("?")
    page.get_by_role("slider").first.press("ArrowLeft")
    page.get_by_role("button", name="Reveal").click()
    expect(page.locator(".accuracy").first).to_have_text(re.compile(r"^\d+\.\d %$"), timeout=120_000)
    expect(page.locator(".guess").first).to_be_visible()
    expect(page.locator(".guess").last).to_be_hidden()  # nobody moved that slider
    expect(page.locator(".axis .legend")).to_contain_text("your guess")


def test_lesson_drives_the_controls(whole: Page) -> None:
    page = whole
    page.get_by_role("button", name="Lesson in five steps").click()
    expect(page.get_by_role("heading", name="1 of 5: A team of blocks")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    preset = page.get_by_test_id("stVerticalBlock").get_by_role("button", name=PRESET).last
    number = preset.inner_text().rpartition(" ")[2]
    preset.click()
    expect(code(page)).to_have_value(FULL.replace(number, f"x{number}"))
    for step in (3, 4, 5):
        page.get_by_role("button", name="Next").click()
        expect(page.get_by_role("heading", name=re.compile(f"^{step} of 5"))).to_be_visible()
    page.get_by_text("Parts of a network that do worse inside it").click()
    expect(page.get_by_text(re.compile("^Right"))).to_be_visible()
    page.get_by_role("button", name="Close the lesson").click()
    expect(page.get_by_role("heading", name=re.compile("of 5"))).to_have_count(0)
