"""A class: two browsers join by the address that the teacher's page shows, and their guesses appear there."""

import base64
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.classroom import MAX_STATES, MAX_VISITORS, Classroom, qr_code
from stimcore import dashboard as command
from stimcore.bundle import Bundle
from tests.app.browsing import dashboard, tab, violations

STATE = "1-x2-3.4-5-6.7-8-9"


def test_a_state_keeps_one_guess_per_visitor_and_method() -> None:
    room = Classroom()
    for visitor in range(MAX_VISITORS + 5):
        room.guess("a", str(visitor), "common", visitor - 3)
    assert len(room.of_state("a")["common"]) == MAX_VISITORS == room.num_guessing("a")
    assert min(room.of_state("a")["common"]) == 0
    assert max(room.of_state("a")["common"]) == 100
    for state in range(MAX_STATES):
        room.guess(f"state {state}", "somebody", "common", 50)
    assert room.of_state("a") == {}, "forgotten when the class has gone on"


def test_the_code_holds_the_address_in_black_on_white() -> None:
    picture = qr_code("http://192.168.1.7:8501/?spec=1-x2&view=class")
    assert picture.startswith("data:image/svg+xml")
    svg = base64.b64decode(picture.partition(",")[2]).decode() if ";base64" in picture else picture
    assert "fff" in svg


def test_the_command_listens_on_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    class Process:
        def __init__(self, words: list[str], **_options: object) -> None:
            started.append(words)

        def wait(self) -> int:
            return 0

        def terminate(self) -> None:
            pass

    monkeypatch.setattr(subprocess, "Popen", Process)
    assert command.main(["--class", "--no-browser"]) == command.main(["--no-browser"]) == 0
    assert [word for word in started[0] if "address" in word] == ["--server.address=0.0.0.0"]
    assert [word for word in started[1] if "address" in word] == []


def guess(page: Page, address: str, steps: int) -> None:
    """Join by an address and move the first slider by some steps with the keyboard."""
    page.goto(address)
    slider = page.get_by_role("slider").first
    expect(slider).to_be_visible(timeout=120_000)
    slider.focus()
    for _ in range(abs(steps)):
        slider.press("ArrowRight" if steps > 0 else "ArrowLeft")


def test_a_class_joins_and_guesses(small: list[Bundle], browser: Browser, tmp_path: Path) -> None:
    folder = small[0].path.parents[1]
    with dashboard(tmp_path / "log", address="0.0.0.0", STIMCORE_EXPORTED=str(folder), STIMCORE_RUNS=str(tmp_path)) as served:
        with tab(browser, served.url, permissions=["clipboard-read", "clipboard-write"]) as teacher:
            teacher.goto(f"{served.url}/?view=class&spec={STATE}")
            join = teacher.get_by_role("button", name=re.compile("^Join: "))
            expect(join).to_contain_text("1 here", timeout=120_000)
            join.press("Enter")  # its text changes with every poll, so that a mouse may wait for it to stand still
            shown = str(teacher.locator("a", has_text="http://").first.inner_text())
            assert shown.endswith(f":{served.port}")
            expect(teacher.get_by_role("img", name=f"QR code of {shown}")).to_be_visible()
            assert violations(teacher) == []
            teacher.keyboard.press("Escape")
            address = f"{shown}/?view=class&spec={STATE}"
            with tab(browser, shown) as one, tab(browser, shown) as other:
                guess(one, address, -3)
                guess(other, address, 2)
                expect(join).to_contain_text("3 here, 2 guessed")
                teacher.get_by_role("button", name="Reveal").click()
                expect(teacher.get_by_role("img", name=re.compile("2 guesses, in the middle "))).to_be_visible()
            teacher.get_by_role("button", name="Copy link").click()
            expect(teacher.get_by_role("button", name="Link copied")).to_be_visible()
            assert str(teacher.evaluate("navigator.clipboard.readText()")).startswith(shown)
