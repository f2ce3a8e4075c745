"""The life of server and workers: kills, silence, repeated crashes, rescans, broken bundles."""

import json
import shutil
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
import tritonclient.http as triton

from tests.serve.conftest import Start
from tests.serve.evaluations import job_request, submit_long
from tests.serve.exported import export
from tests.serve.inference import URL, binary, body, in_binary, tensor
from tests.serve.processes import Running, in_session


def kill_worker(server: Running) -> None:
    """SIGKILL, as the kernel does when memory runs out."""
    (worker,) = server.workers()
    worker.kill()


def test_the_front_process_loads_neither_torch_nor_onnxruntime(server: Running) -> None:
    maps = Path(f"/proc/{server.process.pid}/maps").read_text(encoding="utf-8")
    assert "onnxruntime" not in maps
    assert "libtorch" not in maps
    (worker,) = server.workers()
    worker_maps = Path(f"/proc/{worker.pid}/maps").read_text(encoding="utf-8")
    assert "onnxruntime" in worker_maps
    assert "libtorch" not in worker_maps
    code = (
        "import sys, stimcore.serve, stimcore.serve.client.embedded; print({'torch', 'onnxruntime', 'onnx'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_a_killed_worker_is_a_pause_not_an_error(start: Start) -> None:
    server = start()
    client = server.client()
    job = submit_long(client, count=60)
    server.until(lambda: client.job(job.id).state == "running")
    kill_worker(server)
    assert client.job(job.id).state == "running"
    done = client.wait(job.id)
    assert (done.state, done.error) == ("done", None)
    assert done.images == 300
    again = client.wait(client.submit(job_request("common", *done.request.specs[:5], fresh=True)).id)
    assert list(again.results) == list(done.results[:5])
    assert server.metric("stim_worker_restarts") == 1
    lines = [json.loads(line) for line in server.log.read_text(encoding="utf-8").splitlines()]
    assert [line["code"] for line in lines if line["event"] == "worker ended"] == [-9]


def test_an_inference_whose_worker_is_killed_is_done_by_the_next(start: Start) -> None:
    server = start()
    images = np.ones((8, 1, 12, 12), np.float32)
    words = in_binary(images.tobytes(), images.nbytes, shape=list(images.shape))
    expected = server.http.post(URL, **words).json()["outputs"][0]["data"]
    (worker,) = server.workers()
    worker.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(httpx.post, server.url + URL, timeout=60, **words) for _ in range(4)]
        server.until(lambda: server.metric("stim_calls_at_workers") + server.metric("stim_waiting_calls") == 4)
        kill_worker(server)
        answers = [future.result() for future in waiting]
    assert [answer.status_code for answer in answers] == [200] * 4
    for answer in answers:
        assert answer.json()["outputs"][0]["data"] == expected


@pytest.mark.slow
def test_an_evaluation_that_ends_its_worker_twice_fails(start: Start) -> None:
    server = start(limits=["crashes=10"])
    client = server.client()
    job = submit_long(client)
    for number in (1, 2):
        server.until(lambda starts=number: [line["event"] for line in server.lines()].count("worker ready") == starts)
        server.until(lambda: client.job(job.id).state == "running")
        kill_worker(server)
    failed = client.wait(job.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.code == "worker_crashed"
    assert [event.type for event in client.events(job.id)][-2:] == ["error", "done"]
    assert client.wait(client.submit(job_request("common", "d1-1-1")).id).state == "done"


@pytest.mark.slow
def test_repeated_crashes_turn_ready_off_and_live_stays(start: Start) -> None:
    server = start(limits=["crashes=2", "crash_window_s=4"])
    for _ in range(3):
        server.until(lambda: bool(server.workers()))
        kill_worker(server)
        server.until(lambda: not any(worker.status() == psutil.STATUS_ZOMBIE for worker in server.workers()))
        time.sleep(0.1)
    server.until(lambda: server.http.get("/v2/health/ready").status_code == 503)
    answer = server.http.get("/v2/health/ready")
    assert answer.json()["ready"] is False
    assert "keeps ending" in answer.json()["error"]
    assert "Retry-After" in answer.headers
    assert server.live()
    refused = server.http.post(URL, content=json.dumps(body()))
    assert refused.status_code == 503
    assert "keeps ending" in refused.json()["error"]
    server.wait_ready()
    assert server.http.post(URL, content=json.dumps(body())).status_code == 200


@pytest.mark.slow
def test_a_silent_worker_is_replaced(start: Start) -> None:
    server = start(limits=["silence_s=3", "start_s=60"])
    client = server.client()
    (worker,) = server.workers()
    worker.send_signal(signal.SIGSTOP)
    job = client.submit(job_request("common", "d1-1-1", fresh=True))
    assert client.wait(job.id).state == "done"
    assert any(line["event"] == "worker silent" for line in server.lines())


def test_a_worker_that_hangs_is_replaced_and_the_server_is_not_ready_meanwhile(start: Start) -> None:
    """A stopped process neither ends nor answers; nothing is asked of it, so that only the question whether it lives tells."""
    server = start(limits=["hang_s=3"])
    (worker,) = server.workers()
    began = time.monotonic()
    worker.send_signal(signal.SIGSTOP)
    server.until(lambda: server.http.get("/v2/health/ready").status_code == 503, 20)
    server.until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 20)
    assert time.monotonic() - began < 10
    server.wait_ready()
    assert server.http.post(URL, content=json.dumps(body())).status_code == 200
    assert any(line["event"] == "worker hung" for line in server.lines())


def test_a_call_that_goes_on_after_its_deadline_is_ended(start: Start) -> None:
    """Five in a row: the server ends its workers for that, and does not count it as crashes of them."""
    server = start(limits=["late_s=0.01", "crashes=1"])
    images = np.ones((1024, 1, 12, 12), np.float32)
    assert server.http.post(URL, content=json.dumps(body())).status_code == 200
    for number in range(5):
        specs = {"spec": f"d{number % 3 + 1}-{number // 3 + 1}-2", "timeout": 1_000}
        tensor_ = tensor(data=..., shape=list(images.shape), parameters={"binary_data_size": images.nbytes})
        words = binary(body(inputs=[tensor_], parameters=specs), images.tobytes())
        assert server.http.post(URL, **words).status_code in (200, 504)
        server.wait_ready()
    assert any(line["event"] == "call overdue" for line in server.lines())
    assert server.http.post(URL, content=json.dumps(body())).status_code == 200
    server.until(lambda: server.metric("stim_calls_at_workers") == 0)


def test_ready_means_that_the_next_request_is_answered(start: Start) -> None:
    server = start(wait=False)
    answers: list[httpx.Response] = []
    while not answers or answers[-1].status_code != 200:
        answers.append(server.http.get("/v2/health/ready"))
        assert server.live()
    assert server.http.post(URL, content=json.dumps(body())).status_code == 200
    assert {answer.status_code for answer in answers} <= {200, 503}
    for answer in answers[:-1]:
        assert answer.json() == {"ready": False, "error": "the server is starting.", "code": "busy"}


def test_an_occupied_port_is_one_sentence_and_leaves_no_process(exported: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = str(occupied.getsockname()[1])
        words = [sys.executable, "-m", "stimcore.serve", str(exported), "--device", "cpu", "--port", port]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err == f"error: 127.0.0.1:{port} can't be used (Address already in use). Give another --port, or 0 for a free one.\n"
    assert in_session(process.pid) == []


def test_signals_of_the_group_do_not_kill_the_worker_first(server: Running) -> None:
    (worker,) = server.workers()
    for number in (signal.SIGINT, signal.SIGTERM):
        worker.send_signal(number)
    time.sleep(0.2)
    assert server.http.post(URL, content=json.dumps(body())).status_code == 200
    assert server.workers() == [worker]


def test_when_the_front_is_killed_the_worker_goes(start: Start) -> None:
    server = start()
    client = server.client()
    submit_long(client)
    time.sleep(0.3)
    (worker,) = server.workers()
    server.process.kill()
    server.process.wait()
    assert psutil.wait_procs([worker], timeout=5)[1] == []


@pytest.mark.parametrize("by", ["SIGHUP", pytest.param("rescan", marks=pytest.mark.slow)])
def test_a_new_bundle_is_picked_up_without_dropping_requests(start: Start, exported: Path, tmp_path: Path, by: str) -> None:
    folder = tmp_path / "growing"
    folder.mkdir()
    server = start(folder)
    client = server.client()
    assert client.catalogue().experiments == []
    codes: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url) as http:
            while not stop.is_set():
                codes.append(http.post(URL, content=json.dumps(body())).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    server.until(lambda: len(codes) > 3)
    (folder / "tiny").symlink_to(exported / "tiny")
    if by == "SIGHUP":
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: bool(client.catalogue().experiments))
    else:
        assert client.rescan().experiments
    server.until(lambda: codes[-1] == 200)
    stop.set()
    asking.join()
    first = codes.index(200)
    assert set(codes[:first]) == {404}
    assert set(codes[first:]) == {200}


@pytest.mark.slow
def test_a_re_exported_bundle_is_another(start: Start, tmp_path: Path) -> None:
    folder = export(tmp_path / "exported", methods=("common",), num_images=60)
    server = start(folder)
    client = server.client()
    before = client.wait(client.submit(job_request("common", "d1-1-1")).id)
    fingerprint = client.catalogue().experiments[0].methods[0].fingerprint
    other = export(tmp_path / "other", methods=("stimulative", "common"), num_images=60)
    shutil.rmtree(folder / "tiny" / "common")
    shutil.copytree(other / "tiny" / "common", folder / "tiny" / "common")
    client.rescan()
    method = client.catalogue().experiments[0].methods[0]
    assert method.seed == 1
    assert method.fingerprint != fingerprint
    after = client.wait(client.submit(job_request("common", "d1-1-1")).id)
    # `export` stores a sweep with its last method
    assert after.source == "stored"
    assert after.results != before.results


def test_broken_bundles_are_listed_and_the_others_served(start: Start, own_exported: Path) -> None:
    weights = own_exported / "tiny" / "common" / "weights.bin"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)
    (own_exported / "odd" / "half").mkdir(parents=True)
    (own_exported / "odd" / "half" / "manifest.json").write_text('{"version": 1', encoding="utf-8")
    server = start(own_exported)
    catalogue = server.client().catalogue()
    assert [method.name for method in catalogue.experiments[0].methods] == ["stimulative"]
    messages = {problem.path: problem.message for problem in catalogue.problems}
    assert set(messages) == {"tiny/common", "odd/half"}
    assert "sha256 differs" in messages["tiny/common"]
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        rows = {row["name"]: row for row in client.get_model_repository_index()}
        assert rows["tiny.common"]["state"] == "UNAVAILABLE"
        assert "sha256" in rows["tiny.common"]["reason"]
    assert server.http.post(URL, content=json.dumps(body())).status_code == 404


def test_a_bundle_that_changes_behind_the_server_is_not_used(start: Start, own_exported: Path) -> None:
    server = start(own_exported)
    (own_exported / "tiny" / "common" / "weights.bin").write_bytes(b"something else")
    answer = server.http.post(URL, content=json.dumps(body()))
    assert answer.status_code == 503
    assert "sha256 differs" in answer.json()["error"]
    assert server.http.post(URL.replace("common", "stimulative"), content=json.dumps(body())).status_code == 200
