"""A static web host, as the simplest one that people use, and a published page behind it."""

import functools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from stimcore.publish.runtime import RuntimeMissing, runtime_files


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files like `python -m http.server`, and prints nothing."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """Serve a folder on the loopback interface; yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def runtime_or_skip() -> Mapping[str, bytes]:
    """Return the files of onnxruntime-web, from the cache or from npm; skip the test where neither has them."""
    try:
        return runtime_files()
    except RuntimeMissing as reason:
        pytest.skip(str(reason))


@contextmanager
def visit(
    browser: Browser, url: str, *, root: str = "", size: tuple[int, int] = (1280, 720), **settings: Any
) -> Iterator[Page]:
    """Open a published page in a context of its own, with the network blocked outside of its folder.

    Args:
        browser: The browser.
        url: Of the page.
        root: Of the site, where the page is not its first one.
        size: Width and height of the window in CSS pixels.
        settings: For the browser's context.

    Afterwards there must be no error in its console, no request to elsewhere, no cookie and no service worker.
    """
    folder = root or url.split("?")[0]
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce", **settings)
    problems: list[str] = []

    def allow(route: Any) -> None:
        if route.request.url.startswith((folder, "data:", "blob:")):
            route.continue_()
        else:
            problems.append(f"asks {route.request.url}")
            route.abort()

    context.route("**/*", allow)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.goto(url)
    page.wait_for_selector("body[data-ready=true]")
    try:
        yield page
        assert context.cookies() == []
        assert page.evaluate("navigator.serviceWorker.getRegistrations().then(all => all.length)") == 0
    finally:
        context.close()
    assert not problems, problems
