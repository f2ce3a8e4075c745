"""What happens when a part fails: how long until the server answers again, and what a client sees until then.

The short tests run with shorter limits, and look at what clients see. The slow ones run with the limits that users have, and
measure: at most 10 seconds after a hang, 5 after a death. `docs/reliability.md` has their results.
"""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from stimcore.serve.client.embedded import EmbeddedServer
from tests.serve.conftest import Start
from tests.serve.evaluations import job_request, submit_long
from tests.serve.inference import URL, body, in_binary
from tests.serve.processes import Running

HANG_S, DEATH_S = 10.0, 5.0
"""Time to recover."""
SMALL = json.dumps(body())


def seen_until_answered(url: str, token: str | None = None, seconds: float = 60) -> tuple[float, list[str]]:
    """Ask until an inference is answered; return how long that took, and what was seen until then, without repetitions."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    seen: list[str] = []
    began = time.monotonic()
    with httpx.Client(base_url=url, timeout=30, trust_env=False, headers=headers) as http:
        while time.monotonic() - began < seconds:
            try:
                answer = http.post(URL, content=SMALL)
            except httpx.TransportError as reason:
                what = type(reason).__name__
            else:
                if answer.status_code == 200:
                    return time.monotonic() - began, seen
                what = f"{answer.status_code} {answer.json()['error']}"
            if what not in seen:
                seen.append(what)
            time.sleep(0.05)
    raise AssertionError(f"no answer after {seconds} s: {seen}")


def large(images: int) -> dict[str, Any]:
    """Return an inference of many images, which takes much memory."""
    data = np.ones((images, 1, 12, 12), np.float32)
    return in_binary(data.tobytes(), data.nbytes, shape=list(data.shape))


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Stop a process for the time of the block."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_front_that_stood_still_goes_on_where_it_was(start: Start) -> None:
    """As after a laptop was asleep: for longer than any time after which workers or clients count as gone."""
    server = start(limits=["hang_s=1", "lease_s=1", "late_s=1"])
    client = server.client()
    job = submit_long(client, count=40)
    (worker,) = server.workers()
    with stopped(psutil.Process(server.process.pid)):
        with pytest.raises(httpx.TimeoutException):
            httpx.get(server.url + "/v2/health/ready", timeout=3)
    seconds, seen = seen_until_answered(server.url)
    assert (seen, seconds < DEATH_S) == ([], True)
    assert server.workers() == [worker], "it was not the worker that stood still"
    assert client.wait(job.id).state in ("done", "dropped")
    assert server.metric("stim_worker_restarts") == 0


@pytest.mark.slow
def test_a_worker_without_memory_costs_at_most_the_request(start: Start) -> None:
    """Every further byte that the worker asks the system for is refused; depending on where, it refuses the call or ends."""
    server = start()
    assert server.http.post(URL, content=SMALL).status_code == 200
    (worker,) = server.workers()
    worker.rlimit(psutil.RLIMIT_AS, (1, resource.RLIM_INFINITY))
    answers = [server.http.post(URL.replace("common", "stimulative"), **large(1024)) for _ in range(3)]
    if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        worker.rlimit(psutil.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for answer in answers:
        assert answer.status_code in (200, 503), answer.text[:300]
        assert answer.status_code == 200 or set(answer.json()) == {"error", "code"}
    print({answer.text[:120] for answer in answers}, worker.is_running())
    seconds, _ = seen_until_answered(server.url)
    assert seconds < HANG_S
    assert server.http.post(URL, **large(1024)).status_code == 200


@pytest.mark.slow
def test_a_worker_that_takes_too_much_memory_is_replaced(start: Start) -> None:
    """One that leaks takes ever more; here, it takes more than it may from its first request on."""
    server = start(limits=["keep_bytes=1000000", "worker_bytes=2000000000", "crashes=10"])
    assert server.http.post(URL, content=SMALL).status_code == 200
    (worker,) = server.workers()
    bound = worker.memory_info().rss + (16 << 20)
    server.stop()
    server = start(limits=["keep_bytes=1000000", f"worker_bytes={bound}", "crashes=10"])
    (worker,) = server.workers()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for _ in range(200):
            answer = http.post(URL, **large(1024))
            assert answer.status_code in (200, 503), answer.text
            if not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE:
                break
    seconds, _ = seen_until_answered(server.url)
    assert seconds < HANG_S
    assert any(line["event"] == "worker too large" and line["bytes"] > bound for line in server.lines())


def test_a_full_disk_under_the_log_stops_nobody(exported: Path) -> None:
    """A server writes nothing but its log; /dev/full is a disk that is always full."""
    words = [sys.executable, "-m", "stimcore.serve", str(exported), "--device", "cpu", "--threads", "1", "--port", "0"]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=full, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().rsplit(" ", 1)[-1].strip()
        seen_until_answered(url)
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            assert http.post(URL, content="{").status_code == 400
            job = http.post("/v1/jobs", content=job_request("common", "d1-2-2").model_dump_json())
            assert job.status_code == 202
            assert http.get("/v2/health/ready").json() == {"ready": True}
    finally:
        process.terminate()
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()


def kill(server: Running) -> None:
    server.workers()[0].kill()


def stop(server: Running) -> None:
    server.workers()[0].send_signal(signal.SIGSTOP)


def pause_the_front(server: Running) -> None:
    """The time to recover counts from its continuation."""
    with stopped(psutil.Process(server.process.pid)):
        time.sleep(15)


def fill_memory(server: Running) -> None:
    """As the kernel does when memory runs out: it kills the process that takes most, in the middle of its work."""
    submit_long(server.client())
    server.until(lambda: server.client().jobs()[0].state == "running")
    server.workers()[0].kill()


FAILURES: dict[str, tuple[Callable[[Running], None], float]] = {
    "worker killed": (kill, DEATH_S),
    "worker stopped": (stop, HANG_S),
    "worker killed while it evaluates": (fill_memory, DEATH_S),
    "front stopped for 15 s": (pause_the_front, DEATH_S),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAILURES)
def test_times_of_a_server(start: Start, kind: str) -> None:
    fail, allowed_s = FAILURES[kind]
    server = start()
    seen_until_answered(server.url)
    fail(server)
    seconds, seen = seen_until_answered(server.url)
    print(f"\n{kind}: {seconds:.1f} s; {seen}")
    assert seconds <= allowed_s


@pytest.mark.slow
@pytest.mark.parametrize(("number", "allowed_s"), [(signal.SIGKILL, DEATH_S), (signal.SIGSTOP, HANG_S)])
def test_times_of_an_embedded_server(exported: Path, number: signal.Signals, allowed_s: float) -> None:
    server = EmbeddedServer(exported, arguments=["--device", "cpu", "--threads", "1"])
    try:
        server.wait_ready()
        time.sleep(2)  # until it has answered its supervisor
        psutil.Process(server.pid).send_signal(number)
        seconds, seen = seen_until_answered(server.url, server.token)
        print(f"\nembedded server, {number.name}: {seconds:.1f} s; {seen}")
        assert seconds <= allowed_s
    finally:
        server.stop()
