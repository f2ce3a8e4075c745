"""Break it in Firefox and WebKit: the browsers of a class's phones."""

import re
import subprocess
import sys

import pytest

from tests.app.browsing import FULL, Dashboard
from tests.other_browsers import BROWSERS, FIND, Window, end, read_until, wait_for


def answers(window: Window, text: str, other: list[str] | None = None) -> list[str]:
    """Wait for a sentence on the page and its final numbers, which are others than those of the state before; return these."""
    shown = f"document.body.innerText.includes({text!r}) && /Done: /.test(document.body.innerText)"
    numbers = f"{shown} && find('.lane .accuracy').map((e) => e.innerText).filter((number) => /\\d/.test(number))"
    numbers = wait_for(
        window,
        f"const numbers = {numbers}; return numbers.length === 2 && numbers.join() !== '{','.join(other or [])}' && numbers",
        within_s=120,
    )
    assert all(re.fullmatch(r"\d+\.\d %", number) for number in numbers)
    return list(numbers)


@pytest.mark.slow
@pytest.mark.parametrize("name", BROWSERS)
def test_broken_restored_and_shared(name: str, served: Dashboard) -> None:
    click = FIND + "find('.net button[data-block=\"5\"]')[0].click()"
    with BROWSERS[name]() as window:
        window.open(f"{served.url}/?spec={FULL}&lang=en")
        whole = answers(window, "Nothing is gone yet.")
        window.run(click)
        broken = answers(window, "Block 5 is gone.", whole)
        address = wait_for(window, f"return location.href.includes('{FULL.replace('5', 'x5')}') && location.href")
        window.run(click)
        assert answers(window, "Nothing is gone yet.", broken) == whole
        window.open(address)
        assert answers(window, "Block 5 is gone.") == broken
        wait_for(window, "return find('.wall img').length === 48", within_s=300)
        window.open(f"{served.url}/?spec={FULL}&lang=de")
        wait_for(window, "return document.body.innerText.includes('Noch fehlt nichts.')")


@pytest.mark.parametrize(
    ("program", "seen"),
    [
        ("import time; time.sleep(60)", "has not started after 0.5 s"),
        ("while True: print('still starting', flush=True)", "has not started after 0.5 s"),
        ("print('no screen')", "ended: no screen"),
    ],
    ids=["silent", "chatty", "dead"],
)
def test_a_browser_that_does_not_start_is_not_waited_for(program: str, seen: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        with pytest.raises(AssertionError, match=seen):
            read_until(process, lambda line: "here" if "listening" in line else None, within_s=0.5 if "0.5" in seen else 60)
    finally:
        end(process)


def test_a_browser_that_does_not_end_when_it_is_asked_to_is_killed() -> None:
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert read_until(process, str.strip) == "deaf"
    finally:
        end(process, within_s=0.1)
    assert process.returncode == -9
