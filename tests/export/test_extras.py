"""What else an engineer takes away: self-contained files, half precision, Triton repositories, latency, a best one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from stimcore.bundle import Bundle, open_bundle
from stimcore.errors import UsageError
from stimcore.export import __main__ as export
from stimcore.export import latency
from stimcore.export.standalone import write_standalone
from stimcore.export.triton import write_repository
from stimcore.runs.machine import processor_name
from tests.bundles import QUICKLY

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def copied(small: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """The small experiment, for tests that add files to its bundles."""
    folder = Path(shutil.copytree(small[0].experiment.path, tmp_path_factory.mktemp("extras") / "small"))
    return [open_bundle(folder / bundle.method) for bundle in small]


@pytest.fixture(scope="module")
def timed(small: list[Bundle]) -> dict[str, Any]:
    (measured,) = latency.measure([small[1]], rounds=3)
    return measured


def test_a_standalone_file_opens_anywhere(copied: list[Bundle]) -> None:
    bundle = copied[0]
    spec = bundle.topology.parse("1-3-2.4-6.7-9")  # not ordered: a permutation with deletions
    (row,) = write_standalone(bundle, [spec])
    data = (bundle.path / "standalone" / row.file).read_bytes()
    model = onnx.load_from_string(data)
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    session = ort.InferenceSession(data)
    pixels, labels = bundle.experiment.evaluation
    logits = session.run(None, {"images": bundle.experiment.normalise(pixels)})[0]
    assert (logits.argmax(1) == labels).sum() == row.correct


def test_half_precision_is_half_the_size_and_still_agrees(copied: list[Bundle]) -> None:
    single, half = write_standalone(copied[0], [copied[0].topology.full], half=True)
    assert half.precision == "float16"
    assert half.bytes < 0.6 * single.bytes
    assert half.agreement >= 0.99
    index = json.loads((copied[0].path / "standalone" / "index.json").read_text())
    assert {"main.onnx", "main-fp16.onnx"} <= {row["file"] for row in index["files"]}


def test_a_triton_repository(small: list[Bundle], tmp_path: Path) -> None:
    topology = small[0].topology
    models = write_repository(small[0], [topology.full, topology.parse("d1-2-1")], tmp_path)
    assert [model.name for model in models] == ["small.common", "small.common.d1-2-1"]
    for model in models:
        config = (model / "config.pbtxt").read_text()
        assert f'name: "{model.name}"' in config
        assert "dims: [3, 12, 12]" in config
        assert "dims: [5]" in config
        assert "max_queue_size: 64" in config
        assert config.count("{") == config.count("}")
        session = ort.InferenceSession(model / "1" / "model.onnx")
        assert session.run(None, {"images": np.zeros((2, 3, 12, 12), np.float32)})[0].shape == (2, 5)


def test_latency_has_every_listed_network(small: list[Bundle], timed: dict[str, Any]) -> None:
    assert set(timed["latency_ms"]) == set(small[1].manifest.networks)
    for row in timed["latency_ms"].values():
        assert 0 < row["batch1_p50"] <= row["batch1_p95"]
        assert 0 < row["batch32_p50"] <= row["batch32_p95"]
    assert timed["latency_on"]["provider"] == "CPUExecutionProvider"
    assert timed["latency_on"]["calls"] == 3


def test_nothing_beats_what_is_on_the_front(small: list[Bundle], timed: dict[str, Any]) -> None:
    networks, times = small[1].manifest.networks, timed["latency_ms"]
    for name in timed["pareto"]:
        for other in times:
            faster = times[other]["batch1_p50"] < times[name]["batch1_p50"]
            assert not (faster and networks[other].correct >= networks[name].correct)


def test_the_best_under_a_budget(small: list[Bundle]) -> None:
    names = sorted(small[1].manifest.networks, key=lambda name: small[1].manifest.networks[name].correct)
    times = {"latency_ms": {name: {"batch1_p50": float(i + 1)} for i, name in enumerate(names)}}
    best = latency.best_under(small[1], times, 3.5)
    assert best in names[:3]
    assert small[1].manifest.networks[best].correct == small[1].manifest.networks[names[2]].correct
    with pytest.raises(UsageError, match="1 ms and more"):
        latency.best_under(small[1], times, 0.5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threads", 1),
        ("machine", "another processor"),
        ("provider", "CUDAExecutionProvider"),
        ("cores", 512),
        ("onnxruntime", "0.1"),
    ],
)
def test_times_of_elsewhere_are_not_used(timed: dict[str, Any], key: str, value: Any) -> None:
    assert latency.why_other(timed, threads=1) is None
    asked = 2 if key == "threads" else 1
    stored = {**timed, "latency_on": {**timed["latency_on"], key: value}}
    now = latency.conditions(asked)[key]
    assert latency.why_other(stored, threads=asked) == f"{key} was {value}, is now {now}"
    words = latency.in_words(latency.conditions(2))
    assert words.startswith(processor_name())
    assert "threads 2, CPUExecutionProvider" in words


@pytest.mark.slow
def test_the_command_measures_anew_what_was_measured_elsewhere(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency, "ROUNDS", 2)
    experiment = Path(shutil.copytree(small[0].experiment.path, tmp_path / "small"))
    bundle = open_bundle(experiment / "common")
    elsewhere = {name: {f"batch{n}_p{p}": 1e-6 for n in (1, 32) for p in (50, 95)} for name in bundle.manifest.networks}
    on = {**latency.conditions(1), "machine": "a faster one", "calls": 40}
    for one in (bundle, open_bundle(experiment / "stimulative")):
        latency.write(one, {"latency_ms": elsewhere, "latency_on": on, "pareto": []})
    run_dir = small[0].experiment.path.parents[1] / "runs" / "small" / "common-0"
    argv = [str(run_dir), "--out", str(experiment), "--name", "common", "--best-under", "10s", "--quiet", *QUICKLY]
    assert export.main(argv) == 0
    out, err = capsys.readouterr()
    assert f"machine was a faster one, is now {processor_name()}" in err
    assert f"on {processor_name()}, threads 1, CPUExecutionProvider" in out
    for method in ("common", "stimulative"):  # of one experiment together, so that the methods compare
        times = latency.read(open_bundle(experiment / method))
        assert times is not None
        assert times["latency_on"]["machine"] == processor_name()
        assert min(row["batch1_p50"] for row in times["latency_ms"].values()) > 1e-3
    assert export.main(argv) == 0
    assert "measured anew" not in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_picks_and_writes_the_best_one(small: list[Bundle], copied: list[Bundle]) -> None:
    bundle = copied[1]
    run_dir = small[1].experiment.path.parents[1] / "runs" / "small" / "stimulative-0"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "stimcore.export",
            str(run_dir),
            "--out",
            str(bundle.experiment.path),
            "--name",
            "stimulative",
            "--best-under",
            "10s",
        ]
        + ["--json", "-", "--quiet", *QUICKLY],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    best = report["best"]
    assert best["on"]["threads"] == 1
    assert best["on"]["machine"] == processor_name()
    stored = json.loads((bundle.path / "latency.json").read_text())
    assert best["batch1_p50_ms"] == stored["latency_ms"][best["network"]]["batch1_p50"]
    assert best["correct"] == max(entry.correct for entry in bundle.manifest.networks.values())
    assert Path(best["file"]).exists()


def test_files_are_added_to_a_bundle_without_its_run(small: list[Bundle], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small[0].experiment.path, tmp_path / "small")) / "common"
    before = open_bundle(folder)
    assert export.main([str(folder), "--int8", "--quiet", "--json", str(tmp_path / "report.json")]) == 0
    after = open_bundle(folder)
    assert after.fingerprint == before.fingerprint
    assert set(after.manifest.hashes) - set(before.manifest.hashes) == {"standalone/main-int8.onnx", "standalone/index.json"}
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["bundle"], report["int8"]["spec"]) == (str(folder), str(after.topology.full))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "nothing to add to the bundle .*common; allowed: --standalone, "),
        (["--elastic", "--out", "elsewhere"], "--out with the bundle .*common; allowed: with a bundle: --standalone, "),
        (["--elastic", "--as", "d1-1-1"], "--as with the bundle"),
        (["--elastic", "--check", "all"], "--check with the bundle"),
        (["--exits"], "--exits with the bundle"),
    ],
)
def test_a_bundle_has_no_use_for_the_options_of_a_run(small: list[Bundle], options: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        export.main([str(small[0].path), *options])


def test_a_run_folder_needs_a_place_for_its_bundle(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(UsageError, match="run without --out; allowed: --out exported/EXPERIMENT for a run folder"):
        export.main([str(tmp_path / "run")])
