"""Every limit of `Limits`, at a value small enough to reach, in a real server."""

import dataclasses
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from stimcore.errors import UsageError
from stimcore.serve import types
from stimcore.serve.errors import Busy, Late, NotFound, TooLarge, TooMany
from stimcore.serve.limits import Limits
from stimcore.serve.service import Service, ServiceConfig
from tests.serve.conftest import Start
from tests.serve.evaluations import job_request, submit_long
from tests.serve.inference import URL, binary, body, in_binary, refused, tensor
from tests.serve.processes import Running

TESTED = (
    "connections connections_per_address half_open_per_address header_s body_s write_s keep_alive_s body_bytes in_flight_bytes",
    "in_flight_bytes_per_address chunks json_bytes json_depth batch calls calls_per_address call_s download_s jobs",
    "jobs_per_client jobs_per_address specs job_s lease_s finished_jobs known_results streams streams_per_address heartbeat_s",
    "samples image_bytes image_pixels",
    "classify_specs engines keep_bytes worker_bytes start_s hang_s late_s silence_s watch_s crashes crash_window_s drain_s",
    "model_labels trainings training_epochs training_s",
)


def test_no_limit_is_forgotten_here() -> None:
    named = " ".join(TESTED).split()
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(Limits))
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    missing = [name for name in named if f'"{name}=' not in tests]
    assert missing == [], "a test sets every one of them"


def test_limits_are_checked_on_the_command_line() -> None:
    assert Limits().with_texts(["jobs=3", "lease_s=0.5"]) == Limits(jobs=3, lease_s=0.5)
    for bad in (
        "job=3",
        "jobs",
        "jobs=x",
        "jobs=0",
        "lease_s=-1",
        "jobs=1.5",
        "lease_s=nan",
        "in_flight_bytes=1000",
        "worker_bytes=1000",
    ):
        with pytest.raises(UsageError):
            Limits().with_texts([bad])


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "0", "-0.5", "x"])
def test_only_finite_numbers_above_0_are_limits(value: str) -> None:
    for field in dataclasses.fields(Limits):
        allowed = "a finite number above 0" if field.name.endswith("_s") else "a whole number above 0, in digits"
        with pytest.raises(UsageError, match=rf"limit {field.name}={value}(\.0)?; allowed: {allowed}\."):
            Limits().with_texts([f"{field.name}={value}"])
    for count in ("1.5", "1e9", "2G", "9" * 5000):  # finite numbers above 0, but not in digits, or too many of these
        with pytest.raises(UsageError, match=rf"^limit keep_bytes={count[:40]}; allowed: a whole number above 0, in digits\.$"):
            Limits().with_texts([f"keep_bytes={count}"])
    for number in (float("inf"), float("nan")):
        with pytest.raises(UsageError, match="a finite number above 0"):
            Limits(drain_s=number)


def test_sizes(start: Start) -> None:
    server = start(
        limits=["batch=4", "body_bytes=21000", "json_bytes=20000", "json_depth=5", "specs=3", "samples=2", "classify_specs=1"]
        + ["image_bytes=1000", "image_pixels=100"]
    )
    refused(
        server, 413, "must be <= 4", **in_binary(np.zeros((5, 1, 12, 12), np.float32).tobytes(), 2880, shape=[5, 1, 12, 12])
    )
    refused(server, 413, "at most 21,000", content=b"x" * 21_001, headers={"Inference-Header-Content-Length": "0"})
    refused(server, 413, "at most 20,000. Send tensors as binary data", content=b"x" * 20_001)
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
        client.submit(job_request("common", *["main"] * 4))
    with pytest.raises(TooLarge, match="at most 2"):
        client.samples("tiny", 3, seed=0)
    reported = client.status()
    assert (reported.image_bytes, reported.image_pixels) == (1000, 100), "clients see the limits that hold here"
    png = client.samples("tiny", 1, seed=0)[0].png_base64
    ask = {"method": "common", "specs": ["main"], "image_base64": png}
    with pytest.raises(TooLarge, match="1 to 1"):
        client.classify("tiny", types.ClassifyRequest.model_validate(ask | {"specs": ["main", "d1-1-1"]}))
    with pytest.raises(TooLarge, match="12 x 12 pixels"):
        client.classify("tiny", types.ClassifyRequest.model_validate(ask))
    with pytest.raises(TooLarge, match="bytes"):
        client.classify("tiny", types.ClassifyRequest.model_validate(ask | {"image_base64": "AAAA" * 334}))


def test_queues_are_bounded_ordered_and_given_up_as_asked(start: Start) -> None:
    """A worker that is stopped makes everything countable: it holds two calls, the others wait."""
    server = start(limits=["calls=4", "hang_s=60"])
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
        assert late.status_code == 504
        assert "not ready within 0.2 s" in late.json()["error"]
        waiting(6)
        answers += [threads.submit(ask) for _ in range(2)]
        waiting(8)
        assert ask().status_code == 503
        assert server.live()
        assert server.http.get("/v2/health/ready").status_code == 200, "health waits in no queue"
        worker.send_signal(signal.SIGCONT)
        assert [future.result().status_code for future in answers] == [200] * 10
    assert sorted(finished[:6]) == [0, 0, 0, 0, 1, 1]
    assert finished[6:] == [2, 2, 2, 2]


def test_evaluations_are_bounded_for_one_and_for_all(start: Start) -> None:
    server = start(limits=["jobs=3", "jobs_per_client=2", "finished_jobs=2", "streams=1"])
    greedy, modest, late = server.client(), server.client(), server.client()
    first = submit_long(greedy)
    second = greedy.submit(job_request("common", "d1-1-1", fresh=True, interactive=False))
    with pytest.raises(TooMany, match="2 evaluations in progress"):
        greedy.submit(job_request("common", "d1-1-2", fresh=True, interactive=False))
    assert greedy.submit(job_request("stimulative", "d1-1-1")).state == "done", "what is known costs no place"
    modest.submit(job_request("common", "d1-1-2", fresh=True, interactive=False))
    with pytest.raises(Busy, match="queue is full"):
        late.submit(job_request("common", "d1-1-3", fresh=True, interactive=False))
    events = greedy.events(first.id)
    next(events)
    with pytest.raises(TooMany, match="1 event streams"):
        next(modest.events(second.id))
    for line in greedy.jobs():
        for client in (greedy, modest):
            client.cancel(line.id)
    for _ in range(3):
        modest.submit(job_request("stimulative", "main"))
    assert len(modest.jobs()) == 2, "older finished ones are forgotten"


def test_deadlines(start: Start) -> None:
    server = start(limits=["call_s=0.01", "download_s=0.01", "job_s=0.5", "lease_s=30"])
    client = server.client()
    refused(server, 504, "not ready within", content=json.dumps(body(parameters={"spec": "d1-2-3"})))
    with pytest.raises(Late):
        client.onnx("tiny", "common", "d3-1-3")
    job = client.wait(submit_long(client).id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.code == "late"


def test_a_request_may_shorten_its_deadline(server: Running) -> None:
    refused(server, 504, "not ready within 1e-06 s", content=json.dumps(body(parameters={"timeout": 1})))


@pytest.fixture(scope="module")
def narrow(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with small caches, frequent heartbeats and a large limit for bodies."""
    limits = ["known_results=2", "heartbeat_s=0.02", "engines=1", "keep_bytes=50000000", "body_bytes=134217728"]
    with Running(exported, tmp_path_factory.mktemp("narrow") / "server.log", limits=limits) as running:
        yield running


def test_results_are_remembered_up_to_a_bound(narrow: Running) -> None:
    client = narrow.client()
    client.wait(client.submit(job_request("common", "d1-1-1", "d1-1-2", "d1-2-1")).id)
    assert narrow.metric("stim_known_results") == 2


def test_a_limit_that_is_raised_holds_there(narrow: Running) -> None:
    raw_images = {"Inference-Header-Content-Length": "0"}
    refused(narrow, 400, "multiple of 576", content=bytes(2**27), headers=raw_images)
    refused(narrow, 413, "at most 134,217,728", content=bytes(2**27 + 1), headers=raw_images)


def test_silent_streams_get_a_heartbeat(narrow: Running) -> None:
    client = narrow.client()
    job = submit_long(client)
    with narrow.http.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert any(line.startswith(":") for line in answer.iter_lines())
    client.cancel(job.id)


def test_bundles_kept_open_are_bounded_and_all_are_served(narrow: Running) -> None:
    for _ in range(2):
        for method in ("common", "stimulative"):
            assert narrow.http.post(URL.replace("common", method), content=json.dumps(body())).status_code == 200


def test_a_second_server_of_the_same_folder_answers_the_same_but_has_other_jobs(narrow: Running, server: Running) -> None:
    """Behind a load balancer, inference may go to any server, while a job lives on the one that accepted it."""
    asked = json.dumps(body(parameters={"spec": "d1-2-1"}))
    answers = [running.http.post(URL, content=asked).json()["outputs"] for running in (narrow, server)]
    assert answers[0] == answers[1]
    job = narrow.client().submit(job_request("common", "main"))
    with pytest.raises(NotFound, match="there is no evaluation"):
        server.client().job(job.id)


def test_every_device_has_its_worker(exported: Path) -> None:
    service = Service(ServiceConfig(folder=exported, devices=("cuda:0", "cuda:1")))
    assert [worker.config.device for worker in service.pool.workers] == ["cuda:0", "cuda:1"]
