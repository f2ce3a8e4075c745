"""A run counts as in progress as long as its epochs may take, and no longer."""

import asyncio
import dataclasses
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from stimcore.serve.errors import Late
from stimcore.serve.http.v1 import runs as runs_of_v1
from stimcore.serve.limits import Limits
from stimcore.serve.repository.runs import runs_under
from stimcore.serve.service import Service, ServiceConfig
from stimcore.serve.types import RunEvent, RunInfo
from tests.serve.conftest import Start
from tests.serve.evaluations import submit_long
from tests.serve.processes import Running


def run(folder: Path, seconds: list[float], age_s: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"method": "common", "recipe": {"epochs": 4}}), encoding="utf-8")
    rows = [json.dumps({"epoch": i + 1, "seconds": value}) for i, value in enumerate(seconds)]
    (folder / "training.jsonl").write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    then = time.time() - age_s
    for path in folder.iterdir():
        os.utime(path, (then, then))
    return folder


@pytest.mark.parametrize(
    ("seconds", "age_s", "active"),
    [
        ([], 500, True),  # the length of an epoch is not known yet
        ([], 700, False),
        ([1.0], 100, True),
        ([1.0], 200, False),
        ([300.0, 20.0], 800, True),  # three times its longest epoch
        ([300.0, 20.0], 1000, False),
        ([1.0, 1.0, 1.0, 1.0], 1, False),  # all epochs are there
    ],
)
def test_what_is_in_progress(tmp_path: Path, seconds: list[float], age_s: float, active: bool) -> None:
    run(tmp_path / "experiment" / "common-0", seconds, age_s)
    (info,) = runs_under(tmp_path)
    assert info.active is active
    assert len(info.rows) == len(seconds)


def folder_of_bad_runs(root: Path) -> Path:
    """Write runs of which each breaks a rule in its own way, and a good one."""
    good = run(root / "experiment" / "good", [1.0, 2.0], 5)
    texts = {
        "infinite": b'{"method": "common", "recipe": {"epochs": 1e999}}',
        "bad-byte": b'{"method": "comm\xffon", "recipe": {"epochs": 4}}',
        "deep": b'{"method": "common", "recipe": ' + b"[" * 100_000,
        "list": b"[]",
        "null": b'{"method": null, "recipe": null}',
    }
    for name, text in texts.items():
        shutil.copytree(good, root / "experiment" / name)
        (root / "experiment" / name / "run.json").write_bytes(text)
    for name, text in {
        "deep-row": b'{"epoch": 1}\n' + b'{"a": ' * 50_000,
        "nested-row": b'{"epoch": 1, "a": ' + b"[" * 500 + b"]" * 500 + b"}\n",
        "huge-number": b'{"epoch": 1e999, "seconds": 1e999}\n',
        "half-a-pair": b'{"epoch": 1, "note": "\\ud800", "\\udfff": 1}\n',
        "bad-row": b"\xff\xfe\n",
    }.items():
        shutil.copytree(good, root / "experiment" / name)
        (root / "experiment" / name / "training.jsonl").write_bytes(text)
    shutil.copytree(good, root / "experiment" / "half-method")
    (root / "experiment" / "half-method" / "run.json").write_text('{"method": "\\ud800", "recipe": {}}')
    shutil.copytree(good, os.fsdecode(os.fsencode(root / "experiment") + b"/caf\xe9"))
    loop = root / "experiment" / "loop"
    loop.mkdir()
    (loop / "run.json").symlink_to("run.json")
    return root


def test_a_bad_run_takes_away_itself_alone(start: Start, tmp_path: Path) -> None:
    root = folder_of_bad_runs(tmp_path / "runs")
    server = start(words=["--runs", str(root)])
    infos = {info.name: info for info in server.client().runs()}
    assert len(infos["experiment/good"].rows) == 2
    assert set(infos) == {
        f"experiment/{name}"
        for name in ("good", "deep-row", "nested-row", "huge-number", "half-a-pair", "bad-row", "half-method", "caf\\udce9")
    }
    assert infos["experiment/huge-number"].rows == [{"epoch": None, "seconds": None}]
    assert infos["experiment/half-a-pair"].rows == [{"epoch": 1, "note": "\\ud800", "\\udfff": 1}]
    assert infos["experiment/bad-row"].rows == []


def test_a_long_record_is_read_from_its_end(tmp_path: Path) -> None:
    folder = run(tmp_path / "experiment" / "common-0", [], 1)
    (folder / "run.json").write_text(json.dumps({"method": "common", "recipe": {"epochs": 200_000}}))
    row = {"epoch": 0, "seconds": 1.0, "losses": {"loss": 1.5}, "more": "x" * 60}
    with (folder / "training.jsonl").open("w") as file:
        file.writelines(json.dumps(row | {"epoch": epoch}) + "\n" for epoch in range(1, 200_001))
    assert (folder / "training.jsonl").stat().st_size > 20_000_000
    (info,) = runs_under(tmp_path)
    assert 1_000 < len(info.rows) < 20_000, "of two megabytes, not of all"
    assert info.rows[-1]["epoch"] == 200_000
    assert not info.active, "the last row is that of the last epoch, although not all rows were read"


def test_streams_that_watch_a_run_share_one_look_at_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "runs" / "experiment" / "common-0", [1.0], 0)
    service = Service(ServiceConfig(folder=tmp_path, runs=tmp_path / "runs", devices=("cpu",)))
    looks = iter([service.repository.runs()])
    monkeypatch.setattr(service.repository, "runs", lambda: next(looks))  # a second look would be an error

    async def watch() -> list[RunInfo]:
        return await asyncio.gather(*(service.run("experiment/common-0", within_s=3600) for _ in range(30)))

    assert [info.state for info in asyncio.run(watch())] == 30 * ["training"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", ["run.json", "training.jsonl"])
def test_a_pipe_in_place_of_a_file_takes_away_its_run_alone(tmp_path: Path, name: str) -> None:
    for which in ("common-0", "pipe-0"):
        run(tmp_path / "experiment" / which, [1.0], 0)
    (tmp_path / "experiment" / "pipe-0" / name).unlink()
    os.mkfifo(tmp_path / "experiment" / "pipe-0" / name)
    assert [info.name for info in runs_under(tmp_path)] == ["experiment/common-0"]


def test_folders_that_do_not_answer_are_a_sentence_and_keep_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a network file system whose server is gone: the event loop must be able to end meanwhile."""
    limits = dataclasses.replace(Limits(), call_s=0.05)
    service = Service(ServiceConfig(folder=tmp_path, runs=tmp_path, devices=("cpu",), limits=limits))
    answers, looks = threading.Event(), []

    def stuck() -> list[RunInfo]:
        looks.append(threading.current_thread().daemon)
        answers.wait(30)
        return []

    monkeypatch.setattr(service.repository, "runs", stuck)

    async def ask() -> list[RunInfo]:
        for _ in range(3):
            with pytest.raises(Late, match=r"the run folders were not read within 0\.05 s\. Look whether"):
                await service.runs()
        answers.set()
        return await service.runs(within_s=3600)

    assert asyncio.run(ask()) == []
    assert looks == [True], "one look, whoever asks, in a thread that the end of the process does not wait for"


def test_who_asks_for_runs_gets_them_as_they_are_now(tmp_path: Path) -> None:
    service = Service(ServiceConfig(folder=tmp_path, runs=tmp_path / "runs", devices=("cpu",)))
    assert asyncio.run(service.runs()) == []
    run(tmp_path / "runs" / "experiment" / "common-0", [1.0], 0)
    assert [info.name for info in asyncio.run(service.runs())] == ["experiment/common-0"]


@pytest.fixture
def watched(start: Start, tmp_path: Path) -> Running:
    """A server whose runs lie in `tmp_path/runs`; `experiment/common-0` is in progress and has three epochs."""
    run(tmp_path / "runs" / "experiment" / "common-0", [1.0, 1.0, 1.0], 0)
    return start(words=["--runs", str(tmp_path / "runs")])


@pytest.mark.slow
def test_streams_of_runs_and_of_jobs_are_counted_alike(watched: Running) -> None:
    client = watched.client()
    of_run, of_job = client.run_events("experiment/common-0"), client.events(submit_long(client).id)
    for number, events in ((1.0, of_run), (2.0, of_job)):
        next(events)
        assert watched.metric("stim_streams") == number
    for events in (of_run, of_job):
        events.close()  # type: ignore[union-attr]  # both are generators
    watched.until(lambda: watched.metric("stim_streams") == 0)


def first_events(server: Running, count: int, last: int = 0) -> list[RunEvent]:
    events = server.client().run_events("experiment/common-0", last)
    return [next(events) for _ in range(count)]


def test_a_client_that_reconnects_misses_no_epoch_whatever_it_saw_last(watched: Running) -> None:
    events = first_events(watched, 4)
    assert [(event.id, event.type) for event in events] == [(0, "state"), (1, "epoch"), (2, "epoch"), (3, "epoch")]
    for seen in range(1, 4):
        again = first_events(watched, 5 - seen, last=events[seen - 1].id)
        assert [event.data.get("epoch") for event in again[1:]] == list(range(seen, 4)), "each epoch once"
        ids = [event.id for event in again]
        assert ids == sorted(ids), "ids never go backwards"


def test_a_stream_ends_in_order_when_the_folder_of_its_run_is_deleted(watched: Running, tmp_path: Path) -> None:
    events = watched.client().run_events("experiment/common-0")
    assert next(events).type == "state"
    shutil.rmtree(tmp_path / "runs" / "experiment")
    *_, done = events  # an end without its last chunk would be an error here
    assert (done.id, done.type) == (3, "done")
    assert done.data == {"state": "failed", "message": "The folder of the run is gone.", "bundle": ""}
    lines = [json.loads(line) for line in watched.log.read_text(encoding="utf-8").splitlines()]
    assert not any("traceback" in line or line["event"] == "failed" for line in lines)


def test_a_stream_goes_on_when_its_run_is_away_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "runs" / "experiment" / "common-0", [1.0, 1.0], 0)
    service = Service(ServiceConfig(folder=tmp_path, runs=tmp_path / "runs", devices=("cpu",)))
    (info,) = service.repository.runs()
    looks = iter([[info], [], [info.model_copy(update={"state": "stopped"})]])  # as while its files are written anew
    monkeypatch.setattr(service.repository, "runs", lambda: next(looks))
    monkeypatch.setattr(runs_of_v1, "RUN_POLL_S", 0.0)

    async def read() -> list[bytes]:
        return [event.split(b"\n")[1] async for event in runs_of_v1.run_stream(service, info.name, 0)]

    assert asyncio.run(read()) == [b"event: state", b"event: epoch", b"event: epoch", b"event: done"]


def test_epochs_of_odd_records_have_ids_that_grow() -> None:
    def ids(*epochs: object) -> list[int]:
        rows = [{"epoch": epoch} for epoch in epochs]
        info = RunInfo(name="a/b", method="common", epochs=9000, rows=rows, active=True)
        return [number for number, _ in runs_of_v1.numbered(info)]

    assert ids(1, 2, 3) == [1, 2, 3]
    assert ids(8001, 8002) == [8001, 8002], "the first records of a long run are not read"
    assert ids(2, 2, 3, None, "x", -5, 10**30) == [2, 3, 4, 5, 6, 7, 8]
