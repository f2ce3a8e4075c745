"""Bad requests: each is answered by a sentence, within bounds of time and memory, and nobody else notices."""

import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis.strategies import SearchStrategy

from tests.serve.fuzz import inputs
from tests.serve.fuzz.inputs import Request
from tests.serve.fuzz.runner import LONG, SHORT, try_all
from tests.serve.fuzz.watch import Meter, Others
from tests.serve.processes import Running

KINDS: dict[str, Callable[[], SearchStrategy[Request]]] = {
    "json": inputs.json_requests,
    "gzip": inputs.gzip_requests,
    "pictures": inputs.picture_requests,
}
RAW_S = 2.0
"""Time that a raw connection waits for a response; a server may wait for the rest of a body."""


def check_answer(answer: httpx.Response, what: str) -> None:
    """Fail unless an answer is one that clients can rely on."""
    assert answer.status_code < 500 or answer.status_code in (503, 504), f"{answer.status_code} {answer.text[:200]}: {what}"
    if answer.status_code >= 400:
        assert set(answer.json()) == {"error", "code"}, f"{answer.text[:200]}: {what}"


def send(server: Running, request: Request) -> None:
    """Send a request and check its answer and its cost."""
    method, path, headers, content = request
    what = f"{method} {path} {headers} {content[:300]!r} ({len(content)} bytes)"
    with Meter(server) as meter:
        answer = server.http.request(
            method, path, headers=[(k.encode(), v.encode("latin-1")) for k, v in headers.items()], content=content
        )
        if answer.status_code == 202 and answer.json()["state"] in ("queued", "running"):  # an evaluation: its work is wanted
            server.http.delete(f"/v1/jobs/{answer.json()['id']}")
    check_answer(answer, what)
    meter.check(len(content), what)


def send_raw(server: Running, data: bytes) -> None:
    """Send bytes over a connection, read whatever comes, and check the cost."""
    with Meter(server) as meter, socket.create_connection(("127.0.0.1", server.port), timeout=RAW_S) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                received += piece
        except (TimeoutError, ConnectionError):
            pass  # it waits for the rest of the request, or it has closed the connection
    assert received == b"" or received.startswith((b"HTTP/1.1 ", b"{")), (data[:200], received[:200])
    assert b" 500 " not in received[:13], (data, received[:400])
    meter.check(len(data), repr(data[:300]))


def finish(server: Running, others: Others) -> None:
    """Check what the others noticed, and that nothing ended in a traceback."""
    others.check()
    assert server.metric("stim_worker_restarts") == 0
    assert [line for line in server.lines() if line.get("event") == "failed"] == []


def fuzz(server: Running, kind: str, num: int, control: Running) -> None:
    with Others(server, control) as others:
        if kind == "heads":
            try_all(inputs.raw_requests(), lambda data: send_raw(server, data), num)
        else:
            try_all(KINDS[kind](), lambda request: send(server, request), num)
    finish(server, others)


@pytest.mark.parametrize("kind", [*KINDS, "heads"])
def test_odd_requests_hurt_nobody(target: Running, server: Running, kind: str) -> None:
    fuzz(target, kind, SHORT, server)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "heads"])
def test_hundreds_of_odd_requests_hurt_nobody(target: Running, server: Running, kind: str) -> None:
    fuzz(target, kind, LONG, server)


def requests_of_corpus() -> list[Request]:
    """Every file of the corpus, as the request that it belongs to."""
    requests: list[Request] = []
    for path in sorted(inputs.CORPUS.rglob("*.*")):
        data = path.read_bytes()
        match path.parent.name:
            case "pictures":
                requests.append(inputs.classification(data))
            case "json":
                requests += [("POST", url, {}, data) for url, _ in inputs.BODIES[:3]]
            case "gzip":
                encoding = "deflate" if path.suffix == ".zlib" else "gzip"
                requests.append(("POST", "/v2/models/tiny.common/infer", {"Content-Encoding": encoding}, data))
    return requests


def test_everything_in_the_corpus_hurts_nobody(target: Running, server: Running) -> None:
    with Others(target, server) as others:
        for request in requests_of_corpus():
            send(target, request)
        for data in inputs.corpus("http"):
            send_raw(target, data)
    finish(target, others)


def test_a_bomb_is_refused_before_it_is_in_memory(target: Running) -> None:
    """80 MB of zeros in 350 KB: a body that is nothing but JSON may have one megabyte."""
    (bomb,) = [item for item in inputs.compressed() if item[1] == "gzip" and len(item[2]) > 300_000][:1]
    with Meter(target) as meter:
        answer = target.http.post(bomb[0], headers={"Content-Encoding": "gzip"}, content=bomb[2])
    assert answer.status_code == 413
    assert answer.json()["error"].endswith("at most 1,048,576, decompressed. Send tensors as binary data.")
    assert meter.cost.front_bytes < 16 << 20


def test_the_corpus_is_small() -> None:
    files = [path for path in Path(inputs.CORPUS).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000
