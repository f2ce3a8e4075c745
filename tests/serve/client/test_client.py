"""The client beside servers that are somewhere else, are something else, or come back."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stimcore.errors import StimcoreError, Unavailable, UsageError
from stimcore.serve import types
from stimcore.serve.client import client as client_module
from stimcore.serve.client.client import Client
from tests.serve.processes import Running

CALLS: dict[str, Callable[[Client], Any]] = {
    "catalogue": Client.catalogue,
    "status": Client.status,
    "jobs": Client.jobs,
    "runs": Client.runs,
    "training_offer": Client.training_offer,
    "training": lambda client: client.training("e", "m"),
    "sweep": lambda client: client.sweep("e", "m", "ordered"),
    "hits": lambda client: client.hits("e", "m"),
    "onnx": lambda client: client.onnx("e", "m", "main"),
    "samples": lambda client: client.samples("e", 3, 0),
    "wall": lambda client: client.wall("e"),
    "submit": lambda client: client.submit(types.JobRequest(experiment="e", method="m", specs=["main"])),
    "cancel": lambda client: client.cancel("1"),
    "run_events": lambda client: list(client.run_events("e/r")),
}
PAGE = b"<html>Another program.</html>"


class Stranger:
    """A web server that answers every request with the same bytes, as a context manager."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET  # noqa: N815 -- the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:
                """Keep the output of the tests clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.client = Client(f"http://127.0.0.1:{self._server.server_port}")

    def __enter__(self) -> Client:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._server.shutdown()
        self._server.server_close()


STRANGERS = {
    "a page": (200, {"Content-Type": "text/html"}, PAGE),
    "nothing": (200, {}, b""),
    "no content": (204, {}, b""),
    "another JSON": (200, {"Content-Type": "application/json"}, b'{"status": ["up"]}'),
    "a list": (200, {"Content-Type": "application/json"}, b"[1, [2]]"),
    "a redirection": (302, {"Location": "/login"}, b""),
    "broken gzip": (200, {"Content-Encoding": "gzip"}, b"no gzip"),
    "an event": (200, {"Content-Type": "text/event-stream"}, b"event: ping\ndata: 1\n\n"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_an_address_of_something_else_is_said_in_one_sentence(stranger: str, call: str) -> None:
    if call == "run_events" and stranger in ("a page", "nothing", "no content", "another JSON", "a list"):
        pytest.skip("a stream without events is one of a run that has ended")
    with Stranger(*STRANGERS[stranger]) as client, pytest.raises(Unavailable, match="answers, but not as a model server does"):
        CALLS[call](client)


def test_a_stream_of_something_else_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RETRY_S", 0.2)
    for status, headers, body in STRANGERS.values():
        with Stranger(status, headers, body) as client, pytest.raises(Unavailable):
            list(client.events("1"))


@pytest.mark.parametrize("token", ["geheimniß-und-lang", "two words of a token", "a-token-with-a-break\n"])
def test_a_token_that_no_header_carries_is_named(token: str) -> None:
    with pytest.raises(UsageError, match="the token holds"):
        Client("http://127.0.0.1:9", token)


@pytest.mark.parametrize("name", ["Jörg", "€", "a\nb", "a b", "a" * 65])
def test_a_name_that_no_header_carries_is_named(name: str) -> None:
    with pytest.raises(UsageError, match="the client's name is"):
        Client("http://127.0.0.1:9", client_id=name)
    with pytest.raises(UsageError, match="the client's name is"):
        Client("http://127.0.0.1:9").with_id(name)


@pytest.mark.parametrize("call", [lambda c: c.check_spec("e", "\ud800"), lambda c: c.networks("\ud800", "m")])
def test_half_a_character_is_said_in_one_sentence(call: Callable[[Client], Any]) -> None:
    with pytest.raises(StimcoreError):
        call(Client("http://127.0.0.1:9"))


def test_a_restart_is_a_pause_and_a_wrong_address_an_error(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "RETRY_S", 300.0)  # however slow the machine is
    with Running(exported, tmp_path / "first.log") as first:
        port, client = first.port, first.client()
        assert client.catalogue().experiments
        visitor = client.with_id("visitor")
    started: list[Running] = []

    def start_again() -> None:
        time.sleep(0.5)  # requests meet the closed port first
        started.append(Running(exported, tmp_path / "second.log", words=["--port", str(port)]))

    starting = threading.Thread(target=start_again)
    starting.start()
    try:
        assert visitor.catalogue().experiments
    finally:
        starting.join()
        with started[0]:
            pass
    with pytest.raises(Unavailable, match="can't be reached"):
        Client(f"http://127.0.0.1:{port}").catalogue()  # it never had an answer, and does not wait


@pytest.fixture
def breaking() -> Iterator[tuple[Client, list[int]]]:
    """A server whose event streams break after one event each, and the ids that it was asked for."""
    asked: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            last = int(self.headers["Last-Event-ID"])
            asked.append(last)
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            kind = "done" if last == 5 else "progress"
            event = f'id: {last + 1}\nevent: {kind}\ndata: {{"n": {last}}}\n\n'.encode()
            self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")  # without the last chunk

        def log_message(self, format: str, *args: object) -> None:
            """Keep the output of the tests clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Client(f"http://127.0.0.1:{server.server_port}"), asked
        server.shutdown()


def test_events_go_on_after_every_break(breaking: tuple[Client, list[int]]) -> None:
    client, asked = breaking
    assert [event.id for event in client.events("1")] == [1, 2, 3, 4, 5, 6]
    assert asked == [0, 1, 2, 3, 4, 5]
