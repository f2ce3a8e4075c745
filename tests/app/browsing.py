"""A real `streamlit run`, a real Chromium, and how tests use both."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from stimcore.bench.page_browser import FLAGS as FLAGS
from stimcore.bench.page_browser import find_chromium as find_chromium
from stimcore.bench.page_browser import free_port as free_port
from tests.serve.processes import AS_OTHERS

ROOT = Path(__file__).parents[2]
NO_CHROMIUM = "there is no Chromium on this machine: install it with 'apt-get install chromium', or install Google Chrome"
FULL = "1-2-3.4-5-6.7-8-9"
"""The whole ResNet-20. Without a spec in the address, Break it opens on a state with blocks gone."""
PAGES = {"Break it": "/", "Sub-networks": "/subnetworks", "Damage": "/damage", "Train": "/train", "Use it": "/use-it"}
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def chromium() -> str:
    """Return the path of Chromium, for the commands of this package; tests use the fixture `browser`, which skips.

    Raises:
        SystemExit: There is none.
    """
    path = find_chromium()
    if path is None:
        raise SystemExit(NO_CHROMIUM)
    return path


PATIENCE_MS = 120_000
"""Longest wait for a page. No test measures a time, and four processes that share two processors make each other slow."""


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without settings of Streamlit or stimcore, and with further variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STIMCORE_", "STREAMLIT_"))}
    return {**kept, **AS_OTHERS, "STREAMLIT_SERVER_HEADLESS": "true", **variables}


class Dashboard:
    """One `streamlit run app/main.py`.

    Args:
        log: File that its output is appended to.
        variables: Environment variables.
        port: Where it listens; any free port when None.
        address: Address that it listens on.
    """

    def __init__(self, log: Path, variables: Mapping[str, str], port: int | None = None, address: str = "127.0.0.1") -> None:
        self.log, self.port, self.variables, self.address = log, port or free_port(), variables, address
        below = variables.get("STREAMLIT_SERVER_BASE_URL_PATH", "")  # where a proxy would offer it
        self.url = f"http://127.0.0.1:{self.port}/{below}".rstrip("/")
        self.start()

    def start(self) -> None:
        """Start the process and wait until it serves."""
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app/main.py",
            f"--server.address={self.address}",
            f"--server.port={self.port}",
        ]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment(**self.variables)
            )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if urllib.request.urlopen(self.url + "/_stcore/health", timeout=1).read() == b"ok":
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"no dashboard within 60 s: {self.log.read_text()[-4000:]}")

    def stop(self, *, kill: bool = False) -> None:
        """End the process, with SIGKILL if `kill`."""
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(30)


@contextmanager
def dashboard(log: Path, *, address: str = "127.0.0.1", **variables: str) -> Iterator[Dashboard]:
    """Run a dashboard that listens on an address; afterwards its log must hold no traceback."""
    running = Dashboard(log, variables, address=address)
    try:
        yield running
    finally:
        running.stop()
    assert "Traceback" not in log.read_text(), log.read_text()[-4000:]


@contextmanager
def tab(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = (1280, 900),
    scheme: str = "light",
    expected: str = "404",
    **settings: Any,
) -> Iterator[Page]:
    """Open a tab of a new visitor. Afterwards: no page error, no unexpected console error, no request to another host.

    Args:
        browser: Chromium.
        url: Of the dashboard.
        size: Width and height of the window in CSS pixels.
        scheme: `light` or `dark`.
        expected: Part of a console error that may occur.
        settings: For the browser's context, `has_touch` for instance.
    """
    settings = {"reduced_motion": "reduce", "color_scheme": scheme, **settings}
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **settings)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    # On a deep link, Streamlit's script looks for its server at /page/_stcore first and expects a 404.
    page.on(
        "console",
        lambda m: problems.append(m.text) if m.type == "error" and not any(e in m.text for e in ("404", expected)) else None,
    )
    page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else problems.append("off-site " + r.url))
    try:
        yield page
    finally:
        context.close()
    assert not problems, problems


def block(page: Page, number: int) -> Locator:
    """Return a block's button in the picture; Playwright sees through the open shadow root."""
    return page.get_by_role("button", name=re.compile(rf"^Block {number}, "))


def code(page: Page) -> Locator:
    """Return the field with the architecture code."""
    return page.get_by_role("textbox", name="Architecture code")


def lane(page: Page, name: str) -> Locator:
    """Return a method's lane."""
    return page.locator(f'.lane[data-key="{name}"]')


def opened(page: Page, url: str) -> None:
    """Open Break it and wait for its picture and its final numbers.

    Args:
        page: The tab.
        url: Of the page; without a query the whole network is opened.
    """
    page.goto(url if "?" in url else f"{url.rstrip('/')}/?spec={FULL}")
    expect(page.locator(".net button").first).to_be_visible(timeout=120_000)
    done(page)


def done(page: Page) -> None:
    """Wait until nothing is being measured."""
    expect(page.get_by_text(re.compile("^Done: "))).to_be_visible(timeout=120_000)


def at_rest(page: Page) -> None:
    """Wait until the page's script has run and its figures are drawn: a click on a figure that is redrawn is lost."""
    expect(page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_have_count(1)
    page.wait_for_timeout(300)  # plotly draws after the script has ended, and tells nobody when


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe-core reports against WCAG 2.2 A and AA, and reports again.

    While a page is computed anew, Streamlit dims what may be replaced: for that moment nothing has its contrast.
    """
    page.evaluate(AXE)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    for _ in range(3):
        expect(page.locator("[data-stale=true]")).to_have_count(0)
        reported = page.evaluate("tags => axe.run(document, {runOnly: tags})", tags)["violations"]
        if not reported:
            break
        page.wait_for_timeout(1000)
    return [
        (v["id"], [f"{n['target']} {n['html'][:160]} {n.get('failureSummary', '')[:200]}" for n in v["nodes"]])
        for v in reported
    ]
