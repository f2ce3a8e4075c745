"""The repository: odd names, names that collide, manifests that make no sense. An odd bundle never affects another one."""

import asyncio
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from stimcore.bundle import opening
from stimcore.serve.jobs.result_cache import read_stored
from stimcore.serve.repository import repository
from stimcore.serve.repository.describe import StaleSweep, stored_sweep
from stimcore.serve.repository.repository import ModelRepository
from stimcore.serve.service import Service, ServiceConfig
from stimcore.serve.types import Catalogue
from tests.serve.conftest import Start
from tests.serve.inference import body

ODD: tuple[Any, ...] = (None, [], {}, -1, 1e308, "x", [1], {"a": 1}, {"a": []}, "../../../etc/passwd")
ALLOWED = ("model..1", "a...", "a b", "Ä-ö", "x" * 255, "%2e%2e")


def changed(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a JSON value with odd things in place of itself, of each of its members, and of each of theirs."""
    for odd in ODD:
        yield f"{odd!r}", odd
    for key, item in value.items():
        for odd in ODD:
            yield f"{key}: {odd!r}", value | {key: odd}
        for inner in list(item)[:3] if isinstance(item, dict) else ():
            for odd in (None, [], -1, "x"):
                yield f"{key}.{inner}: {odd!r}", value | {key: item | {inner: odd}}
        yield f"no {key}", {other: value[other] for other in value if other != key}


@pytest.mark.parametrize("file", ["common/manifest.json", "experiment.json"])
def test_an_odd_manifest_does_not_affect_other_bundles(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setattr(opening, "PAUSE_S", 0)  # a broken bundle is tried again after a pause, here hundreds of times
    folder = tmp_path / "exported"
    shutil.copytree(exported / "tiny", folder / "tiny", ignore=lambda _, names: {"stimulative"} & set(names))
    shutil.copytree(folder / "tiny", folder / "other")
    path, num_problems = folder / "tiny" / file, 0
    value = json.loads(path.read_text(encoding="utf-8"))
    texts = [(what, json.dumps(odd).encode()) for what, odd in changed(value)]
    texts += [("deep", b'{"version": 1, "topology": ' + b"[" * 100_000), ("empty", b""), ("no text", b"\xff\xfe\0")]
    for what, text in texts:
        path.write_bytes(text)
        snapshot = ModelRepository(folder, folder).scan()
        json.loads(snapshot.catalogue.model_dump_json())
        assert ("other", "common") in snapshot.bundles, what
        num_problems += ("tiny", "common") not in snapshot.bundles
        assert (("tiny", "common") in snapshot.bundles) is (snapshot.problems == ()), what
    assert num_problems > 100


def test_any_name_of_a_folder_works(start: Start, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "named"
    folder.mkdir()
    for name in ALLOWED:
        (folder / name).symlink_to(exported / "tiny")
    server = start(folder)
    client = server.client()
    assert sorted(experiment.name for experiment in client.catalogue().experiments) == sorted(ALLOWED)
    for name in ALLOWED:
        answer = server.http.post(f"/v2/models/{quote(name, safe='')}.common/infer", content=json.dumps(body()))
        assert answer.status_code == 200, (name, answer.text)
        assert client.check_spec(name, "d1-1-1").valid
        assert client.training(name, "common")
    assert len(client.onnx("x" * 255, "common", "d1-1-1")) > 10_000


def test_the_first_of_two_bundles_with_the_same_names_is_served(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    shutil.copytree(exported / "tiny", folder / "a.b")
    shutil.copytree(exported / "tiny", folder / "a")
    (folder / "a" / "common").rename(folder / "a" / "b.common")
    shutil.rmtree(folder / "a" / "stimulative")
    snapshot = ModelRepository(folder, folder).scan()
    assert set(snapshot.bundles) == {("a", "b.common"), ("a.b", "stimulative")}
    (problem,) = snapshot.problems
    assert problem.path == "a.b/common"
    assert "names are those of a/b.common" in problem.message
    assert snapshot.models["a.b.common"].bundle is snapshot.bundles["a", "b.common"]


def test_a_bad_file_or_name_takes_away_its_bundle_alone(start: Start, exported: Path, tmp_path: Path) -> None:
    """Loops of links stand for files that can't be read: they fail for root too."""
    folder = tmp_path / "exported"
    shutil.copytree(exported / "tiny", folder / "good")
    for name in ("loop-manifest", "loop-weights", "loop-experiment", "deep-sweep", "deep-experiment"):
        shutil.copytree(exported / "tiny", folder / name)
    for path in (
        folder / "loop-manifest" / "common" / "manifest.json",
        folder / "loop-weights" / "common" / "weights.bin",
        folder / "loop-experiment" / "experiment.json",
    ):
        path.unlink()
        path.symlink_to(path.name)
    (folder / "deep-sweep" / "stimulative" / "sweep-ordered.json").write_bytes(b'{"results": ' + b"[" * 100_000)
    (folder / "deep-experiment" / "experiment.json").write_bytes(b'{"version": 1, "topology": ' + b"[" * 100_000)
    shutil.copytree(exported / "tiny", os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))
    server = start(folder)
    catalogue = server.client().catalogue()
    served = {experiment.name: [method.name for method in experiment.methods] for experiment in catalogue.experiments}
    assert served["good"] == ["common", "stimulative"]
    assert "stimulative" in served["loop-manifest"]
    assert served["loop-weights"] == ["stimulative"]
    assert served["deep-sweep"][0] == "common"
    assert not {"loop-experiment", "deep-experiment"} & set(served)
    problems = {problem.path: problem.message for problem in catalogue.problems}
    assert {"loop-weights/common", "loop-experiment/common", "deep-experiment/common", "caf\\udce9/common"} <= set(problems)
    assert "not UTF-8" in problems["caf\\udce9/common"]
    for url in ("/v2/health/ready", "/v1/catalogue", "/metrics", "/openapi.json"):
        assert server.http.get(url).status_code == 200
    assert server.http.post("/v2/repository/index").status_code == 200
    assert server.http.post("/v1/rescan").status_code == 200
    assert server.http.post("/v2/models/good.common/infer", content=json.dumps(body())).status_code == 200


def test_what_has_changed_is_opened_again_and_nothing_else(own_exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PAUSE_S", 0)
    monkeypatch.setattr(repository, "REPLACED_S", 0)
    models = ModelRepository(own_exported, own_exported)
    assert models.changed(), "nothing has been opened yet"
    models.put(models.scan())
    before = dict(models.snapshot.bundles)
    assert not models.changed()
    weights = own_exported / "tiny" / "common" / "weights.bin"
    kept = weights.read_bytes()
    weights.write_bytes(b"x" + kept[1:])
    assert models.changed()
    models.put(models.scan(everything=False))
    assert not models.changed(), "a problem is looked at once"
    problem = models.snapshot.problems[0]
    assert problem.path == "tiny/common"
    assert problem.message.endswith("sha256 differs. Export the run again. The version that was opened before is still served.")
    assert all(models.snapshot.bundles[key] is bundle for key, bundle in before.items())
    models.put(models.scan(everything=False))
    assert list(models.snapshot.problems) == [problem], "the sentence does not grow from scan to scan"
    weights.write_bytes(kept)
    assert models.changed()
    models.put(models.scan(everything=False))
    assert list(models.snapshot.problems) == []
    assert models.snapshot.bundles["tiny", "stimulative"] is before["tiny", "stimulative"], "its files are the same"
    models.put(models.scan())
    assert models.snapshot.bundles["tiny", "stimulative"] is not before["tiny", "stimulative"], "everything is opened"


def test_a_folder_that_is_being_replaced_is_not_gone(own_exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two renamings of an export there is no bundle; the scan waits for the second one."""
    models = ModelRepository(own_exported, own_exported)
    models.put(models.scan())
    folder, old = own_exported / "tiny" / "common", own_exported / "tiny" / ".common.old"
    folder.rename(old)
    pause = SimpleNamespace(sleep=lambda _: old.rename(folder))  # other threads sleep, too
    monkeypatch.setattr("stimcore.serve.repository.repository.time", pause)
    assert ("tiny", "common") in models.scan(everything=False).bundles


def test_a_folder_that_lost_all_its_bundles_is_a_problem(own_exported: Path) -> None:
    """What a volume leaves behind that is not mounted any more: an empty folder, or none."""
    repository = ModelRepository(own_exported, own_exported / "runs")
    repository.put(repository.scan())
    assert not repository.lost
    shutil.rmtree(own_exported / "tiny")
    for left in (own_exported, None):
        repository.put(repository.scan(everything=False))
        assert repository.lost
        (problem,) = repository.snapshot.catalogue.problems
        assert problem.message.startswith("The folder holds no bundle any more: ")
        if left is not None:
            shutil.rmtree(left)
    empty = ModelRepository(own_exported, own_exported / "runs")
    empty.put(empty.scan())
    assert not empty.lost
    assert not empty.snapshot.problems, "nothing was exported yet"


def test_scans_that_wait_are_one(own_exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hashes all files; four who asked at once waited for four of them."""
    service = Service(ServiceConfig(folder=own_exported, devices=("cpu",)))
    scan, begun, release = service._scan, threading.Event(), threading.Event()
    scans = []

    def slowly(everything: bool) -> Any:
        scans.append(everything)
        begun.set()
        assert release.wait(30)
        return scan(everything)

    monkeypatch.setattr(service, "_scan", slowly)

    async def ask() -> list[Catalogue]:
        first = asyncio.create_task(service.rescan())
        await asyncio.to_thread(begun.wait, 30)
        # what these know of may have been written after the first scan read its files
        others = [asyncio.create_task(service.rescan()) for _ in range(4)]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(first, *others)

    assert [len(catalogue.experiments) for catalogue in asyncio.run(ask())] == [1] * 5
    assert scans == [True, True]


def test_a_sweep_of_other_networks_is_refused_and_its_bundle_served(own_exported: Path) -> None:
    """In a bundle of version 1, sweeps have no hash; each names the bundle that it was measured with."""
    path = own_exported / "tiny" / "stimulative" / "sweep-ordered.json"
    sweep = json.loads(path.read_text(encoding="utf-8"))
    for fingerprint, fits in (("0" * 64, False), (None, True)):
        bundle = opening.open_bundle(path.parent, verify=False)
        value = sweep | {"bundle": fingerprint or bundle.fingerprint}
        stored = json.dumps(value).encode()
        manifest = json.loads((path.parent / "manifest.json").read_text(encoding="utf-8"))
        manifest["hashes"][path.name] = hashlib.sha256(stored).hexdigest()
        path.write_bytes(stored)
        (path.parent / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        (key,) = [key for key in ModelRepository(own_exported, own_exported).scan().bundles if key[1] == "stimulative"]
        bundle = ModelRepository(own_exported, own_exported).scan().bundles[key]
        if fits:
            assert stored_sweep(bundle, "ordered") == value
        else:
            with pytest.raises(StaleSweep, match="was measured with other networks"):
                stored_sweep(bundle, "ordered")
        assert (read_stored([bundle]) == {}) is not fits


def test_a_problem_belongs_to_the_models_of_its_bundle_alone(exported: Path, tmp_path: Path) -> None:
    """Names of models have dots where those of folders and files end, and within them."""
    folder = tmp_path / "exported"
    for name in ("depth-0", "depth-0.5", "depth", "wide.3"):
        shutil.copytree(exported / "tiny" / "common", folder / "tiny" / name)
    for path in (exported / "tiny").iterdir():
        if path.is_file():
            shutil.copy(path, folder / "tiny")
    models = ModelRepository(folder, folder)
    models.put(models.scan())
    served = [name for name in models.snapshot.models if name.startswith("tiny.depth-0.5")]
    for name in ("depth-0", "wide.3"):
        (folder / "tiny" / name / "manifest.json").write_text("{}")
    later = ModelRepository(folder, folder)  # a server that has never opened the broken bundles
    later.put(later.scan())

    def blamed(repository_: ModelRepository, name: str) -> str:
        problem = repository_.problem(name)
        return "" if problem is None else problem.path

    models.put(models.scan())
    assert {problem.path for problem in models.snapshot.problems} == {"tiny/depth-0", "tiny/wide.3"}
    for each in (models, later):
        assert len(served) > 2
        assert {blamed(each, name) for name in (*served, "tiny.depth-0.5.d1-1-1", "tiny.depth", "tiny.nothing")} == {""}
        assert {blamed(each, f"tiny.depth-0{end}") for end in ("", ".main", ".d1-1-1", ".unheard-of")} == {"tiny/depth-0"}
        assert {blamed(each, f"tiny.wide.3{end}") for end in ("", ".main")} == {"tiny/wide.3"}
