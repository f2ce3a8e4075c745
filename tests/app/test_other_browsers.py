"""Break it in Firefox and WebKit: the browsers of a class's phones."""

import re

import pytest

from tests.app.browsing import FULL, Dashboard
from tests.other_browsers import BROWSERS, FIND, Window, wait_for


def answers(window: Window, text: str, other: list[str] | None = None) -> list[str]:
    """Wait for a sentence on the page and its final numbers, which are others than those of the state before; return these."""
    shown = f"document.body.innerText.includes({text!r}) && /Done: /.test(document.body.innerText)"
    found = f"{shown} && find('.lane .accuracy').map((e) => e.innerText).filter((number) => /\\d/.test(number))"
    numbers = wait_for(
        window,
        f"const found = {found}; return found.length === 2 && found.join() !== '{','.join(other or [])}' && found",
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
