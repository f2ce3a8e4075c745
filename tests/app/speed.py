"""`python -m tests.app.speed`: how quickly the dashboard answers, measured inside the page with the browser's clock.

A real `streamlit run`, a real model server, the committed experiment with 10,000 images. Prints p50 and p95 next to the target.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.app.browsing import FLAGS, Dashboard, chromium, dashboard, opened, tab
from tests.app.visitors import crowd

REMOVABLE = (1, 2, 3, 5, 6, 8, 9)
SHIPPED = "1-2-3.4-x5-6.7-8-9"
SWAPPED = "1-2-3.4-6-5.7-8-9"
"""With any of `OTHERS` deleted, this state is in no stored family and has to be measured."""
OTHERS = (1, 2, 3, 8, 9)
READING_MS = 6000
"""How long a visitor reads a page before the first click; the server warms up meanwhile."""
CLASSROOM = "x1-2-3.4-6-5.7-9-8"
"""A state that is in no stored family either, and that the walk over `OTHERS` does not meet."""

FIND = """
const hosts = {};
const shadow = (q) => {
  if (!hosts[q]?.isConnected || !hosts[q].shadowRoot.querySelector(q)) {
    hosts[q] = [...document.querySelectorAll('*')].find((e) => e.shadowRoot?.querySelector(q));
  }
  return hosts[q]?.shadowRoot;
};"""
"""Searches the whole page only once: to do so every few milliseconds would cost the server a third of a core."""
CLICK = f"""(number) => new Promise((resolve) => {{
  {FIND}
  const find = () => shadow('.net').querySelector(`[data-block="${{number}}"]`);
  const before = find().getAttribute('aria-pressed'), url = location.href, start = performance.now();
  let changed = null;
  const look = () => {{
    if (changed === null && find().getAttribute('aria-pressed') !== before) changed = performance.now() - start;
    if (location.href !== url) return resolve([changed, performance.now() - start]);
    if (performance.now() - start > 10000) return resolve([changed, null]);
    setTimeout(look, 4);
  }};
  find().click();
  look();
}})"""
"""Deletes or restores a block; milliseconds until the picture has changed, and until the address has."""

FIRST = f"""(number) => new Promise((resolve) => {{
  {FIND}
  const numbers = () => [...(shadow('.lanes')?.querySelectorAll('.accuracy') ?? [])].map((e) => e.innerText);
  const start = performance.now();
  let measuring = false;
  const look = () => {{
    const seen = numbers();
    measuring ||= seen.length > 0 && seen.every((text) => text === '…');
    if (measuring && seen.some((text) => /\\d/.test(text))) return resolve(performance.now() - start);
    if (performance.now() - start > 60000) return resolve(null);
    setTimeout(look, 10);
  }};
  shadow('.net').querySelector(`[data-block="${{number}}"]`).click();
  look();
}})"""
"""Deletes or restores a block; milliseconds until the first number of the new state."""

ARRIVAL = f"""() => {{
  {FIND}
  window.arrival = {{}};
  const look = () => {{
    const now = performance.now(), net = shadow('.net'), lanes = shadow('.lanes');
    if (net?.querySelector('button')) window.arrival.picture ??= now;
    const known = [...(lanes?.querySelectorAll('.accuracy') ?? [])];
    const done = known.length && known.every((e) => /\\d/.test(e.innerText)) && /Done: /.test(document.body.innerText);
    if (done && window.arrival.picture !== undefined) {{
      window.arrival.number = now;
    }} else setTimeout(look, 10);
  }};
  document.addEventListener('DOMContentLoaded', look);
}}"""
"""Milliseconds from the start of the navigation until there is a picture, and until all numbers are final."""


@dataclass(frozen=True)
class Measured:
    """Repeated measurements of one duration.

    Attributes:
        name: What was timed.
        target_ms: Of the 95th percentile on a calm machine.
        values_ms: Durations, one per repetition.
    """

    name: str
    target_ms: float
    values_ms: Sequence[float]

    def percentile_ms(self, percent: int) -> float:
        """Return a percentile of the durations, by nearest rank."""
        return sorted(self.values_ms)[-(-percent * len(self.values_ms) // 100) - 1]

    def __str__(self) -> str:
        """Return a line of the table."""
        middle, high = self.percentile_ms(50), self.percentile_ms(95)
        numbers = f"n={len(self.values_ms):3}  p50 {middle:7.0f} ms  p95 {high:7.0f} ms  target {self.target_ms:5.0f} ms"
        return f"{self.name:58} {numbers}"


def _seen(value: float | None, what: str) -> float:
    if value is None:
        raise AssertionError(f"{what} never came")
    return value


def clicks(page: Page, url: str, number: int) -> Iterator[Measured]:
    """Measure deleting and restoring blocks, with pauses between the clicks."""
    opened(page, url)
    pairs = []
    for i in range(number):
        pairs.append(page.evaluate(CLICK, REMOVABLE[i % len(REMOVABLE)]))
        page.wait_for_timeout(400)
    yield Measured("click -> picture changed", 100, [_seen(a, "the picture") for a, _ in pairs])
    yield Measured("click -> address changed", 300, [_seen(b, "the address") for _, b in pairs])


def fresh(page: Page, url: str, number: int) -> Iterator[Measured]:
    """Measure states that nobody has asked for: a walk through all subsets of `OTHERS`, one block at a time."""
    opened(page, f"{url}/?spec={SWAPPED}")
    page.wait_for_timeout(READING_MS)
    values = []
    for i in range(1, min(number, 2 ** len(OTHERS) - 1) + 1):
        values.append(_seen(page.evaluate(FIRST, OTHERS[(i & -i).bit_length() - 1]), "a first number"))
        page.wait_for_timeout(300)
    yield Measured("click -> first number of a state that is measured", 1500, values)


def arrivals(browser: Browser, url: str, number: int) -> Iterator[Measured]:
    """Measure a link to a stored state in a new browser each time, with nothing cached; the server is warm."""
    pictures, numbers = [], []
    for _ in range(number):
        with tab(browser, url) as page:
            page.add_init_script(f"({ARRIVAL})()")
            page.goto(f"{url}/?spec={SHIPPED}")
            page.wait_for_function("window.arrival.number", timeout=60_000)
            seen = page.evaluate("window.arrival")
            pictures.append(seen["picture"])
            numbers.append(seen["number"])
    yield Measured("first visit, warm server -> picture", 3000, pictures)
    yield Measured("shared link, cold tab -> final number of a shipped state", 3000, numbers)


def polls(url: str, pid: int) -> Iterator[Measured]:
    """Measure a class of 30 that follows one job which nobody has asked for before."""
    seen = crowd(url, f"spec={CLASSROOM}", 30, pid)
    yield Measured(f"poll, 30 visitors (dashboard: {100 * seen.cpu_share:.0f} % of a core)", 300, seen.polls_ms)


def measure(
    browser: Browser, served: Dashboard, number: int, report: Callable[[Measured], None] | None = None
) -> list[Measured]:
    """Measure everything, one after the other.

    Args:
        browser: Chromium.
        served: A dashboard on the committed experiments that has measured nothing yet.
        number: Repetitions of each, at most 31 of the fresh states.
        report: Called with each result as soon as it is known.
    """
    results, url = [], served.url
    with tab(browser, url) as one, tab(browser, url) as other:
        everything = (
            clicks(one, url, number),
            fresh(other, url, number),
            arrivals(browser, url, number),
            polls(url, served.process.pid),
        )
        for measured in chain.from_iterable(everything):
            if report:
                report(measured)
            results.append(measured)
    return results


def main(argv: Sequence[str]) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.app.speed", description="Measure how quickly the dashboard answers.")
    parser.add_argument("-n", type=int, default=20, metavar="N", help="repetitions of each (default: %(default)s)")
    number = parser.parse_args(argv).n
    expect.set_options(timeout=60_000)
    log = Path(tempfile.mkdtemp()) / "log"
    with dashboard(log) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        measure(browser, served, number, lambda one: print(one, flush=True))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
