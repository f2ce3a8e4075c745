"""Every bound of `Limits`, at a value small enough to reach, in a real server; access; metrics; logs."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from stimcore import serve
from stimcore.errors import Unavailable, UsageError
from stimcore.serving import wire
from stimcore.serving.client import Client
from stimcore.serving.limits import Limits
from stimcore.serving.refusals import Busy, Denied, Late, TooLarge, TooMany
from tests.serving.conftest import Start
from tests.serving.processes import Running
from tests.serving.test_bad_input import URL, binary, body, in_binary, refused, tensor
from tests.serving.test_jobs import long, request

TESTED = (
    "connections header_s body_s write_s keep_alive_s body_bytes chunks json_bytes json_depth batch calls call_s download_s",
    "jobs jobs_per_client specs job_s lease_s finished_jobs known_results streams heartbeat_s samples image_bytes image_pixels",
    "classify_specs engines keep_bytes start_s silence_s crashes crash_window_s drain_s model_labels",
)


def test_no_limit_is_forgotten_here() -> None:
    named = " ".join(TESTED).split()
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(Limits))
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    missing = [name for name in named if f'"{name}=' not in tests]
    assert missing == [], "a test sets every one of them"


def test_limits_are_checked_on_the_command_line() -> None:
    assert Limits().with_texts(["jobs=3", "lease_s=0.5"]) == Limits(jobs=3, lease_s=0.5)
    for bad in ("job=3", "jobs", "jobs=x", "jobs=0", "lease_s=-1", "jobs=1.5", "lease_s=nan"):
        with pytest.raises(UsageError):
            Limits().with_texts([bad])


def test_sizes(start: Start) -> None:
    server = start(
        limits=["batch=4", "body_bytes=21000", "json_bytes=20000", "json_depth=5", "specs=3", "samples=2", "classify_specs=1"]
        + ["image_bytes=1000", "image_pixels=100"]
    )
    refused(
        server, 413, "must be <= 4", **in_binary(np.zeros((5, 1, 12, 12), np.float32).tobytes(), 2880, shape=[5, 1, 12, 12])
    )
    refused(server, 413, "at most 21,000", content=b"x" * 21_001)
    refused(server, 413, "bytes of JSON", content=b"x" * 20_001)
    refused(server, 400, "nested", content="[" * 6 + "]" * 6)
    four = in_binary(b"\0" * 2304, 2304, shape=[4, 1, 12, 12])
    for more, status in ((0, 200), (1, 413)):
        answer = server.http.post(URL, content=json.dumps(body()).encode().rjust(20_000 + more))
        assert answer.status_code == status, answer.text
        size = str(21_000 + more - 2304)
        answer = server.http.post(
            URL, content=four["content"].rjust(21_000 + more), headers={"Inference-Header-Content-Length": size}
        )
        assert answer.status_code == status, answer.text
    client = server.client()
    with pytest.raises(TooLarge, match="at most 3"):
        client.submit(request("common", *["main"] * 4))
    with pytest.raises(TooLarge, match="at most 2"):
        client.samples("tiny", 3, seed=0)
    png = client.samples("tiny", 1, seed=0)[0].png_base64
    ask = {"method": "common", "specs": ["main"], "image_base64": png}
    with pytest.raises(TooLarge, match="1 to 1"):
        client.classify("tiny", wire.ClassifyRequest.model_validate(ask | {"specs": ["main", "d1-1-1"]}))
    with pytest.raises(TooLarge, match="12 x 12 pixels"):
        client.classify("tiny", wire.ClassifyRequest.model_validate(ask))
    with pytest.raises(TooLarge, match="bytes"):
        client.classify("tiny", wire.ClassifyRequest.model_validate(ask | {"image_base64": "AAAA" * 334}))


def test_queues_are_bounded_ordered_and_given_up_as_asked(start: Start) -> None:
    """A worker that is stopped makes everything countable: it holds two calls, the others wait."""
    server = start(limits=["calls=4"])
    images = np.zeros((512, 1, 12, 12), np.float32)
    finished: list[int] = []

    def ask(**parameters: object) -> httpx.Response:
        tensor_ = tensor(data=..., shape=list(images.shape), parameters={"binary_data_size": images.nbytes})
        words = binary(body(inputs=[tensor_], parameters=parameters), images.tobytes())
        answer = httpx.post(server.url + URL, timeout=60, **words)
        if answer.status_code == 200:
            finished.append(int(str(parameters.get("priority", 0))))
        return answer

    def waiting(count: int) -> None:
        server.until(lambda: server.metric("stim_waiting_calls") == count)

    assert ask().status_code == 200
    finished.clear()
    (worker,) = server.workers()
    worker.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(16) as threads:
        answers = [threads.submit(ask) for _ in range(2)]
        server.until(lambda: server.metric("stim_calls_at_workers") == 2)
        answers += [threads.submit(ask, priority=2) for _ in range(4)]
        waiting(4)
        for _ in range(2):
            full = ask(priority=2)
            assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
            assert "maximum queue size" in full.json()["error"]
        answers += [threads.submit(ask, priority=1) for _ in range(2)]
        waiting(6)
        late = ask(timeout=200_000)
        assert late.status_code == 504 and "not done within 0.2 s" in late.json()["error"]
        waiting(6)
        answers += [threads.submit(ask) for _ in range(2)]
        waiting(8)
        assert ask().status_code == 503
        assert server.live() and server.http.get("/v2/health/ready").status_code == 200, "health waits in no queue"
        worker.send_signal(signal.SIGCONT)
        assert [future.result().status_code for future in answers] == [200] * 10
    assert sorted(finished[:6]) == [0, 0, 0, 0, 1, 1] and finished[6:] == [2, 2, 2, 2]


def test_evaluations_are_bounded_for_one_and_for_all(start: Start) -> None:
    server = start(limits=["jobs=3", "jobs_per_client=2", "finished_jobs=2", "streams=1"])
    greedy, modest, late = server.client(), server.client(), server.client()
    first = long(greedy)
    second = greedy.submit(request("common", "d1-1-1", fresh=True, interactive=False))
    with pytest.raises(TooMany, match="2 evaluations in progress"):
        greedy.submit(request("common", "d1-1-2", fresh=True, interactive=False))
    assert greedy.submit(request("stimulative", "d1-1-1")).state == "done", "what is known costs no place"
    modest.submit(request("common", "d1-1-2", fresh=True, interactive=False))
    with pytest.raises(Busy, match="queue is full"):
        late.submit(request("common", "d1-1-3", fresh=True, interactive=False))
    events = greedy.events(first.id)
    next(events)
    with pytest.raises(TooMany, match="1 event streams"):
        next(modest.events(second.id))
    for line in greedy.jobs():
        for client in (greedy, modest):
            client.cancel(line.id)
    for _ in range(3):
        modest.submit(request("stimulative", "main"))
    assert len(modest.jobs()) == 2, "older finished ones are forgotten"


def test_deadlines(start: Start) -> None:
    server = start(limits=["call_s=0.01", "download_s=0.01", "job_s=0.5", "lease_s=30"])
    client = server.client()
    refused(server, 504, "not done within", content=json.dumps(body(parameters={"spec": "d1-2-3"})))
    with pytest.raises(Late):
        client.onnx("tiny", "common", "d3-1-3")
    job = client.wait(long(client).id)
    assert job.state == "failed" and job.error is not None and job.error.code == "late"


def test_a_request_may_shorten_its_deadline(server: Running) -> None:
    refused(server, 504, "not done within 1e-06 s", content=json.dumps(body(parameters={"timeout": 1})))


@pytest.fixture(scope="module")
def narrow(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that remembers little, keeps one bundle open, whose streams are never silent for long; of large bodies."""
    limits = ["known_results=2", "heartbeat_s=0.02", "engines=1", "keep_bytes=50000000", "body_bytes=134217728"]
    with Running(exported, tmp_path_factory.mktemp("narrow") / "server.log", limits=limits) as running:
        yield running


def test_results_are_remembered_up_to_a_bound(narrow: Running) -> None:
    client = narrow.client()
    client.wait(client.submit(request("common", "d1-1-1", "d1-1-2", "d1-2-1")).id)
    assert narrow.metric("stim_known_results") == 2


def test_a_limit_that_is_raised_holds_there(narrow: Running) -> None:
    raw_images = {"Inference-Header-Content-Length": "0"}
    refused(narrow, 400, "multiple of 576", content=bytes(2**27), headers=raw_images)
    refused(narrow, 413, "at most 134,217,728", content=bytes(2**27 + 1), headers=raw_images)


def test_silent_streams_get_a_heartbeat(narrow: Running) -> None:
    client = narrow.client()
    job = long(client)
    with narrow.http.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert any(line.startswith(":") for line in answer.iter_lines())
    client.cancel(job.id)


def test_bundles_kept_open_are_bounded_and_all_are_served(narrow: Running) -> None:
    for _ in range(2):
        for method in ("common", "stimulative"):
            assert narrow.http.post(URL.replace("common", method), content=json.dumps(body())).status_code == 200


# Slow and many connections


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
        assert b" 408 " in answer and b"did not arrive" in answer
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


# Access


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--host", "0.0.0.0"], "there is no token. Set STIMCORE_TOKEN"),
        (["--host", "::"], "there is no token"),
        (["--host", "no.such.host.invalid"], "there is no address"),
        (["--port", "70000"], "--port 70000"),
        (["--threads", "0"], "--threads 0"),
        (["--limit", "jobs=none"], "limit jobs=none"),
        (["--engine", "tensorrt"], "there is no engine"),
        (["--engine", "triton://host"], "there is no engine"),
        (["--engine", "triton://host:x"], "there is no engine"),
    ],
)
def test_wrong_use_is_refused_before_anything_starts(
    exported: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], match: str
) -> None:
    monkeypatch.delenv("STIMCORE_TOKEN", raising=False)
    with pytest.raises(UsageError, match=re.escape(match)):
        serve.main([str(exported), "--port", "0", *words])


def test_an_inherited_socket_is_guarded_as_any_other(exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STIMCORE_TOKEN", raising=False)
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        copy = str(os.dup(everywhere.fileno()))  # serve closes what it was given
        with pytest.raises(UsageError, match="--fd with --host or --port"):
            serve.main([str(exported), "--fd", copy, "--port", "0"])
        with pytest.raises(UsageError, match="there is no token"):
            serve.main([str(exported), "--fd", copy])
    with (tmp_path / "file").open("w") as file, pytest.raises(UsageError, match="is no socket"):
        serve.main([str(exported), "--fd", str(file.fileno())])


def test_a_short_token_a_missing_folder_a_taken_port(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(Unavailable, match="Give another --port"):
            serve.main([str(exported), "--port", str(taken.getsockname()[1])])
    with pytest.raises(UsageError, match="no folder"):
        serve.main([str(exported / "nowhere")])
    monkeypatch.setenv("STIMCORE_TOKEN", "short")
    with pytest.raises(UsageError, match="5 characters"):
        serve.main([str(exported), "--port", "0"])


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with serve._listening("127.0.0.1", 0, None, None) as listening:
        assert listening.proto == socket.IPPROTO_TCP, "asyncio sets TCP_NODELAY only then; without, an answer takes 40 ms more"


def test_a_device_that_is_not_there_is_one_sentence(exported: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stimcore.serve", str(exported), "--port", "0", "--device", "gpu", "--log-level", "error"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"error: there is no device 'gpu'; allowed: auto, cpu, cuda.*\n", done.stderr)


def test_a_token_opens_everything_but_health_is_open(start: Start) -> None:
    token = "correct-horse-battery"
    server = start(token=token, words=["--host", "0.0.0.0"])
    bare = httpx.Client(base_url=server.url.replace("0.0.0.0", "127.0.0.1"))
    assert bare.get("/v2/health/live").status_code == bare.get("/v2/health/ready").status_code == 200
    for path in ("/v1/catalogue", "/v2", "/metrics", "/openapi.json", "/nothing"):
        for wrong in ({}, {"Authorization": f"Bearer {token}x"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer \xff"}):
            answer = bare.get(path, headers={key: value.encode("latin-1") for key, value in wrong.items()})
            assert answer.status_code == 401 and answer.json()["code"] == "denied"
            assert answer.headers["WWW-Authenticate"] == "Bearer" and token not in answer.text
    for path in ("/v1/catalogue", "/v2", "/metrics", "/openapi.json"):
        assert bare.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    with pytest.raises(Denied, match="token is missing or wrong"):
        Client(str(bare.base_url)).catalogue()
    assert Client(str(bare.base_url), token).catalogue().experiments
    assert token not in server.log.read_text(encoding="utf-8")


def test_without_a_token_no_page_in_a_browser_gets_in(server: Running) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Host": "127.0.0.1.evil.example:80"}):
        assert server.http.get("/v1/catalogue", headers=headers).status_code == 401
    for headers in ({"Host": f"localhost:{server.port}"}, {"Origin": "http://localhost:8501"}, {"Host": "[::1]:80"}):
        assert server.http.get("/v1/catalogue", headers=headers).status_code == 200


# Metrics and logs


def test_metrics_are_bounded_and_true(start: Start) -> None:
    server = start(limits=["model_labels=2"])
    for name in ("tiny.common", "tiny.stimulative", "tiny.common.main", "tiny.common.subnet-d1-1-1", "made-up-1", "made-up-2"):
        server.http.post(f"/v2/models/{name}/infer", content=json.dumps(body()))
    text = server.http.get("/metrics").text
    assert set(re.findall(r'stim_inferences_total\{model="([^"]+)"', text)) == {"tiny.common", "tiny.stimulative", "other"}
    assert 'stim_inferences_total{model="other",result="done"} 2.0' in text
    assert 'stim_inferences_total{model="other",result="refused"} 2.0' in text
    assert 'stim_requests_total{route="/v2/models/{name}/infer",status="200"} 4.0' in text
    assert "made-up" not in text and "stim_ready 1.0" in text
    for i in range(50):
        server.http.get(f"/v1/made-up-{i}")
    assert "made-up" not in server.http.get("/metrics").text


def test_every_line_of_the_log_is_json_with_the_request_id(server: Running) -> None:
    answer = server.http.get("/v1/status", headers={"X-Request-Id": "my-id-7"})
    assert answer.headers["X-Request-Id"] == "my-id-7"
    other = server.http.post(URL, content=json.dumps(body(inputs=[tensor(name="no")])), headers={"X-Request-Id": "a b"})
    id_ = other.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", id_)
    server.until(lambda: id_ in server.log.read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in server.log.read_text(encoding="utf-8").splitlines()]
    found: dict[str, Any] = {line.get("request"): line for line in lines if line["event"] == "request"}
    assert found["my-id-7"] | {"time": 0, "ms": 0} == {
        "time": 0,
        "level": "info",
        "event": "request",
        "request": "my-id-7",
        "method": "GET",
        "route": "/v1/status",
        "status": 200,
        "ms": 0,
    }
    assert (found[id_]["status"], found[id_]["code"], found[id_]["route"]) == (400, "usage", "/v2/models/{name}/infer")
