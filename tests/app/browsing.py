"""A real `streamlit run`, a real Chromium, and how tests use both."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    FloatRect,
    Locator,
    Page,
    Request,
    WebSocket,
    expect,
)
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from stimcore.bench.page.browser import FLAGS as FLAGS
from stimcore.bench.page.browser import find_chromium as find_chromium
from stimcore.bench.page.browser import free_port as free_port
from tests.serve.processes import AS_OTHERS

ROOT = Path(__file__).parents[2]
NO_CHROMIUM = "there is no Chromium on this machine: install it with 'apt-get install chromium', or install Google Chrome"
FULL = "1-2-3.4-5-6.7-8-9"
"""The whole ResNet-20. Without a spec in the address, Break it opens on a state with blocks gone."""
PAGES = {"Break it": "/", "Sub-networks": "/subnetworks", "Damage": "/damage", "Train": "/train", "Use it": "/use-it"}
AT_REST = '[data-testid="stApp"][data-test-script-state="notRunning"]'
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


Scheme = Literal["light", "dark"]
SIZE = (1280, 900)
"""Width and height of a window in CSS pixels, unless a test says otherwise."""
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
def unharmed(page: Page, url: str, expected: str = "404") -> Iterator[None]:
    """Afterwards: the page met no error, wrote no unexpected one to the console, and asked no other host for anything.

    Args:
        page: The tab.
        url: Of the dashboard.
        expected: Part of a console error that may occur.
    """
    problems: list[str] = []

    def failed(error: Error) -> None:
        problems.append(str(error))

    def wrote(message: ConsoleMessage) -> None:
        # On a deep link, Streamlit's script looks for its server at /page/_stcore first and expects a 404.
        if message.type == "error" and not any(part in message.text for part in ("404", expected)):
            problems.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            problems.append("off-site " + request.url)

    page.on("pageerror", failed)
    page.on("console", wrote)
    page.on("request", asked)
    yield
    page.remove_listener("pageerror", failed)
    page.remove_listener("console", wrote)
    page.remove_listener("request", asked)
    assert not problems, problems


_FREE: WeakKeyDictionary[Browser, list[BrowserContext]] = WeakKeyDictionary()
"""Windows of a browser in which no tab is open."""


@contextmanager
def window(browser: Browser, **settings: Any) -> Iterator[BrowserContext]:
    """Open a window without cookies and stored values.

    One without settings of its own is used again, after it was emptied. It has the dashboard's scripts in its cache, compiled:
    to load these costs a new window more processor time than everything that a test does in it.

    Args:
        browser: Chromium.
        settings: For the browser's context, `has_touch` for instance.
    """
    free = _FREE.setdefault(browser, [])
    context = free.pop() if free and not settings else browser.new_context(**{"reduced_motion": "reduce", **settings})
    try:
        yield context
    except BaseException:
        context.close()
        raise
    if settings:
        context.close()
    else:
        free.append(context)


@contextmanager
def blank_tab(browser: Browser, url: str, size: tuple[int, int], scheme: Scheme, **settings: Any) -> Iterator[Page]:
    """Open a tab in which nothing is loaded yet, and forget afterwards what the dashboard has stored in the browser."""
    with window(browser, **settings) as context:
        page = context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=scheme)
        page.set_default_timeout(PATIENCE_MS)
        yield page
        if url.startswith("http"):
            stored = {"origin": "{0.scheme}://{0.netloc}".format(urlsplit(url)), "storageTypes": "cookies,local_storage"}
            context.new_cdp_session(page).send("Storage.clearDataForOrigin", stored)
        page.close()


@contextmanager
def tab(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = SIZE,
    scheme: Scheme = "light",
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
    with blank_tab(browser, url, size, scheme, **settings) as page, unharmed(page, url, expected):
        yield page


Turn = Callable[[str], Page]
"""Turns a tab to an address and returns it: see `SharedTab.turn`."""
GO = """(address) => {
  history.pushState({}, '', address);
  dispatchEvent(new PopStateEvent('popstate'));
}"""


class SharedTab:
    """A tab that tests share: to open a page costs seconds of processor time, to turn it tenths of one.

    Args:
        page: The tab, in which nothing is open.
        url: Of the dashboard.
        session: The test session, whose failures are counted.

    Attributes:
        page: The tab.
    """

    def __init__(self, page: Page, url: str, session: pytest.Session) -> None:
        self.page, self._url, self._session = page, url.rstrip("/"), session
        self._num_failed: int | None = None
        self._socket: WebSocket | None = None
        page.on("websocket", self._connected)

    def _connected(self, socket: WebSocket) -> None:
        """Remember the connection to the dashboard; a page that was loaded anew has another."""
        self._socket = socket

    def turn(self, address: str) -> Page:
        """Turn the tab to an address as the browser's button Back does, and wait until the page's script has run for it.

        The page is loaded anew, for a new visitor, where a test has failed since: nobody knows what that one has left. What the
        visitor has opened, measured or revealed stays so: a test for which that matters loads the page with `page.goto`.

        Args:
            address: Path and query; the teacher view is left where the query does not name a view.

        Returns:
            The tab.
        """
        if self._socket and self._num_failed == self._session.testsfailed:
            if "view=class" in self.page.url and "view=" not in address:
                address += "&view=" if "?" in address else "?view="
            expect(self.page.locator(AT_REST)).to_have_count(1)  # or the end of an earlier run would be taken for this one's
            with self._socket.expect_event("framereceived", ends_run, timeout=PATIENCE_MS):
                self.page.evaluate(GO, self._url + address)
            at_rest(self.page)
        else:
            self.page.goto(self._url + address)
            self._num_failed = self._session.testsfailed
        return self.page


def ends_run(frame: str | bytes) -> bool:
    """Return whether a message of the dashboard says that the script of a whole page has run."""
    message = ForwardMsg.FromString(frame) if isinstance(frame, bytes) else ForwardMsg()
    return message.WhichOneof("type") == "script_finished" and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY


def block(page: Page, number: int) -> Locator:
    """Return a block's button in the picture; Playwright sees through the open shadow root."""
    return page.get_by_role("button", name=re.compile(rf"^Block {number}, "))


def box_of(element: Locator) -> FloatRect:
    """Return where an element is; asked again while the page draws it anew, when it has no place."""
    for _ in range(200):
        if (box := element.bounding_box()) is not None:
            return box
        element.page.wait_for_timeout(50)
    raise AssertionError(f"{element} is not on the page")


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
    drawn(page)


def drawn(page: Page) -> None:
    """Wait for the picture of Break it and its final numbers."""
    expect(page.locator(".net button").first).to_be_visible(timeout=120_000)
    done(page)


def done(page: Page) -> None:
    """Wait until nothing is being measured."""
    expect(page.get_by_text(re.compile("^Done: "))).to_be_visible(timeout=120_000)


def at_rest(page: Page) -> None:
    """Wait until the page's script has run and its figures are drawn: a click on a figure that is redrawn is lost."""
    expect(page.locator(AT_REST)).to_have_count(1)
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
