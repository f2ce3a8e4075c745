"""Sweeps: whole families, shares, several processes, journals, dask."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stimcore.bundle import Bundle
from stimcore.errors import Unavailable, UsageError
from stimcore.subnets.families import deletions, ordered
from stimcore.sweep.sweep import split, sweep

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stimcore.sweep", *arguments, "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def truth(small: list[Bundle]) -> dict:
    return sweep(small[0], list(ordered(small[0].topology)), "ordered", device="cpu")


def test_the_numbers_are_the_manifests(small: list[Bundle], truth: dict) -> None:
    stored = {entry.spec: entry.correct for entry in small[0].manifest.networks.values()}
    assert {row["spec"]: row["correct"] for row in truth["results"]} == stored
    assert set(truth) == {"experiment", "method", "kind", "provider", "bundle", "images", "main", "results"}


def test_two_processes_say_the_same(small: list[Bundle], truth: dict) -> None:
    assert sweep(small[0], list(ordered(small[0].topology)), "ordered", device="cpu", num_jobs=2) == truth


def test_a_sweep_goes_on_from_its_journal(small: list[Bundle], truth: dict, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    head = {"bundle": small[0].fingerprint, "kind": "ordered", "device": "cpu"}
    # what a killed sweep leaves: some results, told apart here by an impossible count, and half a line
    known = [{**row, "correct": -1, "provider": "p"} for row in truth["results"][:10]]
    journal.write_text("".join(json.dumps(row) + "\n" for row in [head, *known]) + '{"spec": "1-')
    found = sweep(small[0], list(ordered(small[0].topology)), "ordered", device="cpu", journal=journal)
    assert [row["correct"] for row in found["results"][:10]] == [-1] * 10
    assert found["results"][10:] == truth["results"][10:]
    assert not journal.exists()


def test_a_journal_of_another_bundle_is_not_believed(small: list[Bundle], truth: dict, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    rows = [{"bundle": "other", "kind": "ordered", "device": "cpu"}, {**truth["results"][0], "correct": -1, "provider": "p"}]
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert sweep(small[0], list(ordered(small[0].topology)), "ordered", device="cpu", journal=journal) == truth


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
    assert len(value["results"]) == 4 and value["images"] == 400
    done = run(str(small[0].path), "--kind", "permute", "--limit", "2", "--json", "-")
    assert json.loads(done.stdout)["kind"] == "permute"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kind", "delete", "--jobs", "0"], "--jobs 0"),
        (["--kind", "delete", "--limit", "3", "--store"], "--store with --limit"),
        (["--kind", "shuffle"], "invalid choice"),
        (["--kind", "delete", "--device", "tpu"], "there is no device 'tpu'"),
        (["--kind", "delete", "--scheduler", "localhost"], "tcp://HOST:PORT"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(small: list[Bundle], arguments: list[str], says: str) -> None:
    done = run(str(small[0].path), *arguments)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_a_folder_without_a_bundle(tmp_path: Path) -> None:
    done = run(str(tmp_path / "nothing"), "--kind", "delete")
    assert done.returncode == 1 and "experiment.json is missing" in done.stderr


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def test_dask_workers_say_the_same(small: list[Bundle], truth: dict, scheduler: str) -> None:
    found = sweep(small[0], list(ordered(small[0].topology)), "ordered", device="cpu", num_jobs=2, scheduler=scheduler)
    assert found == truth


def test_no_scheduler_is_told() -> None:
    from stimcore.sweep import parallel

    with pytest.raises(UsageError, match="tcp://HOST:PORT"):
        list(parallel.run(len, [((),)], scheduler="host:1"))
    with pytest.raises(Unavailable, match="no scheduler answers"):
        list(parallel.run(len, [((),)], scheduler="tcp://127.0.0.1:9"))
