"""Middleware of the dashboard: compressed scripts, headers, and no file outside Streamlit's folder."""

import asyncio
import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import streamlit
from streamlit import config, net_util

from app.access import OriginCheck
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


@pytest.mark.parametrize(
    ("kind", "sentence", "passes"),
    [
        ("websocket", 'Cannot call "send" once a close message has been sent.', True),
        ("websocket", "another error", False),
        ("http", 'Cannot call "send" once a close message has been sent.', False),
    ],
)
def test_a_browser_that_has_left_is_no_error(kind: str, sentence: str, passes: bool) -> None:
    """Streamlit closes the socket of a browser that may have closed it already."""

    async def left(*_: Any) -> None:
        raise RuntimeError(sentence)

    async def nothing(*_: Any) -> Any:
        """Neither receive nor send is called."""

    with ThreadPoolExecutor(1) as pool:  # browser tests keep an event loop running in the main thread
        asked = pool.submit(asyncio.run, Headers(left)({"type": kind}, nothing, nothing))
    if passes:
        asked.result()
    else:
        with pytest.raises(RuntimeError, match=sentence):
            asked.result()


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of Streamlit that a test sets; the others are as they are."""
    given: dict[str, Any] = {"server.enableCORS": True, "server.corsAllowedOrigins": [], "browser.serverAddress": "localhost"}
    plain = config.get_option
    monkeypatch.setattr(config, "get_option", lambda name: given[name] if name in given else plain(name))

    def asked() -> str:
        raise AssertionError("the network was asked for this machine's address")

    monkeypatch.setattr(net_util, "get_external_ip", asked)
    return given


def test_scripts_under_a_sub_path_are_compressed(options: dict[str, Any]) -> None:
    options["server.baseUrlPath"] = "/school/class/"
    status, headers, body = ask(CompressedStatic(original), f"/school/class/static/js/{SCRIPT.name}")
    assert (status, headers[b"content-encoding"], gzip.decompress(body) == SCRIPT.read_bytes()) == (200, b"gzip", True)
    for path in (f"/static/js/{SCRIPT.name}", f"/other/static/js/{SCRIPT.name}", "/school/class/static/../../config.py"):
        assert ask(CompressedStatic(original), path)[0] == 299


def connect(origin: str | None, host: str, kind: str = "websocket") -> tuple[str, str]:
    """Return what a page is sent first, and the origin that the application behind the middleware sees."""
    seen, sent = [], []

    async def inner(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(dict(scope["headers"]).get(b"origin", b"").decode())
        await send({"type": "accepted"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin is not None else [])]
    scope = {"type": kind, "method": "PUT", "path": "/_stcore/stream", "headers": headers}
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, OriginCheck(inner)(scope, receive, send)).result()  # type: ignore[arg-type]  # plain dictionaries
    return sent[0]["type"], "".join(seen)


@pytest.mark.parametrize(
    ("origin", "host", "accepted"),
    [
        (None, "school.example", True),
        ("http://localhost:8501", "localhost:8501", True),
        ("http://127.0.0.1:8501", "127.0.0.1:8501", True),
        ("http://[::1]:8501", "[::1]:8501", True),
        ("http://192.168.7.5:8501", "192.168.7.5:8501", True),
        ("http://192.168.7.6:8501", "192.168.7.5:8501", False),
        ("http://localhost:8501", "192.168.7.5:8501", False),  # a page on the visitor's own machine
        ("http://evil.example", "127.0.0.1:8501", False),
        ("http://evil.example:8501", "evil.example:8501", False),  # a name that was turned to this machine
        ("https://class.example", "127.0.0.1:8501", True),
        ("null", "localhost:8501", False),
        ("http://[", "localhost:8501", False),
    ],
)
def test_a_foreign_page_is_refused_and_nobody_asks_the_network(
    origin: str | None, host: str, accepted: bool, options: dict[str, Any]
) -> None:
    options["server.corsAllowedOrigins"] = ["https://class.example"]
    expected = ("accepted", "http://localhost" if origin else "")
    assert connect(origin, host) == (expected if accepted else ("websocket.close", ""))
    assert connect(origin, host, "http") == (expected if accepted else ("http.response.start", ""))
    options["server.enableCORS"] = False
    assert connect(origin, host) == expected


def test_streamlit_accepts_the_origin_without_asking_the_network(options: dict[str, Any]) -> None:
    from streamlit.web.server.server_util import is_url_from_allowed_origins

    assert is_url_from_allowed_origins("http://localhost")
