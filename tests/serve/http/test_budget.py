"""The budget of memory: the bodies of many connections together are bounded, and are given back however a request ends."""

import asyncio
import contextlib
import gzip
import json
import socket
import threading
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from starlette.requests import Request

from stimcore.errors import UsageError
from stimcore.serve.errors import Busy, TooLarge, TooMany
from stimcore.serve.http.body import read_body
from stimcore.serve.http.budget import ByteBudget
from stimcore.serve.limits import Limits
from tests.serve.conftest import Start
from tests.serve.inference import URL, body, in_binary
from tests.serve.processes import Running


def test_shares_are_bounded_together_and_per_address() -> None:
    budget = ByteBudget(total=100, per_address=60)
    first, second, third = budget.open("10.0.0.1"), budget.open("10.0.0.1"), budget.open("10.0.0.2")
    first.add(50)
    with pytest.raises(TooMany, match="this address hold 50 bytes"):
        second.add(11)
    second.add(10)
    with pytest.raises(Busy, match="requests hold 60 bytes of 100"):
        third.add(41)
    assert budget.used == 60, "what was refused is not held"
    third.add(40)
    for share in (first, second, third):
        share.close()
        share.close()
    assert budget.used == 0


def read(pieces: list[bytes], encoding: str, limits: Limits) -> tuple[bytes, int]:
    """Return the body that is read from pieces, and how often the reading let others run."""
    turns = 0

    async def receive() -> dict[str, object]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> bytes:
        state = {"share": ByteBudget(limits.in_flight_bytes, limits.in_flight_bytes_per_address).open("10.0.0.1")}
        scope = {"type": "http", "method": "POST", "headers": [(b"content-encoding", encoding.encode())], "state": state}
        counting = asyncio.create_task(count())
        try:
            return await read_body(Request(scope, receive), limits)
        finally:
            counting.cancel()

    return asyncio.run(both()), turns


def test_others_run_while_a_body_is_decompressed() -> None:
    value = bytes(20 << 20)
    content, turns = read([gzip.compress(value)], "gzip", Limits())
    assert content == value
    assert turns >= 15
    with pytest.raises(TooLarge, match="decompressed"):
        read([gzip.compress(value)], "gzip", Limits(body_bytes=1 << 20))


@pytest.mark.parametrize("size", [0, 1, 257, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20, 2**22 + 258])
def test_compressed_bodies_of_every_length_are_whole(size: int) -> None:
    value = np.random.default_rng(1).integers(0, 3, size, dtype=np.uint8).tobytes() if size < 2**20 else bytes(size)
    packed = gzip.compress(value)
    pieces = [packed[start : start + 4096] for start in range(0, len(packed), 4096)]
    assert read(pieces, "gzip", Limits())[0] == value
    with pytest.raises(UsageError, match="bytes follow"):
        read([packed + b"more"], "gzip", Limits())
    with pytest.raises(UsageError, match="bytes follow"):
        read([packed, b"more"], "gzip", Limits())


def unfinished_gzip(server: Running, size: int) -> socket.socket:
    """Send a compressed body without its end."""
    packed = gzip.compress(bytes(size))[:-20]
    head = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed) + 20}\r\n"
    head += "Inference-Header-Content-Length: 0\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(head.encode() + packed)
    return connection


@pytest.mark.slow
def test_unfinished_bodies_of_many_connections_hold_what_the_budget_allows(start: Start) -> None:
    """Twelve connections with 65 KB of gzip each, which would hold 800 MB."""
    megabytes = 1 << 20
    server = start(limits=[f"body_bytes={20 * megabytes}", f"in_flight_bytes={64 * megabytes}"])
    front = psutil.Process(server.process.pid)
    before = front.memory_info().rss
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(unfinished_gzip(server, 19 * megabytes)) for _ in range(12)]
        refused = [connection for connection in held[3:] if b" 503 " in connection.recv(300)]
        assert len(refused) == 9
        assert server.metric("stim_in_flight_bytes") <= 64 * megabytes
        assert front.memory_info().rss - before < (64 + 64) * megabytes
        assert server.http.post(URL, content=json.dumps(body())).status_code == 200, "small requests are still answered"
        answer = server.http.post(URL, content=bytes(15 * megabytes), headers={"Inference-Header-Content-Length": "0"})
        assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "busy", "1")
    server.until(lambda: server.metric("stim_in_flight_bytes") == 0)


def test_waiting_inferences_hold_their_bodies(start: Start) -> None:
    images = np.zeros((1000, 1, 12, 12), np.float32)
    limits = ["hang_s=60", "body_bytes=600000", "in_flight_bytes=3000000", "in_flight_bytes_per_address=1500000"]
    server = start(limits=limits)
    words = in_binary(images.tobytes(), images.nbytes, shape=list(images.shape))
    worker = server.workers()[0]
    worker.suspend()
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(httpx.post(server.url + URL, timeout=60, **words).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        server.until(lambda: server.metric("stim_in_flight_bytes") > 2 * images.nbytes)
        answer = server.http.post(URL, **words)
        assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (429, "too_many", "1")
        assert "of this address" in answer.json()["error"]
    finally:
        worker.resume()
        for thread in threads:
            thread.join()
    assert statuses == [200, 200]
    assert server.http.post(URL, **words).status_code == 200


def test_calls_and_streams_of_an_address_are_bounded(start: Start, tmp_path: Path) -> None:
    server = start(limits=["calls_per_address=2", "streams_per_address=1", "hang_s=60"], words=["--runs", str(tmp_path)])
    worker = server.workers()[0]
    client = server.client()
    assert client.onnx("tiny", "common", "d1-1-1")
    worker.suspend()
    with contextlib.ExitStack() as stack:
        threads = [threading.Thread(target=lambda: httpx.post(server.url + URL, content=json.dumps(body()))) for _ in range(2)]
        for thread in threads:
            thread.start()
        server.until(lambda: server.metric("stim_calls_at_workers") == 2)
        for method, path in (("POST", URL), ("GET", "/v1/experiments/tiny/methods/common/onnx?spec=main")):
            answer = server.http.request(method, path, content=json.dumps(body()))
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many")
        job = {"experiment": "tiny", "method": "common", "specs": ["d3-3-3"], "fresh": True}
        id_ = server.http.post("/v1/jobs", json=job).json()["id"]
        stream = stack.enter_context(server.http.stream("GET", f"/v1/jobs/{id_}/events"))
        lines = stream.iter_lines()  # kept: the connection would be closed with it
        next(lines)
        refused = server.http.get(f"/v1/jobs/{id_}/events", headers={"X-Stimcore-Client": "another name"})
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many")
        worker.resume()
        for thread in threads:
            thread.join()
    server.until(lambda: server.metric("stim_streams") == 0)
    assert server.http.post(URL, content=json.dumps(body())).status_code == 200
