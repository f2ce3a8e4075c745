"""All pages in a browser: accessible, usable on a phone, shareable; figures, downloads and uploads work."""

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image
from playwright.sync_api import Browser, Error, Locator, Page, expect

from stimcore.bundle import open_bundle
from tests.app.browsing import PAGES, ROOT, Dashboard, SharedTab, Turn, at_rest, block, code, done, drawn, tab, violations
from tests.heavy import all_slow_but

EXPERIMENT = ROOT / "exported" / "resnet20-fashion"

SMALL_TARGETS = """() => {
  const all = (root) => [...root.querySelectorAll('*')].flatMap((e) => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
  const wanted = '.stButton button, .stDownloadButton button, .net button';
  const targets = all(document.querySelector('.stMain')).filter((e) => e.matches(wanted));
  const boxes = targets.map((e) => [e.innerText, e.getBoundingClientRect()]).filter(([, box]) => box.width);
  const small = boxes.filter(([, box]) => box.height < 43.5 || box.width < 43.5);
  return small.map(([text, box]) => `${text} ${box.width}x${box.height}`);
}"""

FOCUSED = """() => {
  let e = document.activeElement;
  while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
  const { outlineStyle, boxShadow } = getComputedStyle(e);
  return [e.tagName, e.getAttribute('aria-label') ?? e.innerText, outlineStyle !== 'none' || boxShadow !== 'none'];
}"""
"""Kind and name of the element that has the keyboard, and whether it has a ring; fields have a coloured border instead."""


def ready(turn: Turn, name: str, query: str = "") -> Page:
    """Turn a tab to a page, wait for what the page draws last, and return it."""
    page = turn(PAGES[name] + (query or "?spec=main" if name == "Break it" else query))  # without a spec, blocks are gone
    expect(page.get_by_text(re.compile("Accuracies are measured on 10,000 images"))).to_be_visible(timeout=120_000)
    if name == "Break it":
        block(page, 9).click()
        done(page)
        expect(block(page, 9)).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".wall .count")).to_have_count(2)
    else:
        expect(page.locator(".js-plotly-plot").first).to_be_visible()
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    return page


@pytest.fixture(scope="module")
def turn_in_the_dark(browser: Browser, served: Dashboard, request: pytest.FixtureRequest) -> Iterator[Turn]:
    """Turns a tab to an address in which pages are dark."""
    with tab(browser, served.url, scheme="dark") as page:
        yield SharedTab(page, served.url, request.session).turn


def check_colours_and_sizes(page: Page) -> None:
    """Check a page against WCAG 2.2 A and AA, then its width and its buttons on a phone."""
    assert violations(page) == []
    page.set_viewport_size({"width": 375, "height": 720})
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    small = page.evaluate(SMALL_TARGETS)
    assert small == []


@pytest.mark.parametrize("name", all_slow_but(PAGES, "Damage"))
def test_accessible_and_usable_on_a_phone(turn: Turn, name: str) -> None:
    check_colours_and_sizes(ready(turn, name))


@pytest.mark.parametrize("name", all_slow_but(PAGES, "Break it"))
def test_accessible_and_usable_on_a_phone_in_the_dark(turn_in_the_dark: Turn, name: str) -> None:
    check_colours_and_sizes(ready(turn_in_the_dark, name))


def check_lesson_and_teacher_view(turn: Turn, url: str) -> None:
    """Check both against WCAG 2.2 A and AA."""
    page = turn("/?spec=main")
    drawn(page)
    page.get_by_role("button", name="Lesson in five steps").click()
    expect(page.get_by_role("heading", name=re.compile("^1 of 5"))).to_be_visible()
    assert violations(page) == []
    page.goto(f"{url}/?view=class&spec=1-2-3.4-x5-6.7-8-9")
    expect(page.get_by_text("hidden until revealed").first).to_be_visible()
    assert violations(page) == []


def test_the_keyboard_shows_where_it_is(turn: Turn) -> None:
    """A pale grey alone marked the links to pages, and nothing the one of the open page."""
    page = ready(turn, "Use it")
    ringed = {}
    for _ in range(60):  # more than there are: after the last one the first one follows
        page.keyboard.press("Tab")
        kind, name, ring = page.evaluate(FOCUSED)
        if kind in ("A", "BUTTON"):
            ringed[name] = ring
    assert {*PAGES, "Teacher view", "Fullscreen: The image as the networks see it"} <= set(ringed)
    assert [name for name, ring in ringed.items() if not ring] == []


@pytest.mark.slow
def test_lesson_and_teacher_view_are_accessible(turn: Turn, served: Dashboard) -> None:
    check_lesson_and_teacher_view(turn, served.url)


@pytest.mark.slow
def test_lesson_and_teacher_view_are_accessible_in_the_dark(turn_in_the_dark: Turn, served: Dashboard) -> None:
    check_lesson_and_teacher_view(turn_in_the_dark, served.url)


@pytest.mark.slow
def test_a_variant_of_ours_has_no_numbers_of_the_paper_and_gaps_add_up(turn: Turn, served: Dashboard) -> None:
    page = turn("/subnetworks")  # loaded: streamlit forgets the methods of an address that another page is turned to
    page.goto(f"{served.url}/subnetworks?experiment=resnet20-fashion&methods=Common+training&methods=Stimulative,+any+block")
    ours = page.get_by_role("row", name=re.compile("Stimulative, any block.*%")).first
    expect(ours.get_by_role("cell").last).to_have_text("–")
    expect(page.get_by_role("row", name=re.compile("Common training.*%")).first).to_contain_text("77.39 %")
    gap = page.get_by_role("row", name=re.compile("^d1-1-1")).first
    expect(gap).to_contain_text("over 3 seeds")
    numbers = re.search(r"([0-9.]+) %\s+([0-9.]+) %, gap \+([0-9.]+)", gap.inner_text())
    assert numbers is not None, gap.inner_text()
    alone, inside, points = map(float, numbers.groups())
    assert abs(alone - inside - points) < 0.15, "each is rounded to a tenth"


def test_pages_keep_the_state_and_links_reproduce_it(turn: Turn, served: Dashboard, browser: Browser) -> None:
    page = turn("/?spec=1-2-x3.4-5-6.7-8-9")
    drawn(page)
    for name in ("Sub-networks", "Damage", "Train", "Use it", "Break it"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).not_to_have_text("")
        expect(page.get_by_text(re.compile("Accuracies are measured"))).to_be_visible()
    expect(code(page)).to_have_value("1-2-x3.4-5-6.7-8-9")
    with tab(browser, served.url) as other:
        other.goto(served.url + "/subnetworks?subnet=d2-3-1&view=class")
        expect(other.get_by_role("combobox", name="Sub-network")).to_have_value("d2-3-1")
        expect(other.get_by_role("button", name="Leave teacher view")).to_be_visible()
        other.get_by_role("link", name="Damage", exact=True).click()
        expect(other).to_have_url(re.compile("view=class"))


@pytest.mark.parametrize(
    ("experiment", "number"), [("resnet20-fashion", 27), pytest.param("mobilenetv3-fashion", 144, marks=pytest.mark.slow)]
)
def test_all_sub_networks_are_drawn_and_saved(turn: Turn, experiment: str, number: int) -> None:
    page = ready(turn, "Sub-networks", f"?experiment={experiment}")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Numbers (CSV)").first.click()
    rows = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8"))))
    for label, method in (("Common training", "common"), ("Stimulative training", "stimulative")):
        stored = json.loads((ROOT / "exported" / experiment / method / "sweep-ordered.json").read_text(encoding="utf-8"))
        drawn = [float(r["accuracy in %"]) for r in rows if r["series"] == label]
        assert len(drawn) == number
        assert np.mean(drawn) == pytest.approx(np.mean([r["accuracy_pct"] for r in stored["results"]]))


def chosen(page: Page, bar: Locator, block: str) -> None:
    """Click a bar until the page speaks of its block: a page that runs again draws its figure anew, below the pointer too.

    The figure itself says the same of the bar below the pointer, chosen or not: only the page's own text and list count.
    """
    shown = page.get_by_test_id("stMarkdown").get_by_text(f"without block {block}: ").first
    for _ in range(10):
        at_rest(page)
        with contextlib.suppress(Error, AssertionError):
            bar.click(force=True)
            expect(shown).to_be_visible(timeout=10_000)
            break
    expect(shown).to_be_visible()
    expect(page.get_by_role("combobox", name="Block")).to_have_value(block)


def test_a_point_and_a_bar_choose_and_so_does_the_keyboard(turn: Turn) -> None:
    page = ready(turn, "Damage")
    bars = page.locator(".st-key-figure_delete-one .bars .point path")
    chosen(page, bars.nth(0), "2")
    chosen(page, page.locator(".st-key-figure_delete-one .x2y2 .bars .point path").last, "1")  # apart
    box = page.get_by_role("combobox", name="Block")
    box.click()
    box.fill("5")
    box.press("Enter")
    expect(page.get_by_test_id("stMarkdown").get_by_text("without block 5: ").first).to_be_visible()
    page.get_by_role("button", name="Open in Break it").click()
    expect(code(page)).to_have_value("1-2-3.4-x5-6.7-8-9")


def test_first_blocks_count_only_on_request(turn: Turn) -> None:
    page = ready(turn, "Damage")
    experiment = ROOT / "exported" / "resnet20-fashion"

    def medians(file: str) -> dict[str, float]:
        with page.expect_download() as waiting:
            page.locator(f".st-key-csv_{file} button").click()
        rows = csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text(encoding="utf-8")))
        return {row["series"]: float(row["points lost"]) for row in rows if row["permuting operations (swaps)"] == "1"}

    for also_first in (False, True):
        for label, method in (("Common training", "common"), ("Stimulative training", "stimulative")):
            stored = json.loads((experiment / method / "sweep-permute.json").read_text(encoding="utf-8"))["results"]
            swaps = {"1-3-2.4-5-6.7-8-9", "1-2-3.4-6-5.7-8-9", "1-2-3.4-5-6.7-9-8"}
            if also_first:
                swaps |= {"2-1-3.4-5-6.7-8-9", "3-2-1.4-5-6.7-8-9"}
            expected = np.median([result["drop_pct"] for result in stored if result["spec"] in swaps])
            assert medians("permute-many")[label] == pytest.approx(expected)
        if not also_first:
            page.get_by_text("also the first blocks").click()
            expect(page).to_have_url(re.compile("first_blocks=true"))
            page.wait_for_timeout(1500)


@pytest.mark.slow
def test_downloaded_network_is_as_good_as_the_page_says(turn: Turn, tmp_path: Path) -> None:
    page = ready(turn, "Use it")
    sentence = page.get_by_text(re.compile(r"right at .* multiply-adds|right at .* ms per image")).inner_text()
    with page.expect_download(timeout=120_000) as waiting:
        page.get_by_role("button", name="Download ONNX").click()
    path = tmp_path / "net.onnx"
    waiting.value.save_as(path)
    experiment = open_bundle(EXPERIMENT / "common", verify=False).experiment
    images, labels = experiment.evaluation
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": experiment.normalise(images[:2000])})
    assert abs(100 * float((logits.argmax(1) == labels[:2000]).mean()) - float(sentence.split(" %")[0])) < 2.5


@pytest.mark.slow
def test_own_image_good_corrupt_and_too_large(turn: Turn, tmp_path: Path) -> None:
    page = ready(turn, "Use it")
    chooser = page.locator("input[type=file]")
    Image.new("RGB", (300, 200), "white").save(tmp_path / "good.png")
    chooser.set_input_files(tmp_path / "good.png")
    expect(page.get_by_text("sub-networks agree").first).to_be_visible()
    # a picture that has to be fetched is gone from the server as soon as the next one takes its place
    for alt in ("The image as the networks see it", re.compile("test image")):
        expect(page.get_by_alt_text(alt).first).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    page.get_by_role("button", name=re.compile("^(Remove|Delete) ")).first.click()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    chooser.set_input_files(tmp_path / "bad.png")
    expect(page.get_by_text("The image can't be read; allowed: PNG or JPEG")).to_be_visible()
    page.get_by_role("button", name=re.compile("^(Remove|Delete) ")).first.click()
    (tmp_path / "large.png").write_bytes(bytes(2_500_000))
    chooser.set_input_files(tmp_path / "large.png")
    expect(page.get_by_text(re.compile("exceeds|must be|too large|2 ?MB or smaller", re.I)).first).to_be_visible()


@pytest.mark.slow
def test_theory_panel_holds_its_numbers(turn: Turn) -> None:
    page = ready(turn, "Sub-networks")
    page.get_by_text("What the theory promises").click()
    expect(page.get_by_text("measured gap").first).to_be_visible()
    expect(page.get_by_text("All in nats")).to_be_visible()
