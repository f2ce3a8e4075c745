"""Trainings by request, in a real server with real training processes."""

import json
import signal
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from stimcore.bundle import open_bundle
from stimcore.errors import UsageError
from stimcore.serve import types
from stimcore.serve.client.client import Client
from stimcore.serve.errors import Busy, Denied, Forbidden, NotFound
from tests.serve.conftest import Start
from tests.serve.processes import Running
from tests.serve.training_requests import make_pictures, run_request

SECONDS = 120


@pytest.fixture
def training_server(start: Start, own_exported: Path, tmp_path: Path) -> Running:
    """A server that trains on a folder of pictures; its limits are reached by a third training."""
    folder = make_pictures(tmp_path / "pictures")
    words = ["--allow-training", "--train-folder", f"{folder}@16", "--runs", str(tmp_path / "runs")]
    return start(own_exported, words=words, limits=["trainings=2", "training_epochs=5000", "streams=1"])


def until(client: Client, name: str, *states: str) -> types.RunInfo:
    """Return a run once it is in one of these states."""
    end = time.monotonic() + SECONDS
    while (info := client.run(name)).state not in states:
        assert time.monotonic() < end, info
        time.sleep(0.1)
    return info


def children(server: Running) -> list[psutil.Process]:
    """Return the processes that train or export."""
    processes = []
    for process in psutil.Process(server.process.pid).children():
        try:
            if "stimcore.serve.training.child" in process.cmdline():
                processes.append(process)
        except psutil.Error:
            continue
    return processes


@pytest.mark.slow
def test_runs_wait_train_and_are_served(training_server: Running, own_exported: Path, tmp_path: Path) -> None:
    client = training_server.client()
    offer = client.training_offer()
    assert (offer.allowed, offer.reason, offer.max_epochs, offer.max_trainings) == (True, "", 5000, 2)
    assert [(data.name, data.per_class, data.num_classes) for data in offer.datasets][1:] == [("folder:pictures", 20, 2)]
    first = client.start_run(run_request())
    assert first.name == "resnet8-pictures-all-per-class-1-epoch/common-0"
    second = client.start_run(run_request(seed=1))
    assert (second.state, second.message) == ("queued", "1 before it")
    with pytest.raises(Busy, match="2 trainings wait or run"):
        client.start_run(run_request(seed=2))
    for again in (client.start_run(run_request()), client.continue_run(first.name)):
        assert again.name == first.name, "a request can be repeated without harm"
    assert client.stop_run(second.name).state == "stopped"
    for name in ("nobody/knows", "..%2F../etc", "tiny/common"):
        with pytest.raises(NotFound):
            client.run(name)
        with pytest.raises(NotFound):
            client.stop_run(name)
    events = list(client.run_events(first.name))  # until it has ended; this client asks for nothing else meanwhile
    assert [event.type for event in events if event.type != "state"] == ["epoch", "done"]
    assert events[-1].data == {"state": "done", "message": "", "bundle": "resnet8-pictures-all-per-class-1-epoch/common"}
    bundle = open_bundle(own_exported / str(events[-1].data["bundle"]))
    (experiment,) = [e for e in client.catalogue().experiments if e.name == bundle.path.parent.name]
    assert [method.fingerprint for method in experiment.methods] == [bundle.fingerprint]
    assert {info.name: info.state for info in client.runs()} == {first.name: "done", second.name: "stopped"}
    with pytest.raises(UsageError, match="is there already"):
        client.start_run(run_request())
    assert children(training_server) == []
    log = tmp_path / "runs" / first.name / "server.log"
    assert "epoch 1/1" in log.read_text(encoding="utf-8")


def test_who_may_not_train(start: Start, tmp_path: Path) -> None:
    server = start(
        token="correct-horse-battery", variables={"STIMCORE_READ_TOKEN": "another-long-secret"}, words=["--runs", str(tmp_path)]
    )
    admin, reader, nobody = server.client(), Client(server.url, "another-long-secret"), Client(server.url)
    assert not admin.training_offer().allowed
    for client, kind, words in (
        (admin, Forbidden, "--allow-training"),
        (reader, Forbidden, "read-only"),
        (nobody, Denied, "token"),
    ):
        for ask in (
            partial(client.start_run, run_request()),
            partial(client.stop_run, "a/b"),
            partial(client.continue_run, "a/b"),
        ):
            with pytest.raises(kind, match=words):
                ask()
    assert server.http.post("/v1/runs", json={}).status_code == 403, "whatever the body is"


@pytest.mark.slow
def test_a_run_is_stopped_and_continued_and_ends_with_its_server(training_server: Running, tmp_path: Path) -> None:
    client = training_server.client()
    name = client.start_run(run_request(epochs=4000)).name
    end = time.monotonic() + SECONDS
    while len(client.run(name).rows) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    (process,) = children(training_server)
    assert process.nice() >= 10
    client.stop_run(name)
    stopped = until(client, name, "stopped", "failed", "done")
    assert stopped.state == "stopped"
    assert not process.is_running()
    client.continue_run(name)
    while len(client.run(name).rows) <= len(stopped.rows):
        assert time.monotonic() < end
        time.sleep(0.1)
    rows = [row["epoch"] for row in client.run(name).rows]
    assert rows == list(range(1, len(rows) + 1)), "no epoch is lost or trained twice"
    (process,) = children(training_server)
    training_server.process.send_signal(signal.SIGKILL)
    process.wait(30)
    with Running(tmp_path / "exported", tmp_path / "again.log", words=["--runs", str(tmp_path / "runs")]) as again:
        (info,) = again.client().runs()
        assert (info.name, info.state, info.managed) == (name, "stopped", True)


@pytest.mark.slow
def test_a_failure_is_told_in_a_sentence_and_can_be_tried_again(start: Start, own_exported: Path, tmp_path: Path) -> None:
    words = ["--allow-training", "--train-network", "no_such_module:net", "--runs", str(tmp_path / "runs")]
    words += ["--train-folder", str(make_pictures(tmp_path / "pictures"))]
    client = start(own_exported, words=words).client()
    name = client.start_run(run_request(network="no_such_module:net")).name
    for _ in range(2):
        failed = until(client, name, "failed", "done")
        assert "no_such_module" in failed.message
        assert "Traceback" not in failed.message
        client.continue_run(name)


@pytest.mark.slow
def test_a_run_has_its_time(start: Start, own_exported: Path, tmp_path: Path) -> None:
    words = ["--allow-training", "--runs", str(tmp_path / "runs")]
    words += ["--train-folder", str(make_pictures(tmp_path / "pictures"))]
    client = start(own_exported, words=words, limits=["training_s=3", "training_epochs=100000"]).client()
    slow = until(client, client.start_run(run_request(epochs=100_000)).name, "stopped", "failed", "done")
    assert slow.state == "stopped", slow.message
    assert "3 s, the longest time here" in slow.message


def test_runs_of_another_server_are_listed_as_they_are(start: Start, tmp_path: Path) -> None:
    """A request without a run, a finished run that was not exported, and a folder that holds nonsense."""
    runs = tmp_path / "runs"
    request = run_request(epochs=2).model_dump(mode="json")
    for name, record in (("waited-0", None), ("trained-0", [1, 2]), ("broken-0", [])):
        (runs / "mine" / name).mkdir(parents=True)
        (runs / "mine" / name / "request.json").write_text("[" if name == "broken-0" else json.dumps(request), encoding="utf-8")
        if record:
            run = {"method": "common", "network": "resnet8", "recipe": {"epochs": 2}}
            (runs / "mine" / name / "run.json").write_text(json.dumps(run), encoding="utf-8")
            rows = "".join(json.dumps({"epoch": epoch, "seconds": 1.0}) + "\n" for epoch in record)
            (runs / "mine" / name / "training.jsonl").write_text(rows, encoding="utf-8")
    infos = {info.name: info for info in start(words=["--runs", str(runs)]).client().runs()}
    assert set(infos) == {"mine/waited-0", "mine/trained-0"}
    assert all(info.managed and info.state == "stopped" and not info.active for info in infos.values())
    assert infos["mine/trained-0"].message == "It is trained and not exported yet."
