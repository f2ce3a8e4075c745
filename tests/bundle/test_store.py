"""Files that are added to a bundle: hashes change with them, the fingerprint does not, and a kill leaves nothing half."""

import dataclasses
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stimcore.bundle import Bundle, open_bundle, store
from stimcore.bundle.card import card
from stimcore.bundle.store import apply_update, recover, update_bundle, writing
from stimcore.export import latency
from stimcore.subnets.families import deletions, ordered
from stimcore.sweep.sweep import Settings, measured_sweep, store_sweep


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_stored_sweep_is_hashed_and_leaves_the_fingerprint(experiment: Path) -> None:
    before = open_bundle(experiment / "common")
    specs = list(deletions(before.topology))
    chosen = [*list(deletions(before.topology, 1)), specs[-1]]
    swept, measured = measured_sweep(before, chosen, "delete", Settings(device="cpu"))
    store_sweep(before, swept, measured)
    after = open_bundle(experiment / "common")
    assert after.fingerprint == before.fingerprint == (after.sweep("delete") or {})["bundle"]
    assert "sweep-delete.json" in after.manifest.hashes
    assert after.wall is not None
    assert before.wall is not None
    assert after.wall.images == before.wall.images
    for result in swept.results[:-1]:
        hits = after.hits(result.spec)
        assert hits is not None
        assert hits.sum() == result.correct
        assert result.spec in after.wall.states
    assert after.hits(swept.results[-1].spec) is None  # a larger deletion
    main = after.hits(after.topology.full)
    assert main is not None
    assert main.sum() == after.main.correct


def test_latencies_are_hashed(experiment: Path) -> None:
    bundle = open_bundle(experiment / "common")
    assert bundle.latency() is None
    assert latency.read(bundle) is None
    latency.write(bundle, {"latency_ms": {}, "latency_on": {}, "pareto": []})
    again = open_bundle(experiment / "common")
    assert again.latency() == {"latency_ms": {}, "latency_on": {}, "pareto": []}
    assert latency.read(again) is None  # of other files
    assert again.fingerprint == bundle.fingerprint


def test_a_bundle_that_was_opened_before_refuses_what_was_stored_since(experiment: Path) -> None:
    bundle = open_bundle(experiment / "common")
    full = [*list(ordered(bundle.topology))[:2], bundle.topology.full]
    store_sweep(bundle, *measured_sweep(bundle, full, "ordered", Settings(device="cpu")))
    assert bundle.sweep("ordered") is None
    assert open_bundle(experiment / "common").sweep("ordered") is not None


@pytest.mark.parametrize("moved", range(4))
def test_a_killed_update_is_finished_by_the_next(experiment: Path, moved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies before the update counts (0), or after it, with some of its three files in place."""
    folder = experiment / "common"
    before = files_of(folder)
    contents = {"latency.json": b"{}", "sweep-ordered.json": b"{}"}
    with monkeypatch.context() as patch:
        patch.setattr(store, "recover", lambda _: None)
        apply_update(folder, contents)
    if moved == 0:
        (folder / store.UPDATE).rename(folder / store.UNFINISHED)
    for name in ("latency.json", "sweep-ordered.json", "manifest.json")[: max(0, moved - 1)]:
        (folder / store.UPDATE / name).replace(folder / name)
    with writing(experiment):
        recover(folder)
    assert not any(path.name.startswith(".") for path in folder.iterdir())
    if moved == 0:
        assert files_of(folder) == before
    else:
        assert open_bundle(folder).read("latency.json") == b"{}"


def test_a_reader_waits_for_an_update_that_is_under_way(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It meets new files and the old manifest; a moment later the manifest is there, too."""
    folder = experiment / "common"
    update_bundle(folder, lambda _: {"latency.json": b"{}"})
    manifest = (folder / "manifest.json").read_bytes()
    update_bundle(folder, lambda _: {"latency.json": b'{"new": 1}'})
    newer = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(manifest)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        (folder / "manifest.json").write_bytes(newer)

    monkeypatch.setattr("stimcore.bundle.opening.time", SimpleNamespace(sleep=pause))  # other threads sleep, too
    assert open_bundle(folder).latency() == {"new": 1}
    assert len(pauses) == 1


def test_the_model_card_names_every_method(experiment: Path, small: list[Bundle]) -> None:
    text = (experiment / "README.md").read_text(encoding="utf-8")
    for bundle in small:
        assert f"`{bundle.method}`" in text
        assert f"{bundle.main.accuracy_pct:.2f}%" in text
    assert "evaluation.npz" in text
    assert json.dumps(small[0].experiment.preprocessing.to_dict()) in text


def test_the_programs_of_the_model_card_run(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = open_bundle(experiment / "common")
    odd = dataclasses.replace(first.experiment, classes=("a```b", *first.experiment.classes[1:]))
    programs = re.findall(r"^(`{3,})python\n(.*?)\n\1$", card(odd, [first]), re.DOTALL | re.MULTILINE)
    assert [fence for fence, _ in programs] == ["```", "````"]
    monkeypatch.chdir(experiment)
    monkeypatch.setattr(sys, "argv", ["program.py"])
    exec(compile(programs[0][1], "card", "exec"), {})
    assert float(capsys.readouterr().out) == first.main.correct / first.manifest.images
    compile(programs[1][1], "card", "exec")


def test_a_bundle_of_version_1_gets_files_without_hashes(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "exported" / "resnet20-fashion"
    if open_bundle(source / "common", verify=False).manifest.version > 1:
        pytest.skip("the committed bundles are of version 2 already")
    folder = tmp_path / "resnet20-fashion"
    folder.mkdir()
    for name in ("experiment.json", "calibration.npz", "evaluation.npz"):
        os.link(source / name, folder / name)
    shutil.copytree(source / "twin-d1-1-1", folder / "twin-d1-1-1")
    before = (folder / "twin-d1-1-1" / "manifest.json").read_bytes()
    update_bundle(folder / "twin-d1-1-1", lambda _: {"latency.json": b'{"latency_ms": {}}'})
    assert (folder / "twin-d1-1-1" / "manifest.json").read_bytes() == before
    assert open_bundle(folder / "twin-d1-1-1").latency() == {"latency_ms": {}}
