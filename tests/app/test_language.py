"""The dashboard in the language of the browser, or of the address."""

import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from stimcore.web.words import LANGUAGES
from tests.app.browsing import FULL, Dashboard, SharedTab, Turn, tab, violations


def test_the_browser_s_language_and_the_address_s(browser: Browser, served: Dashboard, request: pytest.FixtureRequest) -> None:
    with tab(browser, served.url, size=(1280, 720), locale="de-AT") as page:
        turn = SharedTab(page, served.url, request.session).turn
        turn(f"/?spec={FULL.replace('5', 'x5')}")
        story = page.get_by_text(re.compile(r"^Block 5 fehlt\. Gewöhnliches Training: \d+ von 100 Bildern richtig"))
        expect(story).to_be_visible(timeout=120_000)  # the first visit after a start waits for the model server
        expect(page.get_by_text("Fertig: auf 10.000 Bildern gemessen")).to_be_visible()
        expect(page.locator(".lane .accuracy").first).to_have_text(re.compile(r"^\d+,\d %$"))
        assert violations(page) == []
        page.get_by_role("button", name="Lektion in fünf Schritten").click()
        expect(page.get_by_role("heading", name="1 von 5: Ein Team aus Blöcken")).to_be_visible()
        page.get_by_role("link", name="Français").click()
        expect(page.get_by_text(re.compile(r"^Le bloc 5 manque\. Entraînement ordinaire"))).to_be_visible()
        for text in ("Cliquez sur un bloc pour", "Copier le lien", "réseau entier", "sûr à 95 %"):  # components draw them once
            expect(page.get_by_text(text).first).to_be_visible()
        expect(page).to_have_url(re.compile("lang=fr"))
        # the visit goes on: what no address holds is still there
        expect(page.get_by_role("heading", name="1 sur 5")).to_be_visible()
        page.get_by_role("button", name="Suivant").click()
        page.get_by_role("button", name="Un par étage").first.click()
        expect(page).to_have_url(re.compile("spec=1-x2-x3"))
        page.get_by_role("link", name="English").click()
        expect(page.get_by_role("heading", name="2 of 5")).to_be_visible()
        page.get_by_role("button", name="Undo").click()
        expect(page).to_have_url(re.compile("spec=1-2-3.4-x5-6.7-8-9.*lang=en|lang=en.*spec=1-2-3.4-x5-6.7-8-9"))
        methods = ["Common training", "Stage supervision", "Layer supervision"]
        turn(f"/?lang=fr&{urlencode({'methods': methods}, doseq=True)}")
        link = page.get_by_role("link", name="Español")
        expect(link).to_have_attribute("href", re.compile(r"methods=.*methods=.*methods="))
        assert parse_qs(urlsplit(str(link.get_attribute("href"))).query)["methods"] == methods
        page.get_by_role("link", name="Dégâts").click()  # the choice holds from page to page
        expect(page.get_by_role("heading", name="Dégâts", level=1)).to_be_visible()
        expect(page).to_have_url(re.compile("lang=fr"))
        turn("/?lang=xx&view=class")  # a language that there are no texts in
        expect(page.get_by_role("button", name="Aufdecken")).to_be_visible()


RIGHTS = """texts => texts.map((text) => {
  const range = document.createRange();
  range.selectNodeContents(text);
  return range.getBoundingClientRect().right - text.closest('.lanes').getBoundingClientRect().right;
})"""
"""How far texts reach beyond the right end of their lanes in pixels. Boxes of elements may be narrower than their texts."""

MEET = """ticks => ticks.map((tick) => tick.getBoundingClientRect()).filter((box) => box.width)
  .some((box, i, boxes) => i > 0 && box.left < boxes[i - 1].right)"""
"""Whether a number of the axis covers its neighbour."""


@pytest.mark.slow
def test_no_answer_is_cut_off_in_any_language(turn: Turn) -> None:
    """Words are longer in some languages than in English; 640x360 is a window of 1280x720 at a zoom of 200 %."""
    wrong = []
    for language in LANGUAGES:
        page = turn(f"/?lang={language}&spec={FULL.replace('5', 'x5')}")
        expect(page.locator(".lane .drop").first).to_have_text(re.compile(r"\d"), timeout=120_000)
        for width, height in ((1280, 720), (640, 360), (375, 812)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(300)
            beyond = page.locator(".lane .name, .lane .numbers, .lane .drop, .axis .legend").evaluate_all(RIGHTS)
            assert len(beyond) >= 7
            sideways = page.locator(".stMain").evaluate("main => main.scrollWidth - main.clientWidth")
            meet = page.locator(".axis .ticks span").evaluate_all(MEET)
            if max(beyond) > 0.5 or sideways > 0 or meet:
                wrong.append((language, width, beyond, sideways, meet))
    turn("/?lang=")  # for the tests that share the tab
    assert wrong == []
