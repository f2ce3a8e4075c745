"""A run counts as in progress as long as its epochs may take, and no longer."""

import asyncio
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from stimcore.serve.repository.runs import runs_under
from stimcore.serve.service import Service, ServiceConfig
from stimcore.serve.types import RunInfo
from tests.serve.conftest import Start


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
    began = time.process_time()
    (info,) = runs_under(tmp_path)
    assert time.process_time() - began < 1, "of two megabytes' work, on any machine"
    assert 1_000 < len(info.rows) < 20_000
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


def test_who_asks_for_runs_gets_them_as_they_are_now(tmp_path: Path) -> None:
    service = Service(ServiceConfig(folder=tmp_path, runs=tmp_path / "runs", devices=("cpu",)))
    assert asyncio.run(service.runs()) == []
    run(tmp_path / "runs" / "experiment" / "common-0", [1.0], 0)
    assert [info.name for info in asyncio.run(service.runs())] == ["experiment/common-0"]
