"""Sweeps: whole families, shares, several processes, journals, dask."""

import errno
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stimcore.analysis.result import Sweep
from stimcore.bundle import Bundle, Hits, open_bundle
from stimcore.bundle.__main__ import main as bundle_command
from stimcore.bundle.manifest import MAIN
from stimcore.engine.engine import Engine
from stimcore.errors import Unavailable, UsageError
from stimcore.files import read_jsonl
from stimcore.subnets.families import deletions, ordered
from stimcore.sweep import __main__ as command
from stimcore.sweep.__main__ import main
from stimcore.sweep.sweep import Settings, split, sweep

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stimcore.sweep", *arguments, "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def truth(small: list[Bundle]) -> Sweep:
    return ordered_sweep(small[0])


def ordered_sweep(bundle: Bundle, *, jobs: int = 1, journal: Path | None = None, scheduler: str | None = None) -> Sweep:
    settings = Settings(device="cpu", num_jobs=jobs, journal=journal, scheduler=scheduler)
    return sweep(bundle, list(ordered(bundle.topology)), "ordered", settings)


def test_the_numbers_are_the_manifests(small: list[Bundle], truth: Sweep) -> None:
    stored = {entry.spec: entry.correct for entry in small[0].manifest.networks.values()}
    assert {str(result.spec): result.correct for result in truth.results} == stored
    value = json.loads(json.dumps(truth.to_dict()))
    assert list(value) == ["experiment", "method", "kind", "provider", "bundle", "images", "main", "results"]
    assert Sweep.from_dict(value) == truth


def test_two_processes_give_the_same_results(small: list[Bundle], truth: Sweep) -> None:
    assert ordered_sweep(small[0], jobs=2) == truth


def test_a_sweep_continues_from_its_journal(small: list[Bundle], truth: Sweep, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    wall = small[0].wall
    assert wall is not None
    head = {"bundle": small[0].fingerprint, "kind": "ordered", "device": "cpu", "wall": list(wall.images)}
    # what a killed sweep leaves: some results, recognised here by an impossible accuracy, and half a line
    known = [
        {**result.to_dict(), "accuracy_pct": -1.0, "provider": "p", "hits": None, "answers": None}
        for result in truth.results[:10]
    ]
    journal.write_text("".join(json.dumps(row) + "\n" for row in [head, *known]) + '{"spec": "1-')
    resumed = ordered_sweep(small[0], journal=journal)
    assert [result.accuracy_pct for result in resumed.results[:10]] == [-1] * 10
    assert resumed.results[10:] == truth.results[10:]
    assert not journal.exists()


@pytest.mark.parametrize("change", [{"bundle": "other"}, {"device": "cuda"}, {"kind": "delete"}, {}])
def test_a_journal_of_another_sweep_is_not_used(
    small: list[Bundle], truth: Sweep, tmp_path: Path, change: dict[str, str]
) -> None:
    journal = tmp_path / "journal.jsonl"
    head = {"bundle": small[0].fingerprint, "kind": "ordered", "device": "cpu", **change}
    row = {**truth.results[0].to_dict(), "accuracy_pct": -1.0, "provider": "p"}
    if not change:  # the same sweep, written by a version whose results had other keys
        del row["drop_pct"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in [head, row]))
    assert ordered_sweep(small[0], journal=journal) == truth


def test_a_killed_sweep_leaves_its_finished_shares(
    small: list[Bundle], truth: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stimcore.sweep.sweep.SHARE_SPECS", 9)
    journal = tmp_path / "journal.jsonl"
    settings = Settings(device="cpu", journal=journal)
    specs = list(ordered(small[0].topology))

    def stop(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(small[0], specs, "ordered", settings, report=stop)
    assert len(read_jsonl(journal)) >= 1 + 9
    reports: list[tuple[int, int]] = []
    assert sweep(small[0], specs, "ordered", settings, report=lambda *counts: reports.append(counts)) == truth
    assert reports[0][0] >= 9
    assert reports[-1] == (27, 27)


def test_shares_hold_every_spec_once_and_lie_together(small: list[Bundle]) -> None:
    specs = list(deletions(small[0].topology))
    shares = split(random.Random(0).sample(specs, len(specs)), 2)
    assert sorted(spec for share in shares for spec in share) == sorted(specs)
    assert max(map(len, shares)) <= 48
    flat = [spec.blocks for share in shares for spec in share]
    assert flat == sorted(flat)


def test_the_command(small: list[Bundle], tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    done = run(str(small[0].path), "--kind", "delete", "--limit", "4", "--json", str(target))
    assert done.returncode == 0, done.stderr
    value = json.loads(target.read_text())
    assert len(value["results"]) == 4
    assert value["images"] == 400
    done = run(str(small[0].path), "--kind", "permute", "--limit", "2", "--json", "-")
    assert json.loads(done.stdout)["kind"] == "permute"


def test_what_was_measured_is_kept_where_it_could_not_be_stored(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(small[0].experiment.path, tmp_path / "exported") / small[0].method
    arguments = [str(path), "--kind", "delete", "--device", "cpu", "--store", "--quiet"]

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "hits.npz")

    with monkeypatch.context() as patch:
        patch.setattr(command, "store_sweep", full)
        with pytest.raises(OSError, match="No space left"):
            command.main(arguments)
    assert not capsys.readouterr().out, "nothing is promised before it is stored"
    assert (path / ".sweep-delete.jsonl").exists()
    monkeypatch.setattr("stimcore.sweep.sweep.evaluate_share", None)  # nothing is measured again
    assert command.main(arguments) == 0
    assert open_bundle(path).sweep("delete") is not None
    assert not (path / ".sweep-delete.jsonl").exists()


def test_long_names_of_ordered_networks_are_printed_as_depths(
    small: list[Bundle], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "WIDE", 8)
    assert main([str(small[0].path), "--kind", "ordered", "--limit", "3", "--device", "cpu", "--quiet"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(names) == 3
    assert all(name.startswith("d") or len(name) <= 8 for name in names)
    assert any(name.startswith("d") for name in names)


def test_a_sample_is_stored_as_one(small: list[Bundle], tmp_path: Path) -> None:
    """Tables and gaps read the hits; nothing takes the file for the whole family."""
    path = Path(shutil.copytree(small[0].experiment.path, tmp_path / "small")) / small[0].method
    # as an export of the main network alone leaves it: nothing but the sample knows the other sub-networks
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["networks"] = {MAIN: manifest["networks"][MAIN]}
    for listed_file in path.glob("subnet-*.onnx"):
        listed_file.unlink()
    hits = Hits(manifest["images"], {}).to_bytes()
    (path / "hits.npz").write_bytes(hits)
    manifest["hashes"] |= {"hits.npz": hashlib.sha256(hits).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert main([str(path), "--kind", "ordered", "--limit", "3", "--seed", "5", "--store", "--quiet"]) == 0
    bundle = open_bundle(path)
    stored = Sweep.from_dict(json.loads(bundle.read("sample-ordered.json")))
    assert (stored.sampled, len(stored.results), bundle.sweeps) == (5, 3, [])
    listed = {entry.spec: entry.correct for entry in small[0].manifest.networks.values()}
    assert [result.correct for result in stored.results] == [listed[str(result.spec)] for result in stored.results]
    assert [bundle.known_correct(result.spec) for result in stored.results] == [r.correct for r in stored.results]
    assert bundle_command(["verify", str(bundle.experiment.path)]) == 0
    # a sample that is as large as its family is the family
    assert main([str(path), "--kind", "ordered", "--limit", "27", "--store", "--quiet"]) == 0
    assert open_bundle(path).sweeps == ["ordered"]
    with pytest.raises(ValueError, match="sampled is 'x'"):
        Sweep.from_dict(stored.to_dict() | {"sampled": "x"})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kind", "delete", "--jobs", "0"], "--jobs 0"),
        (["--kind", "shuffle"], "invalid choice"),
        (["--kind", "delete", "--device", "tpu"], "there is no device 'tpu'"),
        (["--kind", "delete", "--scheduler", "localhost"], "tcp://HOST:PORT"),
    ],
)
def test_wrong_use_ends_with_a_sentence(small: list[Bundle], arguments: list[str], says: str) -> None:
    done = run(str(small[0].path), *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_a_bundle(tmp_path: Path) -> None:
    done = run(str(tmp_path / "nothing"), "--kind", "delete")
    assert done.returncode == 2
    assert f"there is no folder {tmp_path / 'nothing'}" in done.stderr


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_dask_workers_give_the_same_results(small: list[Bundle], truth: Sweep, scheduler: str) -> None:
    assert ordered_sweep(small[0], jobs=2, scheduler=scheduler) == truth


def test_a_missing_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from stimcore.sweep import parallel

    monkeypatch.setattr(parallel, "CONNECT_S", 1.0)
    with pytest.raises(UsageError, match="tcp://HOST:PORT"):
        list(parallel.run(len, [((),)], scheduler="host:1"))
    with pytest.raises(Unavailable, match="no scheduler answers"):
        list(parallel.run(len, [((),)], scheduler="tcp://127.0.0.1:9"))


def test_without_recalibration_it_is_another_sweep(small: list[Bundle], truth: Sweep, tmp_path: Path) -> None:
    """It is stored beside the other one, and leaves hits and answers alone, which are of re-calibrated networks."""
    folder = tmp_path / "small"
    shutil.copytree(small[0].path.parent, folder)
    bundle = open_bundle(folder / small[0].path.name)
    assert bundle.all_hits is not None
    before = bundle.all_hits.to_bytes()
    words = [str(bundle.path), "--kind", "ordered", "--as-trained", "--store", "--quiet", "--device", "cpu", "--json", "-"]
    begun = bundle.path / ".sweep-ordered.jsonl"  # by a sweep with re-calibration that was stopped
    begun.write_text("its results", encoding="utf-8")
    assert main(words) == 0
    assert begun.read_text(encoding="utf-8") == "its results"
    stored = open_bundle(bundle.path)
    value = stored.sweep("ordered-as-trained")
    assert value is not None
    raw = Sweep.from_dict(value)
    assert [result.spec for result in raw.results] == [result.spec for result in truth.results]
    *_, last = Engine(bundle, device="cpu").evaluate([truth.results[0].spec], recalibrate=False)
    assert raw.results[0].correct == last.results[truth.results[0].spec].correct
    assert [result.correct for result in raw.results] != [result.correct for result in truth.results]
    assert stored.sweeps == bundle.sweeps
    assert stored.all_hits is not None
    assert stored.all_hits.to_bytes() == before


def test_a_network_without_batch_norms_has_nothing_to_leave_as_trained(
    small: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bundle, "has_batch_norms", False)
    with pytest.raises(UsageError, match="which has no batch norms"):
        main([str(small[0].path), "--kind", "ordered", "--as-trained", "--quiet"])
