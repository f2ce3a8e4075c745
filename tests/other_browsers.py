"""Firefox and WebKit, as Debian packages them: phones of a class are not Chromium.

Firefox is driven over WebDriver BiDi, which it speaks itself, since Debian has no geckodriver; WebKit over WebDriver, with the
library selenium, on a screen in memory. Both run scripts inside the page and nothing else, so that a test is written once.
"""

import contextlib
import itertools
import json
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from selenium.webdriver import WebKitGTK, WebKitGTKOptions, WebKitGTKService
from websockets.sync.client import ClientConnection, connect

START_S = 90.0
"""Seconds within which a browser has to start on a busy machine."""
MINI_BROWSER = "*/webkit2gtk-4.*/MiniBrowser"
FIND = """
const all = (root, css) => [...root.querySelectorAll('*')].flatMap((e) => [
  ...(e.matches(css) ? [e] : []), ...(e.shadowRoot ? all(e.shadowRoot, css) : [])]);
const find = (css) => all(document, css);
"""
"""Searches elements in open shadow roots too."""


class Window(Protocol):
    """A browser's only window."""

    def open(self, url: str) -> None:
        """Go to an address and wait until its page was loaded."""

    def run(self, script: str) -> Any:
        """Run the body of an async function in the page and return its result, a JSON value."""


def wait_for(window: Window, script: str, *, within_s: float = 60.0) -> Any:
    """Run a script again and again, until it returns something that counts as true, and return that."""
    until, value = time.monotonic() + within_s, None
    while time.monotonic() < until:
        value = window.run(FIND + script)
        if value:
            return value
        time.sleep(0.2)
    text = window.run("return document.body.innerText.slice(0, 2000)")
    raise AssertionError(f"still {value!r} after {within_s:.0f} s: {script}\n{text}")


class Firefox:
    """A window of Firefox.

    Args:
        socket: The browser's WebSocket.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._numbers, self._socket = itertools.count(1), socket
        self._send("session.new", {"capabilities": {}})
        self._context = self._send("browsingContext.getTree", {})["contexts"][0]["context"]

    def open(self, url: str) -> None:
        """Go to an address and wait until its page was loaded."""
        self._send("browsingContext.navigate", {"context": self._context, "url": url, "wait": "complete"})

    def run(self, script: str) -> Any:
        """Run the body of an async function in the page and return its result, a JSON value."""
        answer = self._send(
            "script.evaluate",
            {
                "expression": f"(async () => {{ {script} }})().then((value) => JSON.stringify(value ?? null))",
                "target": {"context": self._context},
                "awaitPromise": True,
                "userActivation": True,
            },
        )
        assert answer["type"] == "success", answer
        return json.loads(answer["result"]["value"])

    def _send(self, method: str, params: Mapping[str, Any]) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        until = time.monotonic() + START_S
        while (left := until - time.monotonic()) > 0:  # events come in between
            message = json.loads(self._socket.recv(timeout=left))
            if message.get("id") == number:
                assert message["type"] == "success", message
                return message["result"]
        raise AssertionError(f"Firefox sent events and no answer to {method} within {START_S:g} s")


class WebKit:
    """A window of WebKit.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver: WebKitGTK) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        """Go to an address and wait until its page was loaded."""
        self._driver.get(url)

    def run(self, script: str) -> Any:
        """Run the body of an async function in the page and return its result, a JSON value."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async () => {{ {script} }})().then((value) => done({{ value: JSON.stringify(value ?? null) }}),"
            " (error) => done({ error: String(error) }));"
        )
        answer = self._driver.execute_async_script(wrapped)
        assert "value" in answer, answer
        return json.loads(answer["value"])


def read_until(process: "subprocess.Popen[str]", wanted_of: Callable[[str], str | None], within_s: float = START_S) -> str:
    """Return what a function finds in the first line of a process's output in which it finds anything.

    A thread goes on reading until the output ends: a pipe that nobody reads fills up, and its writer then waits for ever.

    Raises:
        AssertionError: There was no such line in time, or the process ended before it.
    """
    assert process.stdout is not None
    output, lines = process.stdout, queue.SimpleQueue[str | None]()

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed
            for line in output:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    until, seen = time.monotonic() + within_s, ""
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=left)
            if line is None:
                raise AssertionError(f"{process.args!r} ended: {seen}")
            if wanted := wanted_of(line):
                return wanted
            seen = (seen + line)[-2000:]
    raise AssertionError(f"{process.args!r} has not started after {within_s:g} s: {seen}")


def end(process: "subprocess.Popen[str]", within_s: float = 30.0) -> None:
    """End a process, by force where it does not end when it is asked to."""
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def firefox() -> Iterator[Window]:
    """Start Firefox without a screen; skip the test where it is not installed."""
    path = shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        pytest.skip("there is no Firefox on this machine: install it with 'apt-get install firefox-esr'")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # a camera without a machine's camera, and without the question whether the page may use it
        preferences = {"media.navigator.streams.fake": "true", "media.navigator.permission.disabled": "true"}
        lines = [f'user_pref("{name}", {value});' for name, value in preferences.items()]
        (Path(profile) / "user.js").write_text("\n".join(lines), encoding="utf-8")
        command = [path, "--headless", "--remote-debugging-port=0", "--profile", profile, "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            address = read_until(process, lambda line: next(iter(re.findall(r"listening on (ws://\S+)", line)), None))
            with connect(f"{address}/session", max_size=None, open_timeout=START_S) as socket:
                yield Firefox(socket)
        finally:
            end(process)


@contextmanager
def webkit() -> Iterator[Window]:
    """Start WebKit's small browser on a screen in memory; skip the test where it is not installed."""
    driver, screen = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
    browser = next(iter(sorted(Path("/usr/lib").glob(MINI_BROWSER))), None)
    if driver is None or screen is None or browser is None:
        pytest.skip("there is no WebKit on this machine: install it with 'apt-get install webkit2gtk-driver xvfb'")
    command = [screen, "-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    display = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        number = read_until(display, lambda line: line.strip() or None)
        options = WebKitGTKOptions()
        options.binary_location = str(browser)
        options.add_argument("--automation")
        service = WebKitGTKService(executable_path=driver, env={**_plain_environment(), "DISPLAY": f":{number}"})
        session = WebKitGTK(options=options, service=service)
        try:
            session.set_script_timeout(START_S)
            session.set_page_load_timeout(START_S)
            yield WebKit(session)
        finally:
            session.quit()
    finally:
        end(display)


def _plain_environment() -> dict[str, str]:
    """Return the environment without proxies, and with a sandbox that needs no rights: tests may run as root in a container."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1", "LIBGL_ALWAYS_SOFTWARE": "1"}


BROWSERS: Mapping[str, Callable[[], Any]] = {"firefox": firefox, "webkit": webkit}
