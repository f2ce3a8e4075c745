"""The end of a server: what it finishes, what it cuts short, and that it leaves no process."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from stimcore.errors import Unavailable
from tests.serve.conftest import Start
from tests.serve.evaluations import submit_long
from tests.serve.exported import make_heavy
from tests.serve.inference import URL, body, in_binary
from tests.serve.processes import Running


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_end_finishes_what_is_in_flight_and_ends_streams(start: Start, number: int) -> None:
    server = start(limits=["drain_s=8", "hang_s=60"])
    client = server.client()
    images = np.ones((64, 1, 12, 12), np.float32)
    words = in_binary(images.tobytes(), images.nbytes, shape=list(images.shape))
    job = submit_long(client)
    types: list[str] = []
    stream = threading.Thread(target=lambda: types.extend(event.type for event in client.events(job.id)))
    stream.start()
    server.until(lambda: client.job(job.id).state == "running" and server.metric("stim_streams") == 1)
    workers = server.workers()
    workers[0].send_signal(signal.SIGSTOP)  # so that nothing is done before the end begins
    with ThreadPoolExecutor(6) as threads:
        waiting = [threads.submit(httpx.post, server.url + URL, timeout=60, **words) for _ in range(6)]
        server.until(lambda: server.metric("stim_waiting_calls") + server.metric("stim_calls_at_workers") == 6)
        began = time.monotonic()
        server.process.send_signal(number)
        with pytest.raises(httpx.ConnectError):  # new connections are refused
            ask_until_refused(server, seconds=5)
        workers[0].send_signal(signal.SIGCONT)
        code = server.process.wait(20)
        seconds = time.monotonic() - began
        assert [future.result().status_code for future in waiting] == [200] * 6
    stream.join()
    assert code == 0
    assert seconds < 10
    assert types[-2:] == ["error", "done"]
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    with pytest.raises(Unavailable):
        client.status()


def ask_until_refused(server: Running, seconds: float) -> None:
    """Ask over new connections until one is refused, which raises httpx's error, or until time is up.

    A connection that the kernel has accepted, and the server not yet, is cut when the listening socket closes.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):
            httpx.get(server.url + "/v2/health/live")


def hammer(server: Running, stop: threading.Event) -> None:
    """A kept connection that is never idle: it must not put off the end."""
    with contextlib.suppress(httpx.TransportError), httpx.Client(base_url=server.url) as http:
        while not stop.is_set():
            http.get("/v2/health/live")


def test_the_end_waits_neither_for_a_stuck_worker_nor_for_a_busy_connection(start: Start) -> None:
    server = start(limits=["drain_s=1", "hang_s=60"])
    (worker,) = server.workers()
    worker.send_signal(signal.SIGSTOP)
    stop = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        stuck = threads.submit(httpx.post, server.url + URL, timeout=60, content=json.dumps(body()))
        server.until(lambda: server.metric("stim_calls_at_workers") == 1)
        busy = threads.submit(hammer, server, stop)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        stop.set()
        busy.result()
        assert (stuck.result().status_code, stuck.result().json()) == (503, ENDING)
    assert psutil.wait_procs([worker], timeout=5)[1] == []


ENDING = {"error": "the server is ending. Try again in a moment.", "code": "busy"}


def assert_log_has_no_traceback(server: Running) -> None:
    lines = [json.loads(line) for line in server.log.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if "traceback" in line] == []


@pytest.mark.slow
def test_whatever_the_end_cuts_short_is_refused_as_any_other_request(start: Start) -> None:
    """Calls at a worker, calls in the queue, and a body that has not arrived yet: the last one waits for no worker."""
    server = start(limits=["drain_s=1", "hang_s=60"])
    (worker,) = server.workers()
    worker.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(4) as threads, socket.create_connection(("127.0.0.1", server.port), timeout=30) as uploading:
        calls = [threads.submit(httpx.post, server.url + URL, timeout=60, content=json.dumps(body())) for _ in range(4)]
        server.until(lambda: server.metric("stim_calls_at_workers") + server.metric("stim_waiting_calls") == 4)
        head = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
        uploading.sendall(head.encode())
        assert uploading.recv(1000).startswith(b"HTTP/1.1 100 ")
        uploading.sendall(b"{")
        assert server.stop() == 0
        received = b""
        while piece := uploading.recv(1000):
            received += piece
        answers = [future.result() for future in calls]
    assert [(answer.status_code, answer.json(), answer.headers["Retry-After"]) for answer in answers] == [
        (503, ENDING, "1")
    ] * 4
    assert received.startswith(b"HTTP/1.1 503 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2]) == ENDING
    assert_log_has_no_traceback(server)
    logged = [line for line in server.lines() if line.get("route") == "/v2/models/{name}/infer"]
    assert [(line["status"], line["code"]) for line in logged] == [(503, "busy")] * 5


def test_the_end_while_starting(start: Start, own_exported: Path) -> None:
    make_heavy(own_exported)
    server = start(own_exported, wait=False)
    server.until(lambda: bool(server.workers()))
    workers = server.workers()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(httpx.get, f"{server.url}/v1/catalogue", timeout=60)
        assert server.http.get("/v2/health/ready").status_code == 503
        time.sleep(0.5)
        assert not waiting.done()
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        assert (waiting.result().status_code, waiting.result().json()) == (503, ENDING)
    assert psutil.wait_procs(workers, timeout=5)[1] == []


SIGNALLED = """
import signal, sys
from stimcore import cli
from stimcore.serve.__main__ import main
from stimcore.serve.http import uvicorn_server

def application(*words):
    signal.raise_signal(signal.SIGINT)
    return make(*words)

make, uvicorn_server.application = uvicorn_server.application, application
cli.run(main, sys.argv[1:])
"""


def test_the_end_before_the_applications_are_made(exported: Path) -> None:
    words = [sys.executable, "-c", SIGNALLED, str(exported), "--port", "0", "--device", "cpu"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.slow
def test_the_end_while_loading(start: Start, own_exported: Path) -> None:
    server = start(own_exported, limits=["drain_s=1"])
    assert server.http.post(URL, content=json.dumps(body())).status_code == 200
    make_heavy(own_exported)
    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(httpx.post, f"{server.url}/v2/repository/models/tiny.common/load", timeout=60)
        unloading = threads.submit(httpx.post, f"{server.url}/v2/repository/models/tiny.stimulative/unload", timeout=60)
        assert unloading.result().status_code == 200
        time.sleep(0.3)
        assert server.http.post(URL, content=json.dumps(body())).status_code == 200, "it answers while it hashes"
        assert not loading.done()
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        assert (loading.result().status_code, loading.result().json()) == (503, ENDING)
    assert_log_has_no_traceback(server)
