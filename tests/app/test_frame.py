"""The dashboard in a frame of another site, as a learning platform shows it, in a browser that keeps cookies from it."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.app.browsing import Dashboard


@pytest.fixture
def outer(served: Dashboard) -> Iterator[str]:
    """The address of a page with the dashboard in a frame. `localhost` and `127.0.0.1` are two sites to a browser."""
    assert served.url.startswith("http://127.0.0.1:")

    class Frame(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<title>Class</title><iframe src='{served.url}/use-it' width=1200 height=880></iframe>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Frame)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()


@pytest.mark.slow
def test_a_picture_is_uploaded_in_a_frame_without_cookies(
    browser: Browser, outer: str, served: Dashboard, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    controls = {
        "enableThirdPartyCookieRestriction": True,
        "disableThirdPartyCookieMetadata": True,
        "disableThirdPartyCookieHeuristics": True,
    }
    context.new_cdp_session(page).send("Network.setCookieControls", controls)
    uploads: list[int] = []
    page.on("response", lambda r: uploads.append(r.status) if "upload_file" in r.url and r.request.method == "PUT" else None)
    page.goto(outer)
    frame = page.frame_locator("iframe")
    expect(frame.get_by_text(re.compile("sub-networks agree")).first).to_be_visible(timeout=120_000)
    assert context.cookies(served.url) == []
    before = frame.get_by_alt_text("The image as the networks see it").get_attribute("src")
    Image.new("RGB", (300, 200), "white").save(tmp_path / "good.png")
    frame.locator("input[type=file]").set_input_files(tmp_path / "good.png")
    shown = frame.get_by_alt_text("The image as the networks see it")
    expect(shown).not_to_have_attribute("src", before or "", timeout=120_000)
    assert uploads
    assert all(status < 300 for status in uploads)
    expect(frame.get_by_text(re.compile("sub-networks agree")).first).to_be_visible()
    context.close()
