"""Slow clients, idle connections and many connections at a real server: each is limited and blocks no other client."""

import contextlib
import json
import socket
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from stimcore.serve.http.app import HttpOptions, application
from stimcore.serve.http.uvicorn_server import ServerConfig
from stimcore.serve.limits import Limits
from stimcore.serve.metrics import Metrics
from stimcore.serve.service import Service, ServiceConfig
from tests.heavy import all_slow_but
from tests.serve.conftest import Start
from tests.serve.inference import URL, body
from tests.serve.processes import Running


def closed_after(connection: socket.socket) -> float:
    """Seconds until the other side closes."""
    began = time.monotonic()
    connection.settimeout(20)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - began


def received(connection: socket.socket, end: bytes) -> bytes:
    """What comes until `end` does."""
    answer = b""
    while not answer.endswith(end):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    return answer


def test_slow_heads_bodies_and_idle_connections_are_ended(start: Start) -> None:
    server = start(limits=["header_s=0.6", "body_s=0.6", "keep_alive_s=1"])
    with contextlib.ExitStack() as stack:
        silent, trickling, slow, idle, second_is_slow = (
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(5)
        )
        trickling.sendall(b"GET /v2/health/live HT")
        slow.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        for connection in (idle, second_is_slow):
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received(connection, b'{"live":true}')
        second_is_slow.sendall(b"GET /v2/hea")
        answer = received(slow, b"}")
        assert b" 408 " in answer
        assert b"did not arrive" in answer
        for connection in (silent, trickling, idle, second_is_slow):
            assert closed_after(connection) < 5
    assert server.live()


def test_fractions_of_a_second_hold_as_they_are() -> None:
    """As whole seconds, 0.9 would be 0: an idle connection would be closed before a client can use it again."""
    for seconds in (0.2, 0.9, 1.5, 20):
        limits = Limits(keep_alive_s=seconds, drain_s=seconds)
        config = ServerConfig(application(Service(ServiceConfig(folder=Path()))), limits, HttpOptions(), Metrics(1))
        assert (config.timeout_keep_alive, config.timeout_graceful_shutdown) == (seconds, seconds)


@pytest.mark.slow
def test_one_byte_a_second_blocks_nobody(start: Start) -> None:
    server = start(limits=["write_s=1", "body_s=1.5", "header_s=1.5"])
    address = ("127.0.0.1", server.port)
    stop = threading.Event()
    text = json.dumps(body()).encode()
    head = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    ended: list[str] = []

    def write_slowly(what: str) -> None:
        at_once, slowly = (b"", head + text) if what == "head" else (head, text)
        with socket.create_connection(address) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(at_once)
            for byte in slowly:
                if stop.wait(0.2):
                    return
                connection.sendall(bytes([byte]))
        ended.append(what)

    def read_slowly() -> None:
        with socket.socket() as connection, contextlib.suppress(ConnectionError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(address)
            wanted = b"GET /v1/experiments/tiny/methods/stimulative/sweeps/ordered HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(wanted * 600)  # some megabytes: more than the system's buffers take
            while not stop.wait(0.2) and connection.recv(1):
                pass

    threads = [threading.Thread(target=write_slowly, args=[what]) for what in ("head", "body") for _ in range(4)]
    threads += [threading.Thread(target=read_slowly) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            assert server.http.post(URL, content=text, timeout=10).status_code == 200
        server.until(lambda: len(ended) == 8, 60)
        front = psutil.Process(server.process.pid)
        server.until(lambda: [c.status for c in front.net_connections("tcp")].count("ESTABLISHED") <= 1, 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sorted(set(ended)) == ["body", "head"]


def num_closed(connections: list[socket.socket]) -> int:
    """Return how many connections the server has closed."""
    closed = 0
    for connection in connections:
        connection.settimeout(0.01)
        try:
            closed += connection.recv(1) == b""
        except TimeoutError:
            pass
        except ConnectionError:
            closed += 1
    return closed


def get(server: Running, path: str) -> httpx.Response:
    """Ask on a new connection."""
    return httpx.get(server.url + path, timeout=10)


@pytest.mark.parametrize("limit", all_slow_but(["connections=10", "connections_per_address=10"], "connections_per_address=10"))
def test_connections_are_bounded_and_health_is_answered_above_the_bound(start: Start, limit: str) -> None:
    server = start(limits=[limit, "header_s=30"])
    server.http.close()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(100)]
        for _ in range(3):
            assert get(server, "/v2/health/live").json() == {"live": True}
            assert get(server, "/v2/health/ready").status_code == 200
        refused = get(server, "/v1/catalogue")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert "too many connections" in refused.json()["error"]
        deadline = time.monotonic() + 10
        while (closed := num_closed(held)) < 90:
            assert time.monotonic() < deadline, closed
        assert closed == 90, "those within the bound stay"
        for _ in range(20):  # a health check on the same connection would keep a place that is meant for all
            assert get(server, "/v2/health/live").headers["Connection"] == "close"
    server.until(lambda: get(server, "/v1/catalogue").status_code == 200)


@pytest.mark.slow
def test_half_open_connections_of_an_address_are_bounded(start: Start) -> None:
    server = start(limits=["half_open_per_address=5", "header_s=30"])
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(40)]
        for connection in held[:20]:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n")
        time.sleep(1.2)
        assert num_closed(held) == 0, "accepted at once, they are no burden yet"
        for _ in range(3):
            assert get(server, "/v1/catalogue").status_code == 200
        assert num_closed(held) >= 34
        assert num_closed(held[-4:]) == 0, "the oldest go first"


@pytest.mark.slow
def test_a_slow_but_steady_download_is_not_cut(start: Start) -> None:
    """The system's buffers take the first megabytes at once; what comes after them is sent as the client reads."""
    server = start(limits=["write_s=1"])
    path = "/v1/experiments/tiny/methods/common/onnx?spec=main"
    whole = server.http.get(path).content
    assert len(whole) > 800_000
    count = 6
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * count)
        answer, began = bytearray(), time.monotonic()
        while len(answer) < count * len(whole):
            piece = connection.recv(65536)
            assert piece, f"cut after {len(answer):,} bytes and {time.monotonic() - began:.1f} s"
            answer += piece
            time.sleep(len(piece) / 600_000)
    assert time.monotonic() - began > 5, "longer than the time that a client may stand still"
    assert bytes(answer).count(whole) >= count - 1
    assert bytes(answer).lower().count(b"\r\ncontent-length: ") == count, "a length, so that a client knows how much is left"


@pytest.mark.slow
def test_large_responses_are_sent_piece_by_piece(start: Start) -> None:
    """A client that reads nothing must not make the server copy its whole response."""
    server = start()
    whole = len(server.http.get("/v1/experiments/tiny/methods/common/onnx?spec=main").content)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(b"GET /v1/experiments/tiny/methods/common/onnx?spec=main HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.until(lambda: server.metric("stim_in_flight_bytes") == whole)
    server.until(lambda: server.metric("stim_in_flight_bytes") == 0)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/v2/health/live", 200),
        ("HTTP://127.0.0.1:80/v1/experiments/tiny/spec?text=main", 200),
        ("https://localhost/v2", 200),
        ("http://localhost", 404),
        ("http://localhost?text=main", 404),
        ("http://localhost/v2/nothing", 404),
        ("http://evil.example/v1/catalogue", 401),
        ("http:///v1/catalogue", 404),
        ("ftp://localhost/v2", 404),
    ],
)
def test_a_target_may_be_a_whole_url(server: Running, target: str, status: int) -> None:
    """The host of the URL counts and not the header, which access control would otherwise be deceived by."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_two_lengths_are_refused(server: Running) -> None:
    text = json.dumps(body()).encode()
    chunk = f"{len(text):x}\r\n".encode() + text + b"\r\n0\r\n\r\n"
    head = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(chunk)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head.encode() + chunk + b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1, "what follows is not answered: nobody knows where it begins"
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "error": "Invalid HTTP request received.",
        "code": "usage",
    }
