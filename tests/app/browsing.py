"""A real `streamlit run`, a real Chromium, and how tests talk to both."""

import re
import shutil
import socket
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

ROOT = Path(__file__).parents[2]
UNWANTED = (
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "AimEnabled",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
)
"""Of the browser: two hidden pages behind the address bar, which cost a second of processor with every new visitor, and
those that Playwright turns off (a second list of features replaces the first)."""
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--disable-features={','.join(UNWANTED)}",
]
PAGES = {"Break it": "/", "Sub-networks": "/subnetworks", "Damage": "/damage", "Training": "/training", "Use it": "/use-it"}
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def chromium() -> str:
    """Where Debian and others put it."""
    found = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if found is None:
        raise FileNotFoundError("the browser tests need Chromium: apt-get install chromium")
    return found


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would make Streamlit or us behave otherwise."""
    import os

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STIMCORE_", "STREAMLIT_"))}
    return {**kept, "STREAMLIT_SERVER_HEADLESS": "true", **more}


class Dashboard:
    """One `streamlit run app/main.py`."""

    def __init__(self, log: Path, variables: Mapping[str, str], port: int | None = None) -> None:
        self.log, self.port, self.variables = log, port or free_port(), variables
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Starts it and waits until it serves."""
        words = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app/main.py",
            "--server.address=127.0.0.1",
            f"--server.port={self.port}",
        ]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment(**self.variables)
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

    def stop(self, kill: bool = False) -> None:
        """Ends it."""
        self.process.kill() if kill else self.process.terminate()
        self.process.wait(30)


@contextmanager
def dashboard(log: Path, **variables: str) -> Iterator[Dashboard]:
    """Runs one; afterwards its log must hold no traceback."""
    served = Dashboard(log, variables)
    try:
        yield served
    finally:
        served.stop()
    assert "Traceback" not in log.read_text(), log.read_text()[-4000:]


@contextmanager
def tab(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: str = "light",
    expected: str = "404",
    **more: Any,
) -> Iterator[Page]:
    """A new visitor. Afterwards: no page error, no console error but an expected one, and no request left this machine.

    Args:
        browser: Chromium.
        url: Of the dashboard.
        width: In CSS pixels.
        height: In CSS pixels.
        scheme: `light` or `dark`.
        expected: Part of an error in the console that may be there.
        more: For the browser's context, `has_touch` for instance.
    """
    settings: dict[str, Any] = {"reduced_motion": "reduce", **more}
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **settings)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(30_000)
    bad: list[str] = []
    page.on("pageerror", lambda error: bad.append(str(error)))
    # a deep link makes Streamlit's script look for its server at /page/_stcore first, a 404 that it expects
    page.on(
        "console",
        lambda m: bad.append(m.text) if m.type == "error" and not any(e in m.text for e in ("404", expected)) else None,
    )
    page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else bad.append("off-site " + r.url))
    try:
        yield page
    finally:
        context.close()
    assert not bad, bad


def block(page: Page, number: int) -> Locator:
    """A block's button in the picture; Playwright sees through the shadow root."""
    return page.get_by_role("button", name=re.compile(rf"^Block {number}, "))


def code(page: Page) -> Locator:
    """The architecture code."""
    return page.get_by_role("textbox", name="Architecture code")


def lane(page: Page, name: str) -> Locator:
    """A method's lane."""
    return page.locator(f'.lane[data-key="{name}"]')


def opened(page: Page, url: str) -> None:
    """Opens Break it and waits for its picture and its first numbers."""
    page.goto(url)
    expect(page.locator(".net button").first).to_be_visible(timeout=45_000)
    done(page)


def done(page: Page) -> None:
    """Waits until nothing is being measured."""
    expect(page.get_by_text(re.compile("^Done: "))).to_be_visible(timeout=60_000)


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core finds against WCAG 2.2 A and AA."""
    page.evaluate(AXE)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = page.evaluate("tags => axe.run(document, {runOnly: tags})", tags)["violations"]
    return [
        (v["id"], [f"{n['target']} {n['html'][:160]} {n.get('failureSummary', '')[:200]}" for n in v["nodes"]]) for v in found
    ]
