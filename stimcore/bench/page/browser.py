"""A Chromium, a Streamlit program, and scripts that time a page with the browser's clock."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stimcore.errors import Unavailable

DISABLED_FEATURES = (
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
"""Features of Chromium that are off. The first three start two hidden pages behind the address bar, which cost a second of
processor time with every new visitor; the others are those that Playwright disables, since a second list of features replaces
Playwright's."""
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--disable-features={','.join(DISABLED_FEATURES)}",
]
START_S = 90.0
"""Seconds within which a program has to serve."""

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
  const start = performance.now(), seen = {{ number: null, all: null, wall: null }};
  let measuring = false;
  const look = () => {{
    const shown = numbers(), now = performance.now() - start;
    measuring ||= shown.length > 0 && shown.every((text) => text === '…');
    if (measuring && shown.some((text) => /\\d/.test(text))) seen.number ??= now;
    if (seen.number !== null && /Done: /.test(document.body.innerText)) seen.all ??= now;
    if (seen.all !== null && shadow('.wall')?.querySelector('img')) seen.wall ??= now;
    if (seen.wall !== null || now > 120000) return resolve(seen);
    setTimeout(look, 10);
  }};
  shadow('.net').querySelector(`[data-block="${{number}}"]`).click();
  look();
}})"""
"""Deletes or restores a block; milliseconds until the first number of the new state, until all, and until its picture wall."""

ARRIVAL = f"""() => {{
  {FIND}
  window.arrival = {{}};
  const look = () => {{
    const now = performance.now(), net = shadow('.net'), lanes = shadow('.lanes');
    if (net?.querySelector('button')) window.arrival.picture ??= now;
    const known = [...(lanes?.querySelectorAll('.accuracy') ?? [])];
    const done = known.length && known.every((e) => /\\d/.test(e.innerText)) && /Done: /.test(document.body.innerText);
    if (done && window.arrival.picture !== undefined) window.arrival.number ??= now;
    if (shadow('.wall')?.querySelector('img')) window.arrival.wall ??= now;
    if (Object.keys(window.arrival).length < 3) setTimeout(look, 10);
  }};
  document.addEventListener('DOMContentLoaded', look);
}}"""
"""Milliseconds from the start of the navigation until there is a picture, until all numbers are final, and until the wall."""


def find_chromium() -> str | None:
    """Return the path of Chromium or Chrome; None where neither is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def free_port() -> int:
    """Return a port of the loopback interface on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Program:
    """A Streamlit program that serves.

    Attributes:
        url: Its address.
        pid: Of its process.
    """

    url: str
    pid: int


@contextmanager
def serving(script: Path, folder: Path, variables: Mapping[str, str]) -> Iterator[Program]:
    """Run a Streamlit program until the block ends.

    Args:
        script: The program.
        folder: Where it starts, whose `.streamlit/config.toml` counts.
        variables: Environment variables, besides those of this process that are no settings of Streamlit or the dashboard.

    Raises:
        Unavailable: It does not serve within `START_S`.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STIMCORE_", "STREAMLIT_"))}
    port = free_port()
    words = [sys.executable, "-m", "streamlit", "run", str(script), "--server.address=127.0.0.1", f"--server.port={port}"]
    environment = {**kept, "STREAMLIT_SERVER_HEADLESS": "true", **variables}
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while not _healthy(url):
            if process.poll() is not None:
                raise Unavailable(f"{script} ended with exit code {process.returncode}", todo="'stimcore app' says why.")
            if time.monotonic() > until:
                raise Unavailable(f"{script} did not start within {START_S:.0f} s", todo="'stimcore app' says why.")
            time.sleep(0.1)
        yield Program(url, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1) as answer:
            return bool(answer.read() == b"ok")
    except OSError:
        return False
