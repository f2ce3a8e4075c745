"""Slow clients, idle connections and many connections at a real server: each is limited and blocks no other client."""

import contextlib
import json
import socket
import threading
import time

import psutil

from tests.serve.conftest import Start
from tests.serve.inference import URL, body


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


def test_connections_are_bounded(start: Start) -> None:
    server = start(limits=["connections=10"])
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
    time.sleep(0.3)
    ended = 0
    for connection in held:
        connection.settimeout(0.01)
        try:
            ended += connection.recv(1) == b""
        except TimeoutError:
            pass
        except ConnectionError:
            ended += 1
    assert 15 <= ended <= 21
    for connection in held:
        connection.close()
    server.until(lambda: server.live())
