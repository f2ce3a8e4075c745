"""The registered diagram in a browser, on a page without a model server: 54 blocks, and a DenseNet."""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from stimcore.figures.style import STYLES
from stimcore.subnets.topology import Topology
from stimcore.web import arrangement
from stimcore.web.component import Component
from stimcore.web.diagram import payload
from stimcore.web.lanes import Lane
from stimcore.web.lanes import payload as lanes_payload
from stimcore.web.words import words_of
from tests.app.browsing import ROOT, block, box_of, code, environment, free_port, tab, violations
from tests.app.networks import RESNET110

PAGE = """
import sys
sys.path.insert(0, {root!r})
from functools import partial
import streamlit as st
from app import session
from stimcore.web import arrangement
from app.components import diagram
from stimcore.figures.style import STYLES
from stimcore.subnets.topology import Topology

st.title("Picture")
TOPOLOGIES = {{
    "resnet110": Topology.of("resnet110", [18, 18, 18], {{19: "no skip path", 37: "no skip path"}}),
    "densenet": Topology.of("densenet264", [6, 12, 64, 48], ordered_only=True),
}}
topology = TOPOLOGIES[st.query_params.get("net", "resnet110")]

def edit():
    session.write_spec(topology, session.edit("net_picture").text)

slot = st.container()
text = st.text_input("Architecture code", value=str(arrangement.full(topology)), key="spec")
with slot:
    diagram(topology, arrangement.read(topology, text), large=False, key="net_picture", on_edit=edit)
"""


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a page that holds nothing but the picture."""
    folder = tmp_path_factory.mktemp("picture")
    (folder / "page.py").write_text(PAGE.format(root=str(ROOT)), encoding="utf-8")
    port = free_port()
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "streamlit", "run", str(folder / "page.py"), f"--server.port={port}"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment())
    url = f"http://localhost:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(url + "/_stcore/health", timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait(30)
    assert "Traceback" not in Path(folder / "log").read_text()


@pytest.fixture(scope="module")
def long_network(browser: Browser, picture: str) -> Iterator[Page]:
    """A tab with a network of 54 blocks, which the tests of this module share."""
    with tab(browser, picture) as page:
        page.goto(picture + "/?net=resnet110")
        yield page


@pytest.fixture
def fifty_four(long_network: Page) -> Page:
    """The same with all blocks there and in order."""
    full = str(arrangement.full(RESNET110))
    code(long_network).fill(full)
    code(long_network).press("Enter")
    expect(block(long_network, 54)).to_have_attribute("aria-pressed", "false")
    return long_network


@pytest.mark.slow
def test_fifty_four_blocks_fit_and_move(fifty_four: Page) -> None:
    page = fifty_four
    assert page.locator(".net button").count() == 54
    for width in (1280, 375):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    block(page, 54).click()
    block(page, 30).focus()
    page.keyboard.press("Alt+ArrowLeft")
    expect(code(page)).to_have_value(re.compile(r"28-30-29-31.*53-x54$"))
    block(page, 1).focus()
    page.keyboard.press("End")
    expect(block(page, 54)).to_be_focused()
    assert violations(page) == []


def alone(page: Page, data: dict[str, Any], name: str = "diagram") -> None:
    """Draw a component on an empty page: `window.sent` holds the edits, and `window.answer` draws what a page answers."""
    component = Component.load(name)
    page.set_content(f"<style>{component.css.replace(':host', 'body')}</style>{component.html}")
    page.evaluate(
        """async ({ js, data }) => {
          const source = URL.createObjectURL(new Blob([js], { type: 'text/javascript' }));
          const draw = (await import(source)).default;
          window.sent = [];
          const setStateValue = (_, value) => window.sent.push(value);
          window.answer = (data) => draw({ data, parentElement: document.body, setStateValue });
          window.answer(data);
        }""",
        {"js": component.js, "data": data},
    )


def lanes_in(language: str) -> dict[str, Any]:
    """Return the data of two lanes in a language; the answer of one of them is hidden."""
    words = words_of(language)
    names = [words.term(STYLES[name].label) for name in ("common", "stimulative")]
    one, other = (
        Lane(
            key=name,
            name=name,
            glyph="●",
            color="#000",
            full_pct=90.0,
            accuracy_pct=55.9,
            interval_pct=(54.9, 56.9),
            drop_pct=34.2,
            drop_interval_pct=(33.1, 35.2),
        )
        for name in names
    )
    return lanes_payload([one, replace(other, hidden=True)], done=True, large=False, words=words)


def test_no_component_keeps_the_words_of_another_language(browser: Browser) -> None:
    """A visitor changes the language while the page is open."""

    def picture_in(language: str) -> dict[str, Any]:
        return payload(Topology.of("net", [2]), "1-2", edits=0, large=False, words=words_of(language))

    def link_in(language: str) -> dict[str, Any]:
        return {"experiment": "small", "spec": "", "address": "", "words": words_of(language).section("link")}

    with tab(browser, "about:blank") as page:
        for name, data_in in {"diagram": picture_in, "lanes": lanes_in, "link": link_in}.items():
            alone(page, data_in("fr"), name)
            expected = page.locator("body").inner_text()
            alone(page, data_in("en"), name)
            assert page.locator("body").inner_text() != expected
            page.evaluate("window.answer", data_in("fr"))
            assert page.locator("body").inner_text() == expected


def test_a_chinese_name_takes_one_line(browser: Browser) -> None:
    for width in (270, 640):
        with tab(browser, "about:blank", size=(width, 600)) as page:
            alone(page, lanes_in("zh"), "lanes")
            for name in page.locator(".name .text").all():
                assert box_of(name)["height"] < 30


def test_a_late_answer_does_not_overwrite_a_newer_edit(browser: Browser) -> None:
    """On a busy machine the answer to one edit arrives seconds after the next edit was drawn."""
    first = payload(Topology.of("net", [4]), "1-2-3-4", edits=0, large=False)
    with tab(browser, "about:blank") as page:
        alone(page, first)
        block(page, 1).click()
        block(page, 2).click()
        page.evaluate("Date.now = ((now) => () => now() + 5000)(Date.now)")
        page.evaluate("window.answer", first | {"text": "x1-2-3-4", "edits": 1})
        expect(block(page, 2)).to_have_attribute("aria-pressed", "true")
        block(page, 3).click()
        assert page.evaluate("window.sent.at(-1)") == {"number": 3, "text": "x1-x2-x3-4"}
        page.evaluate(
            "window.answer", first | {"text": "1-2-3-4", "edits": 3}
        )  # the page has seen the last edit and refused it
        expect(block(page, 3)).to_have_attribute("aria-pressed", "false")


BUSY = """() => {
  const timers = [], usual = setTimeout;
  window.setTimeout = (call, ...rest) => (rest.length ? usual(call, ...rest) : timers.push(call));
  window.idle = () => timers.splice(0).forEach((call) => call());
}"""
"""Keeps timers back until `window.idle` is called: a busy browser runs them after the presses that came meanwhile."""


def test_a_busy_browser_loses_no_press(browser: Browser) -> None:
    """The next block is pressed before the timers of the press before have run."""
    first = payload(Topology.of("net", [4]), "1-2-3-4", edits=0, large=False)
    with tab(browser, "about:blank") as page:
        alone(page, first)
        page.evaluate(BUSY)
        one, third = box_of(block(page, 1)), box_of(block(page, 3))

        def drag_third_to_first(meanwhile: Callable[[], None]) -> None:
            page.mouse.move(third["x"] + 20, third["y"] + 20)
            page.mouse.down()
            page.mouse.move(one["x"] + 20, one["y"] + 20, steps=4)
            meanwhile()
            page.mouse.up()

        def timers_then_answer() -> None:
            page.evaluate("window.idle()")
            page.evaluate("window.answer", first | {"text": "1-2-3-x4", "edits": 1})

        block(page, 4).click()
        drag_third_to_first(timers_then_answer)
        assert page.evaluate("window.sent.at(-1)") == {"number": 2, "text": "3-1-2-x4"}
        block(page, 4).click()  # straight after the drag
        assert page.evaluate("window.sent.at(-1)") == {"number": 3, "text": "3-1-2-4"}
        drag_third_to_first(lambda: None)  # block 2 stands there now
        drag_third_to_first(lambda: page.evaluate("window.idle()"))
        assert page.evaluate("window.sent.at(-1)") == {"number": 5, "text": "1-2-3-4"}
        page.evaluate("window.idle()")
        page.evaluate("window.answer", first | {"text": "4-3-2-1", "edits": 5})  # nothing is held any more
        assert page.locator(".net button").all_inner_texts() == ["4", "3", "2", "1"]


def test_the_menu_of_the_right_button_holds_no_block(browser: Browser) -> None:
    first = payload(Topology.of("net", [2]), "1-2", edits=0, large=False)
    with tab(browser, "about:blank") as page:
        alone(page, first)
        block(page, 1).hover()
        page.mouse.down(button="right")  # its end goes to the menu
        page.evaluate("window.answer", first | {"text": "2-1"})
        assert page.locator(".net button").all_inner_texts() == ["2", "1"]


def test_a_block_is_dropped_where_the_page_has_moved_to(browser: Browser) -> None:
    """The stage takes several rows of a phone, and the sentence above it becomes longer while a block is dragged."""
    first = payload(Topology.of("net", [12]), "-".join(map(str, range(1, 13))), edits=0, large=False)
    with tab(browser, "about:blank", size=(320, 600)) as page:
        alone(page, first)
        start = box_of(block(page, 12))
        page.mouse.move(start["x"] + 20, start["y"] + 20)
        page.mouse.down()
        page.mouse.move(start["x"] + 10, start["y"] + 10, steps=2)
        page.evaluate("document.body.style.paddingTop = '70px'")
        end = box_of(block(page, 2))
        page.mouse.move(end["x"] + 20, end["y"] + 20, steps=4)
        page.mouse.up()
        assert page.evaluate("window.sent.at(-1).text") == "1-12-2-3-4-5-6-7-8-9-10-11"


def test_the_same_edit_counts_again_after_the_text_was_changed_by_hand(fifty_four: Page) -> None:
    page = fifty_four
    for _ in range(2):
        block(page, 54).click()
        expect(code(page)).to_have_value(re.compile(r"53-x54$"))
        code(page).fill(code(page).input_value().replace("x", ""))
        code(page).press("Enter")
        expect(block(page, 54)).to_have_attribute("aria-pressed", "false")


@pytest.mark.slow
def test_densenet_loses_only_the_ends_of_stages(browser: Browser, picture: str) -> None:
    with tab(browser, picture) as page:
        page.goto(picture + "/?net=densenet")
        expect(block(page, 130)).to_be_visible()
        block(page, 4).click()
        expect(code(page)).to_have_value(re.compile(r"^1-2-3-x4-x5-x6\.7-8"))
        block(page, 5).click()
        expect(code(page)).to_have_value(re.compile(r"^1-2-3-4-5-x6\.7-8"))
        block(page, 7).click(force=True)
        expect(page.locator(".hint")).to_have_text(re.compile("every stage keeps its first block"))
        block(page, 20).focus()
        page.keyboard.press("Alt+ArrowLeft")
        expect(page.locator(".hint")).to_have_text(re.compile("none can move"))
        expect(code(page)).to_have_value(re.compile(r"^1-2-3-4-5-x6\.7-8"))
