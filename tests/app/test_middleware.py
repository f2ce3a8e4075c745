"""Middleware of the dashboard: compressed scripts, headers, and no file outside Streamlit's folder."""

import asyncio
import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import streamlit

from app.middleware import CompressedStatic, Headers

STATIC = Path(streamlit.__file__).parent / "static" / "static"
SCRIPT = next(iter(sorted((STATIC / "js").glob("index.*.js"))))


async def original(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer as an application behind the middleware, with a status that identifies it."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"original"})


def ask(app: Any, path: str, *, encoding: bytes = b"gzip, br", method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    """Return status, headers and body of one request."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"accept-encoding", encoding)]}
    with ThreadPoolExecutor(1) as pool:  # browser tests keep an event loop running in the main thread
        pool.submit(asyncio.run, app(scope, None, send)).result()
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_scripts_are_compressed_and_the_same() -> None:
    status, headers, body = ask(CompressedStatic(original), f"/static/js/{SCRIPT.name}")
    assert status == 200
    assert headers[b"content-encoding"] == b"gzip"
    assert int(headers[b"content-length"]) == len(body)
    assert gzip.decompress(body) == SCRIPT.read_bytes()
    assert len(body) < 0.5 * SCRIPT.stat().st_size
    assert ask(CompressedStatic(original), f"/static/js/{SCRIPT.name}", method="HEAD")[2] == b""


@pytest.mark.parametrize(
    ("path", "encoding"),
    [
        (f"/static/js/{SCRIPT.name}", b"identity"),
        ("/static/js/nothing.js", b"gzip"),
        ("/static/../../../config.py", b"gzip"),
        ("/static/../../runtime/../__init__.py", b"gzip"),
        ("/", b"gzip"),
        ("/static/media/font.woff2", b"gzip"),
    ],
)
def test_everything_else_goes_to_streamlit(path: str, encoding: bytes) -> None:
    assert ask(CompressedStatic(original), path, encoding=encoding)[0] == 299


def test_headers_keep_the_page_to_itself() -> None:
    _, headers, body = ask(Headers(original), "/")
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert body == b"original"
