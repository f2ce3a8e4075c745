"""Addresses: they carry the state of every page to any browser, and hostile ones do nothing."""

import http.client
import re
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app.browsing import PAGES, Dashboard, SharedTab, Turn, at_rest, block, code, tab

IMG = quote("<img src=x onerror=window.injected=1>")
SCRIPT = quote('"></script><script>window.injected=1</script>')
LINK = quote("[click](javascript:window.injected=1) ![x](http://example.org/x.png) :red[x] $x$")
REFUSED = r"Showing the full network\."
FRAMED = r"Accuracies are measured on"

HOSTILE = {
    "markup as spec": (f"/?spec={IMG}", REFUSED),
    "script as spec": (f"/?spec={SCRIPT}", REFUSED),
    "markdown as spec": (f"/?spec={LINK}", REFUSED),
    "wrong grammar": ("/?spec=1--2..3.-x", REFUSED),
    "blocks that aren't there": ("/?spec=1-2-3.4-5-6.7-8-99", REFUSED),
    "a locked block deleted": ("/?spec=1-2-3.x4-5-6.7-8-9", REFUSED),
    "the code of a twin": ("/?spec=1.2.3", REFUSED),
    "10 kB of digits": ("/?spec=" + "1" * 10_000, REFUSED),
    "10 kB of blocks": ("/?spec=" + "1-" * 5_000 + "1", REFUSED),
    "control characters": ("/?spec=1-2%00-3%0a%1b%7f.4-5-6.7-8-9", REFUSED),
    "no text": ("/?spec=%ff%fe%80", REFUSED),
    "emoji": ("/?spec=%F0%9F%A6%A5&view=%F0%9F%A6%A5", REFUSED),
    "a parameter many times": ("/?spec=x4&spec=d1-1-1&spec=&recalibrate=false&recalibrate=true", FRAMED),
    "unknown names": (f"/?experiment={IMG}&methods={IMG}&methods=nobody&recalibrate=maybe&view={IMG}", FRAMED),
    "a path as experiment": ("/?experiment=../../../etc/passwd&methods=..%2F..%2Fcommon", FRAMED),
    "a twin as method": ("/?methods=twin-d1-1-1&spec=main", FRAMED),
    "no method": ("/?experiment=small&methods=", r"No training method is chosen|" + FRAMED),
    "unknown parameters": (f"/?__proto__=1&{IMG}={IMG}&embed=true&embed_options=dark_theme&constructor=x&spec=main", FRAMED),
    "a sub-network that isn't there": (f"/subnetworks?subnet={IMG}", FRAMED),
    "a block that is no number": (f"/damage?block=NaN&block=-1e999&block={SCRIPT}", FRAMED),
    "runs that aren't there": (f"/train?runs=../../etc&runs={IMG}", FRAMED),
    "a negative budget": ("/use-it?budget=-1&sample=-1", FRAMED),
    "a budget that is no number": (f"/use-it?budget=Infinity&budget={IMG}&sample=NaN&sample={SCRIPT}", FRAMED),
    "an image beyond the last": ("/use-it?budget=1e308&sample=99999999999999999999", FRAMED),
    "a page that isn't there": (f"/nobody?spec={IMG}", REFUSED),
}
"""Case -> the address that is opened, and what the page shows then."""
ONE_OF_EACH_KIND = (
    "script as spec",
    "markdown as spec",
    "unknown names",
    "a page that isn't there",
)
"""The cases that every run opens; each takes seconds."""

PATHS = (
    "/../../app/main.py",
    "/..%2f..%2fapp%2fmain.py",
    "/static/../../../../../../../../etc/passwd",
    "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/static/js/%00.js",
    "/media/../app/session.py",
    "/app/static/..%2fsession.py",
    "/component/stimcore_diagram.stimcore_diagram/../../diagram.py",
    "/_stcore/upload_file/x/y",
    "/damage/../../.streamlit/config.toml",
    "//example.org/",
    "/" + "a" * 5000,
)
"""Paths that ask for files; requested as they are, without the normalisation that a browser does."""

EXECUTABLE = """() => {
  const all = (root) => [...root.querySelectorAll('*')].flatMap((e) => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
  const bad = all(document).filter((e) =>
    [...e.attributes].some((a) => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value)) ||
    e.src?.includes('example.org')
    || (e.tagName === 'IMG' && e.getAttribute('src') === 'x') || (e.tagName === 'SCRIPT' && e.text.includes('injected')));
  return [window.injected ?? null, bad.map((e) => e.outerHTML.slice(0, 200))];
}"""


@pytest.fixture
def visit(browser: Browser, served: Dashboard) -> Iterator[Page]:
    """A visitor of `served`; for an unknown page, Streamlit writes an error to the console and shows the first page."""
    with tab(browser, served.url, expected="does not seem to exist") as opened_tab:
        yield opened_tab


@pytest.mark.parametrize("cases", [ONE_OF_EACH_KIND, pytest.param(tuple(HOSTILE), marks=pytest.mark.slow)], ids=["few", "all"])
def test_hostile_addresses_get_a_sentence_or_a_usual_page(
    visit: Page, served: Dashboard, request: pytest.FixtureRequest, cases: Sequence[str]
) -> None:
    """To load a page costs seconds: where few are looked at, the page that the first one opens is turned to the next."""
    visit.on("dialog", lambda dialog: pytest.fail(dialog.message))
    turn = SharedTab(visit, served.url, request.session).turn
    wrong = []
    for name in cases:
        address, seen = HOSTILE[name]
        if cases is ONE_OF_EACH_KIND and name != "a page that isn't there":
            turn(address)
        else:
            visit.goto(served.url + address)
        try:
            expect(visit.get_by_text(re.compile(seen)).first).to_be_visible(timeout=120_000)
            expect(visit.get_by_test_id("stException")).to_have_count(0)
            assert visit.evaluate(EXECUTABLE) == [None, []]
            assert all(len(sentence) < 500 for sentence in visit.get_by_test_id("stAlert").all_inner_texts())
            assert "root:" not in visit.content()
            if seen == REFUSED:
                assert visit.locator('.net button[aria-pressed="true"]').count() == 0
        except AssertionError as reason:
            wrong.append(f"{name}: {str(reason)[:1000]}")
    assert wrong == []


def test_an_address_with_unknown_names_gets_a_sentence(turn: Turn, served: Dashboard) -> None:
    page = turn("/?experiment=nobody")
    expect(page.get_by_text("This address asks for an experiment that isn't here. Showing resnet20-fashion.")).to_be_visible()
    page.goto(f"{served.url}/?experiment=small&methods=Nobody&methods=Common+training")
    sentence = page.get_by_text("This address asks for a training method that isn't here.")
    expect(sentence).to_be_visible()
    page.get_by_text("Re-calibrate", exact=True).click()
    expect(page).to_have_url(re.compile("recalibrate=false"))
    at_rest(page)
    expect(sentence).to_be_visible()  # the page has drawn itself anew, as it also does when a measurement ends
    page.get_by_role("button", name="Methods", exact=True).click()
    page.get_by_test_id("stPopoverBody").get_by_role("button", name="Stimulative training").click()
    expect(sentence).to_have_count(0)


@pytest.mark.slow
def test_an_address_with_an_unknown_choice_gets_a_sentence(turn: Turn) -> None:
    for address, asked in (
        ("/damage?block=99", "99"),
        ("/subnetworks?subnet=d9-9-9", "d9-9-9"),
        ("/use-it?budget=999", "999"),
        ("/use-it?sample=99999", "99999"),
        ("/train?runs=x/y", "x/y"),
    ):
        page = turn(address)
        expect(page.get_by_text(f"This address asks for {asked}, which isn't here.")).to_be_visible()
    for address in ("/damage?block=8", "/subnetworks?subnet=d2-3-1", "/use-it?budget=0.5"):
        page = turn(address)
        expect(page.get_by_text(re.compile(FRAMED))).to_be_visible()
        expect(page.get_by_test_id("stAlert")).to_have_count(0)


def test_a_choice_that_another_experiment_does_not_have_is_forgotten_without_a_word(turn: Turn) -> None:
    """The visitor chose it, and no address asks for it; what was chosen anew shows what it shows at first."""
    page = turn("/use-it?experiment=resnet20-fashion")
    page.get_by_role("slider").press("End")
    expect(page).to_have_url(re.compile("budget="))
    page.get_by_role("radio", name="multiply-adds").click()  # which are millions, not milliseconds
    expect(page).not_to_have_url(re.compile("budget="))
    at_rest(page)
    page.get_by_role("slider").press("End")
    expect(page).to_have_url(re.compile("budget="))
    choose(page, "Experiment", "small")  # its networks need fewer
    expect(page).not_to_have_url(re.compile("budget="))
    at_rest(page)
    expect(page.get_by_role("slider")).to_be_visible()
    unasked = page.get_by_text("This address asks for").or_(page.get_by_test_id("stException"))
    expect(unasked).to_have_count(0)
    page = turn("/subnetworks?experiment=resnet20-fashion&subnet=d2-3-1")
    choose(page, "Experiment", "densenet-loafing")
    expect(page).not_to_have_url(re.compile("subnet="))
    at_rest(page)
    expect(unasked).to_have_count(0)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
def test_paths_give_away_no_file(served: Dashboard, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode("utf-8", "replace")
    assert answer.status < 500
    assert "root:" not in body
    assert "import " not in body.split("<script", 1)[0]
    assert "maxUploadSize" not in body
    assert answer.status >= 300 or '<div id="root">' in body, body[:300]
    assert not (answer.getheader("location") or "").startswith(("//", "http://example"))


def choose(page: Page, name: str, text: str) -> None:
    """Choose an entry of a drop-down by typing."""
    box = page.get_by_role("combobox", name=name)
    box.click()
    box.fill(text)
    box.press("Enter")


def on_break_it(page: Page) -> None:
    """Delete a block, switch re-calibration off and guessing on."""
    block(page, 5).click()
    expect(page).to_have_url(re.compile("spec=1-2-3.4-x5-6.7-8-9"))
    page.get_by_text("Re-calibrate", exact=True).click()
    expect(page).to_have_url(re.compile("recalibrate=false"))
    page.get_by_text("Guess first", exact=True).click()
    expect(page).to_have_url(re.compile("guess_first=true"))


def on_use_it(page: Page) -> None:
    """Choose another sample, another cost and another budget."""
    page.locator("[class*=st-key-take_] button").nth(3).click()
    expect(page).to_have_url(re.compile(r"sample=\d+"))
    page.get_by_role("radio", name="multiply-adds").click()
    expect(page).to_have_url(re.compile("cost=multiply-adds"))
    expect(page.get_by_text("What you can afford (million multiply-adds per image)").first).to_be_visible()
    page.get_by_role("slider").press("ArrowRight")
    expect(page).to_have_url(re.compile(r"budget=[\d.]+"))


ACTS: dict[str, Callable[[Page], None]] = {
    "Break it": on_break_it,
    "Sub-networks": lambda page: choose(page, "Sub-network", "d2-3-1"),
    "Damage": lambda page: choose(page, "Block", "8"),
    "Train": lambda page: page.get_by_role("button", name="Leave teacher view").or_(page.locator("h1")).first.click(),
    "Use it": on_use_it,
}
"""What is done on a page before its address is opened in another browser."""

LOOK = """() => {
  const all = (root) => [...root.querySelectorAll('*')].flatMap((e) => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
  const shown = all(document.querySelector('.stMain'));
  return {
    heading: document.querySelector('h1').innerText,
    fields: shown.filter((e) => e.tagName === 'INPUT' && e.type !== 'file').map((e) => [e.ariaLabel, e.value, e.checked]),
    pressed: shown.filter((e) => e.matches('[aria-pressed=true], [aria-checked=true]')).map((e) => e.innerText),
    figures: document.querySelectorAll('.js-plotly-plot').length,
    words: [...document.querySelectorAll('.stMain .stMarkdown p')].map((e) => e.innerText),
    answers: shown.filter((e) => e.className === 'accuracy').map((e) => e.innerText),
  };
}"""


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_an_address_shows_the_same_in_another_browser(browser: Browser, served: Dashboard, name: str) -> None:
    def settle(page: Page) -> None:
        expect(page.get_by_text(re.compile(FRAMED))).to_be_visible(timeout=120_000)
        for pending in ("stSpinner", "stSkeleton"):
            expect(page.get_by_test_id(pending)).to_have_count(0)
        if name != "Break it":
            expect(page.locator(".js-plotly-plot").first).to_be_visible()
        expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_attached()
        page.wait_for_timeout(1500)

    with tab(browser, served.url) as page:
        address = PAGES[name] + "?experiment=resnet20-fashion&methods=Common+training&methods=Stochastic+depth"
        page.goto(served.url + address + ("&spec=main" if name == "Break it" else ""))
        settle(page)
        ACTS[name](page)
        if name == "Break it":  # without re-calibration nothing is stored: both browsers end with the same measurement
            expect(page.get_by_text("Done: measured here").first).to_be_visible(timeout=120_000)
        settle(page)
        seen, address = page.evaluate(LOOK), page.url
    with tab(browser, served.url) as other:
        other.goto(address)
        settle(other)
        until = time.monotonic() + 20
        while other.evaluate(LOOK) != seen and time.monotonic() < until:
            time.sleep(0.2)
        assert other.evaluate(LOOK) == seen
    assert seen["heading"]
    assert seen["figures"] or name == "Break it"


@pytest.mark.slow
def test_experiment_and_methods_go_with_the_address_from_page_to_page(visit: Page, served: Dashboard, browser: Browser) -> None:
    visit.goto(served.url)
    choose(visit, "Experiment", "small")
    visit.get_by_role("button", name="Methods", exact=True).click()
    pills = visit.get_by_test_id("stButtonGroup")
    pills.get_by_role("button", name="Stimulative training").click()
    expect(visit).to_have_url(re.compile("experiment=small.*methods=Common\\+training"))
    for name, path in PAGES.items():
        visit.get_by_role("link", name=name, exact=True).click()
        expect(visit).to_have_url(re.compile(f"{path}\\?.*experiment=small.*methods=Common"))
        expect(visit.get_by_text(re.compile(FRAMED))).to_be_visible(timeout=120_000)
        with tab(browser, served.url) as other:
            other.goto(visit.url)
            expect(other.get_by_role("combobox", name="Experiment")).to_have_value("small")
            other.get_by_role("button", name="Methods", exact=True).click()
            pills = other.get_by_test_id("stPopoverBody").get_by_test_id("stButtonGroup")
            chosen = pills.locator("button[aria-pressed=true], button[aria-checked=true]")
            expect(chosen).to_have_text(["Common training"])
    choose(visit, "Experiment", "resnet20-fashion")
    expect(visit.get_by_text(re.compile("isn't here"))).to_have_count(0)


def test_the_link_is_copied_or_shown(browser: Browser, served: Dashboard, turn: Turn) -> None:
    with tab(browser, served.url, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(served.url + "/?spec=1-2-3.4-x5-6.7-8-9")
        page.get_by_role("button", name="Copy link").click()
        expect(page.get_by_role("button", name="Link copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == served.url + "/?spec=1-2-3.4-x5-6.7-8-9&experiment=resnet20-fashion"
        page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error('no')))")
        page.get_by_role("button", name=re.compile("Copy link|Link copied")).click()
        field = page.get_by_role("textbox", name="Link to this view")
        expect(field).to_be_focused()
        expect(field).to_have_value(copied)
        page.keyboard.press("Escape")
        expect(field).to_be_hidden()
    expect(code(turn(copied.removeprefix(served.url)))).to_have_value("1-2-3.4-x5-6.7-8-9")
