"""The published page in a browser, opened from a static host with the network blocked outside of its folder."""

import json
import random
import re
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, Playwright, expect

from stimcore.analysis.intervals import paired_drop, wilson
from stimcore.analysis.spreads import first_blocks
from stimcore.bundle import open_bundle
from stimcore.errors import SpecError
from stimcore.methods.names import METHOD_CLASSES
from stimcore.publish.site import CATALOGUE, PAGES, Site
from stimcore.subnets.families import KINDS, family
from stimcore.subnets.topology import Topology
from stimcore.web import arrangement
from stimcore.web.words import ENGLISH, LANGUAGES, Words, words_of
from tests.app.browsing import block, lane, violations
from tests.publish.hosting import visit

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "exported" / "resnet20-fashion"


def right(page: Page, method: str) -> str:
    return lane(page, method).locator(".accuracy").inner_text()


def stored(method: str, text: str) -> str:
    bundle = open_bundle(EXPERIMENT / method, verify=False)
    spec = str(bundle.topology.parse(text))
    results = [result for kind in bundle.sweeps for result in (bundle.sweep(kind) or {})["results"]]
    return next(f"{result['accuracy_pct']:.1f} %" for result in results if result["spec"] == spec)


def test_break_it_in_a_browser(browser: Browser, url: str) -> None:
    """One visit: the story, an edit, a link, the way back, what is not stored, and the rest of the address."""
    with visit(browser, url) as page:
        expect(page.locator("h1")).to_contain_text("blocks are gone")
        assert page.locator(".status").inner_text().startswith("Done: measured on 10,000 images")
        page.get_by_role("button", name="Put everything back").click()
        expect(page.locator("h1")).to_contain_text("Nothing is gone yet.")
        block(page, 5).click()
        expect(page.locator("h1")).to_contain_text("Block 5 is gone.")
        assert f"spec={quote('1-2-3.4-x5-6.7-8-9')}" in page.url
        for method in ("common", "stimulative"):
            assert right(page, method) == stored(method, "1-2-3.4-6.7-8-9")
        page.go_back()
        expect(page.locator("h1")).to_contain_text("Nothing is gone yet.")
        # a state that is not stored, on a page without the program that runs networks
        page.get_by_label("Architecture code").fill("1-x2-3.4-6-5.7-8-9")
        page.get_by_label("Architecture code").press("Enter")
        expect(page.locator(".status")).to_contain_text("not part of this copy of the page")
        assert right(page, "common") == "…"
        page.get_by_label("Architecture code").fill("1-2-3.5-6.7-8-9")
        page.get_by_label("Architecture code").press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("Block 4 can't be deleted")
        assert page.title() == "Klasse 9 <b> {{root}}"
        check_print(page)
        assert violations(page) == []
        check_scripts(page, url)


def test_languages_and_guesses(browser: Browser, url: str) -> None:
    """A visitor with a German browser, then the teacher view in Spanish: an answer stays covered until it is revealed."""
    with visit(browser, url, locale="de-AT") as page:
        expect(page.locator("h1")).to_contain_text("von 9 Blöcken fehlen")
        assert page.locator("html").get_attribute("lang") == "de"
        assert "," in right(page, "common")
        methods = ["Common training", "Stimulative training"]
        page.goto(f"{url}?{urlencode({'methods': methods}, doseq=True)}")
        page.get_by_role("button", name=re.compile("^Block 2, ")).click()
        edited = parse_qs(urlsplit(page.url).query)["spec"]
        page.get_by_role("link", name="Français").click()
        expect(page.locator("h1")).to_contain_text("blocs sur 9 manquent")
        query = parse_qs(urlsplit(page.url).query)
        assert (query["spec"], query["methods"]) == (edited, methods)  # what was edited and chosen stays
        assert "lang=fr" in page.url
        assert violations(page) == []
        page.get_by_role("link", name="Dégâts").click()
        expect(page.locator("h1")).to_have_text("Dégâts")
        page.goto(f"{url}damage/?lang=en&block=44")
        expect(page.get_by_text("This address asks for 44, which isn't here.")).to_be_visible()
        page.goto(f"{url}?lang=es&view=class&methods=Common+training&methods=Stimulative+training")
        expect(page.get_by_role("button", name="Descubrir")).to_be_visible()
        assert [lane(page, name).locator(".name .text").inner_text() for name in ("common", "stimulative")] == [
            "Entrenamiento común",
            "Entrenamiento estimulativo",
        ]
        assert right(page, "common") == right(page, "stimulative") == "?"
        page.get_by_role("slider").first.press("End")
        assert violations(page) == []
        page.get_by_role("button", name="Descubrir").click()
        assert re.fullmatch(r"\d+,\d %", right(page, "common"))
        assert lane(page, "common").locator(".guess").get_attribute("style") == "left: 100%;"
        expect(lane(page, "stimulative").locator(".guess")).to_be_hidden()  # nobody moved its slider
        expect(page.get_by_role("button", name="Descubrir")).to_have_count(0)
        page.get_by_role("button", name=re.compile("^Bloque 2, ")).click()
        expect(page.get_by_role("button", name="Descubrir")).to_be_visible()


TOPOLOGIES = (Topology.of("toy", (3, 2), {4: "it changes the resolution"}), Topology.of("dense", (3, 3), ordered_only=True))
TEXTS = ("main", "d1-2", "x1-3-2.4-5", "3-x1-2.4", "2.5", "1-1", "d9-9", "1-x1.4", "x.4", "1-2.x")
READ = """
async ([root, topology, firsts, text]) => {
  const a = await import(root + 'page/arrangement.js');
  try {
    const shown = a.read(topology, text);
    return [a.print(shown), a.spec(shown), a.summarise(topology, shown), a.caution(topology, firsts, shown)];
  } catch (error) { return null; }
}
"""
INTERVALS = """
async ([root, counts]) => {
  const { wilson, pairedDrop } = await import(root + 'page/intervals.js');
  return counts.map(([a, b, images]) => [wilson(a, images), pairedDrop(a, b, images).drop, pairedDrop(a, b, images).interval]);
}
"""
FINDING = "async ([root, known, whole, pct]) => (await import(root + 'page/text.js')).finding(known, whole, pct)"
SPEAK = """
async ([root, code]) => {
  const text = await import(root + 'page/text.js');
  text.useWords(await (await fetch(root + `web/text/${code}.json`)).json());
  const terms = ['Stimulative training (λ = 5)', 'mine'].map(text.term);
  return [text.images(1), text.images(12000), text.fixed(1.25, 1), text.fixed(-1.25, 1), ...terms];
}
"""


def check_print(page: Page) -> None:
    """On paper: black on white, also where the screen is dark; the picture and the numbers, and no controls."""
    page.emulate_media(media="print", color_scheme="dark")
    for shown in (".diagram", ".lanes", "h1", ".foot"):
        expect(page.locator(shown).first).to_be_visible()
    for control in ("header nav", ".tools", ".settings", ".languages"):
        expect(page.locator(control).first).to_be_hidden()
    colours = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    assert page.evaluate(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    page.emulate_media(media="screen", color_scheme="light")


def check_scripts(page: Page, url: str) -> None:
    """The page's own functions give what the dashboard's give: arrangements and intervals; sentences in every language."""
    for code in reversed(LANGUAGES):
        words = words_of(code)
        terms = [words.term(english) for english in ("Stimulative training (λ = 5)", "mine")]
        spoken = [words.images(1), words.images(12_000), words.fixed(1.25, 1), words.fixed(-1.25, 1), *terms]
        assert page.evaluate(SPEAK, [url, code]) == spoken
        assert described(TOPOLOGIES[0], "1-x3-2.4", words) == page.evaluate(
            READ, [url, TOPOLOGIES[0].to_dict(), [1], "1-x3-2.4"]
        )
        known = [(words.term("Common training"), 52.5), (words.term("Stimulative training"), 89.5)]
        assert page.evaluate(FINDING, [url, known, True, None]) == words.finding(known, whole=True)
    drawn = random.Random(3)
    for topology in TOPOLOGIES:
        kinds = ("ordered",) if topology.ordered_only else KINDS
        specs = [str(spec) for kind in kinds for spec in family(topology, kind)]
        for text in [*drawn.sample(specs, min(20, len(specs))), *TEXTS]:
            state = page.evaluate(READ, [url, topology.to_dict(), list(first_blocks(topology)), text])
            assert state == described(topology, text), text
    counts = [(0, 0, 10), (3, 1, 10), (52, 40, 2_000), (9_000, 3, 10_000)]
    for (a, b, images), (interval, drop, of_drop) in zip(counts, page.evaluate(INTERVALS, [url, counts]), strict=True):
        assert interval == pytest.approx(wilson(a, images))
        paired = paired_drop(a, b, images)
        assert (drop, *of_drop) == pytest.approx((paired.drop_pct, *paired.interval_pct))
    known = [("Common training", 52.5), ("Stimulative training", 89.5), ("Third", 10.0), ("Fourth", 99.96)]
    for number in range(5):
        for whole in (False, True):
            pct = 92.5 if number == 1 else None
            assert page.evaluate(FINDING, [url, known[:number], whole, pct]) == ENGLISH.finding(
                known[:number], whole=whole, whole_pct=pct
            )


def described(topology: Topology, text: str, words: Words = ENGLISH) -> list[str] | None:
    """Return what the dashboard makes of a text; None where it refuses it."""
    try:
        shown = arrangement.read(topology, text)
    except SpecError:
        return None
    note = arrangement.caution(topology, shown, words)
    return [str(shown), str(shown.spec), arrangement.summarise(topology, shown, words), note]


def test_the_first_view_needs_two_round_trips(browser: Browser, url: str) -> None:
    """The page itself, then all that it shows, which the page itself asks for: also where scripts don't arrive."""
    everything = {"page/page.css", "page/break.joined.js", "web/text/en.json", CATALOGUE, f"data/{EXPERIMENT.name}/states.json"}
    with visit(browser, url) as page:
        asked = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert sorted(name.removeprefix(url) for name in asked) == sorted(everything)  # and nothing twice
    held = browser.new_page()
    held.route("**/*.js", lambda route: route.abort())
    held.goto(url)
    held.wait_for_function("() => performance.getEntriesByType('resource').length >= 5")
    asked = held.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {name.removeprefix(url) for name in asked} == everything
    held.close()


SIDEWAYS = """
() => {
  document.querySelectorAll('main details').forEach((details) => { details.open = true; });
  const wide = (e) => e.scrollWidth > e.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  return [...document.querySelectorAll('body *')].filter(wide).map((e) => `${e.tagName} ${e.innerText.slice(0, 40)}`);
}
"""


@pytest.mark.parametrize("folder", list(PAGES))
def test_nothing_scrolls_sideways_on_a_phone(browser: Browser, url: str, site: Site, folder: str) -> None:
    """Also with every method, in a language of long words, and with every table open."""
    methods = [method["label"] for method in json.loads(site.files[f"data/{EXPERIMENT.name}/states.json"])["methods"]]
    with visit(browser, url, root=url, size=(375, 812)) as page:
        query = urlencode({"lang": "de", "methods": methods}, doseq=True)
        page.goto(f"{url}{folder}/?{query}".replace("//?", "/?"))
        page.wait_for_selector("body[data-ready=true]")
        assert page.evaluate(SIDEWAYS) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        if folder == "use-it":  # still a table, for those who listen to it
            assert page.get_by_role("columnheader").count() == 4 * page.get_by_role("table").count() > 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 720), (375, 812)])
def test_every_page_is_accessible_and_fits(browser: Browser, whole: str, scheme: str, size: tuple[int, int]) -> None:
    for experiment in sorted(path.parent.name for path in (ROOT / "exported").glob("*/experiment.json")):
        for folder in PAGES:
            address = f"{whole}{folder}/?experiment={experiment}".replace("//?", "/?")
            with visit(browser, address, root=whole, size=size, color_scheme=scheme) as page:
                assert violations(page) == [], address
                assert page.evaluate("document.documentElement.scrollWidth") <= size[0], address
                if not folder:
                    for name in (".sentence h1", ".diagram", ".lanes .lane >> nth=-1"):
                        box = page.locator(name).bounding_box()
                        assert box is not None
                        assert box["y"] + box["height"] <= size[1], (address, name)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1280, 720), (1366, 768), (1920, 1080), (375, 812), (390, 844)])
def test_the_first_screen_holds_sentence_picture_and_lanes(
    browser: Browser, url: str, site: Site, size: tuple[int, int]
) -> None:
    """Also beside an open lesson and in the teacher view; with the paper's six methods where it is no phone."""
    listed = json.loads(site.files[f"data/{EXPERIMENT.name}/states.json"])["methods"]
    methods = [method["label"] for method in listed if method["name"] in METHOD_CLASSES]  # controls have names of their own
    assert len(methods) == 6
    queries: dict[str, dict[str, str | list[str]]] = {
        "normal": {},
        "lesson": {},
        "class": {"view": "class"},
        "six methods": {"methods": methods},
    }
    if size[0] < 500:
        del queries["six methods"]
    for lang in ("en", "de"):
        for mode, query in queries.items():
            with visit(browser, f"{url}?{urlencode({'lang': lang, **query}, doseq=True)}", size=size) as page:
                if mode == "lesson":
                    page.locator("#lesson").click()
                    page.evaluate("scrollTo(0, 0)")
                for name in (".sentence h1", ".diagram", ".lanes .lane >> nth=-1"):
                    box = page.locator(name).bounding_box()
                    assert box is not None
                    assert box["y"] + box["height"] <= size[1], (lang, mode, name)


def uncertainty(page: Page) -> float:
    """Return half of the width of the first lane's interval, in points."""
    return float(page.locator(".lane .spread").first.inner_text().strip(" ±"))


@pytest.mark.slow
def test_a_state_that_is_not_stored_is_computed_and_can_be_stopped(browser: Browser, whole: str) -> None:
    with visit(browser, f"{whole}?experiment=resnet20-fashion&spec=1-x2-3.4-6-5.7-8-9") as page:
        expect(page.locator(".status")).to_contain_text("Provisional", timeout=120_000)
        first = uncertainty(page)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".status")).to_contain_text("Stopped: counted on")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator(".status")).to_contain_text("Done: measured in this browser on 500 images", timeout=300_000)
        assert uncertainty(page) < first
        expect(page.locator(".wall .method")).to_have_count(2, timeout=120_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["firefox", "webkit"])
def test_other_browsers_show_the_same(drivers: Playwright, url: str, name: str) -> None:
    try:
        other = getattr(drivers, name).launch()
    except Error:
        pytest.skip(f"{name} is not installed: 'playwright install {name}'")
    with visit(other, f"{url}?spec=1-2-3.4-x5-6.7-8-9") as page:
        expect(page.locator("h1")).to_contain_text("Block 5 is gone.")
        block(page, 5).click()
        expect(page.locator("h1")).to_contain_text("Nothing is gone yet.")
        page.go_back()
        assert right(page, "common") == stored("common", "1-2-3.4-6.7-8-9")
    other.close()


@pytest.mark.slow
def test_an_own_picture_is_classified(browser: Browser, whole: str, tmp_path: Path) -> None:
    from PIL import Image

    pixels = open_bundle(EXPERIMENT / "common").experiment.evaluation[0][0, 0]
    Image.fromarray(pixels).save(tmp_path / "boot.png")
    with visit(browser, f"{whole}?experiment=resnet20-fashion") as page:
        page.get_by_role("link", name="Use it").click()
        page.get_by_label("Your own picture").set_input_files(tmp_path / "boot.png")
        expect(page.get_by_text("the whole network says")).to_have_count(2, timeout=120_000)
        expect(page.get_by_text("the whole network says").last).to_contain_text("Ankle boot")
        # a DenseNet's parts can't be put together in a browser, but its listed files run as they are
        page.goto(f"{whole}use-it/?experiment=densenet-loafing")
        page.get_by_role("button", name="Test picture").first.click()
        expect(page.get_by_text("the whole network says")).to_have_count(1, timeout=120_000)
        (tmp_path / "letter.png").write_text("dear")
        page.get_by_label("Your own picture").set_input_files(tmp_path / "letter.png")
        expect(page.get_by_role("alert")).to_contain_text("not a picture")
        expect(page.get_by_text("the whole network says")).to_have_count(0)  # that was about another picture
