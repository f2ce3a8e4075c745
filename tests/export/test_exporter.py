"""Bundles: verified, deterministic, resumable, and readable by somebody who has only onnxruntime."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from stimcore import cli
from stimcore.bundle import Bundle, Manifest, check_hashes, open_bundle, open_experiment
from stimcore.errors import BundleError, UsageError
from stimcore.export import __main__ as export_command
from stimcore.export.exporter import Exporter
from stimcore.export.request import ExportRequest, prepare
from stimcore.reference.calibrate import recalibrated
from stimcore.reference.prefix_tree import reference_logits
from stimcore.runs.trained_run import open_run
from stimcore.subnets.families import ordered
from tests.bundles import GRAPHS, QUICKLY, reference_inputs

ROOT = Path(__file__).parents[2]


def digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def run_dir(bundle: Bundle) -> Path:
    return bundle.experiment.path.parents[1] / "runs" / "small" / f"{bundle.method}-0"


def export(bundle: Bundle, out: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(bundle, out, *extra), cwd=ROOT, capture_output=True, text=True, check=False)


def command(bundle: Bundle, out: Path, *extra: str) -> list[str]:
    return [sys.executable, "-m", "stimcore.export", str(run_dir(bundle)), "--out", str(out), "--quiet", *QUICKLY, *extra]


def test_every_ordered_sub_network_is_listed_and_verified(small: list[Bundle]) -> None:
    bundle = small[0]
    assert {e.spec for e in bundle.manifest.networks.values()} == {str(s) for s in ordered(bundle.topology)}
    for entry in bundle.manifest.networks.values():
        assert entry.correct == entry.correct_torch
        assert entry.parity <= 1e-4
        assert entry.agreement >= 0.999
    # weights, statistics, hits and wall; images and model card
    assert check_hashes(bundle) == len(bundle.manifest.networks) + 4 + 3


def test_weights_are_stored_once(small: list[Bundle]) -> None:
    bundle = small[0]
    main = sum((bundle.path / name).stat().st_size for name in ("main.onnx", "weights.bin"))
    subnets = sum(p.stat().st_size for p in bundle.path.glob("subnet-*.onnx"))
    assert subnets <= 0.5 * main + 26 * 120_000
    for path in bundle.path.glob("*.onnx"):
        for tensor in onnx.load(str(path), load_external_data=False).graph.initializer:
            if not tensor.name.endswith((".mean", ".var")) and tensor.dims and np.prod(tensor.dims) > 64:
                assert tensor.data_location == onnx.TensorProto.EXTERNAL


def test_a_stranger_with_onnxruntime_alone_gets_the_manifests_accuracy(small: list[Bundle], tmp_path: Path) -> None:
    """Ten lines that import nothing of ours."""
    script = tmp_path / "stranger.py"
    script.write_text(
        "import json, sys\n"
        "import numpy as np, onnxruntime as ort\n"
        "folder, name = sys.argv[1:]\n"
        "experiment = json.load(open(f'{folder}/../experiment.json'))\n"
        "data = np.load(f'{folder}/../evaluation.npz')\n"
        "steps = experiment['preprocessing']\n"
        "mean, std = (np.array(steps[key], np.float32)[:, None, None] for key in ('mean', 'std'))\n"
        "images = (data['pixels'].astype(np.float32) / np.float32(255) - mean) / std\n"
        "logits = ort.InferenceSession(f'{folder}/{name}').run(None, {'images': images})[0]\n"
        "print(int((logits.argmax(1) == data['labels']).sum()))\n"
    )
    bundle = small[1]
    for name in random.Random(1).sample(sorted(bundle.manifest.networks), 3):
        done = subprocess.run(
            [sys.executable, str(script), str(bundle.path), name], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert int(done.stdout) == bundle.manifest.networks[name].correct


def changed_run(bundle: Bundle, folder: Path, **values: object) -> Path:
    """A copy of the run of a bundle whose `run.json` has other values."""
    shutil.copytree(run_dir(bundle), folder)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps(run | values), encoding="utf-8")
    return folder


def test_a_run_with_a_seed_that_no_bundle_can_name_is_refused_before_anything_is_written(
    small: list[Bundle], tmp_path: Path
) -> None:
    run = changed_run(small[0], tmp_path / "run", seed=-1)
    with pytest.raises(UsageError, match=r"was trained with the seed -1, .*; allowed: 0 to 9223372036854775807\. Train it"):
        prepare(ExportRequest(run_dir=run, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [({"seed": -1}, "'seed' of manifest.json is -1, a negative number"), ({"label": 5}, "'label' of manifest.json is 5")],
)
def test_a_manifest_that_would_not_open_is_never_published(
    values: dict[str, object], sentence: str, small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = Exporter._complete

    def spoilt(exporter: Exporter, part: Any, manifest: Manifest, listed: Any) -> None:
        complete(exporter, part, replace(manifest, **values), listed)  # type: ignore[arg-type]

    monkeypatch.setattr(Exporter, "_complete", spoilt)
    exporter, _ = prepare(ExportRequest(run_dir=run_dir(small[0]), out=tmp_path / "out", graphs=GRAPHS, check_images=8))
    with pytest.raises(BundleError, match=sentence):
        exporter.export([])
    assert not exporter.target.exists()
    monkeypatch.undo()
    assert exporter.export([]) == []
    assert open_bundle(exporter.target).manifest.seed == 0


@pytest.mark.slow  # `test_two_exports_at_once_take_turns` has the same proof: it exports anew, and finds a finished bundle
def test_the_same_run_gives_the_same_bytes(small: list[Bundle], tmp_path: Path) -> None:
    assert export(small[0], tmp_path / "again").returncode == 0
    assert digest(tmp_path / "again" / "common") == digest(small[0].path)
    before = (tmp_path / "again" / "common" / "manifest.json").stat().st_mtime_ns
    done = export(small[0], tmp_path / "again")
    assert done.returncode == 0
    assert "already exported" in done.stdout
    assert (tmp_path / "again" / "common" / "manifest.json").stat().st_mtime_ns == before


def killed_again_and_again(bundle: Bundle, out: Path, times: int, rng: random.Random) -> int:
    """Exports with a SIGKILL at a random moment, `times` times; returns how often it hit a running export."""
    hits = 0
    for _ in range(times):
        process = subprocess.Popen(command(bundle, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        start = time.monotonic()
        wait = rng.uniform(0.0, 4.0)
        # count from the moment when there is something to lose
        while process.poll() is None and not (out / ".common.part").exists() and time.monotonic() - start < 120:
            time.sleep(0.01)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            hits += 1
    return hits


@pytest.mark.slow
def test_a_killed_export_goes_on_and_ends_the_same(small: list[Bundle], tmp_path: Path) -> None:
    hits = killed_again_and_again(small[0], tmp_path / "killed", 1, random.Random(5))
    assert export(small[0], tmp_path / "killed").returncode == 0
    assert digest(tmp_path / "killed" / "common") == digest(small[0].path)
    assert not list((tmp_path / "killed").glob(".*.part"))
    print("killed while it ran:", hits)


@pytest.mark.slow
def test_two_exports_at_once_take_turns(small: list[Bundle], tmp_path: Path) -> None:
    words = command(small[0], tmp_path / "two")
    both = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert digest(tmp_path / "two" / "common") == digest(small[0].path)
    assert not list((tmp_path / "two").glob(".*.part"))
    assert sum("already exported from the same checkpoint" in text for text in outputs) == 1


@pytest.mark.slow
def test_ten_kills_at_random_moments(small: list[Bundle], tmp_path: Path) -> None:
    assert killed_again_and_again(small[0], tmp_path / "killed", 10, random.Random(10)) > 0
    assert export(small[0], tmp_path / "killed").returncode == 0
    assert digest(tmp_path / "killed" / "common") == digest(small[0].path)


def test_one_flipped_bit_is_found(small: list[Bundle], tmp_path: Path) -> None:
    shutil.copytree(small[0].experiment.path, tmp_path / "flipped")
    store = tmp_path / "flipped" / "common" / "weights.bin"
    data = bytearray(store.read_bytes())
    data[len(data) // 2] ^= 1
    store.write_bytes(data)
    with pytest.raises(BundleError, match="weights.bin is not what was exported"):
        open_bundle(store.parent)
    done = subprocess.run(
        [sys.executable, "-m", "stimcore.bundle", "verify", str(tmp_path / "flipped")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "weights.bin" in done.stderr


def test_a_torn_manifest_is_told(small: list[Bundle], tmp_path: Path) -> None:
    shutil.copytree(small[0].experiment.path, tmp_path / "torn")
    path = tmp_path / "torn" / "common" / "manifest.json"
    path.write_text(path.read_text()[:-100])
    with pytest.raises(BundleError, match="is not JSON"):
        open_bundle(path.parent)


def test_another_experiment_in_the_same_folder_is_refused(
    small: list[Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small[0].experiment.path, tmp_path / "other")
    path = tmp_path / "other" / "experiment.json"
    value = json.loads(path.read_text())
    value["preprocessing"]["mean"] = [0.1, 0.2, 0.3]
    path.write_text(json.dumps(value))
    with pytest.raises(SystemExit) as ended:
        cli.run(export_command.main, command(small[0], tmp_path / "other")[3:])
    assert ended.value.code == 2
    assert "holds another experiment (normalisation differ)" in capsys.readouterr().err


def test_the_reference_along_the_tree_is_the_plain_reference(small: list[Bundle]) -> None:
    bundle = small[0]
    net = open_run(run_dir(bundle)).net
    calibration, images = reference_inputs(bundle)
    specs = random.Random(2).sample(list(ordered(bundle.topology)), 5)
    logits = reference_logits(net, specs, calibration, images)
    for spec in specs:
        with torch.no_grad():
            assert torch.equal(logits[spec], recalibrated(net, spec, calibration)(images, spec))


def test_the_batch_is_open_and_names_are_plain(small: list[Bundle]) -> None:
    session = ort.InferenceSession(small[0].path / "subnet-d1-1-1.onnx")
    assert session.get_inputs()[0].name == "images"
    assert session.get_outputs()[0].name == "logits"
    for batch in (1, 7):
        assert session.run(None, {"images": np.zeros((batch, 3, 12, 12), np.float32)})[0].shape == (batch, 5)


def test_experiment_says_what_it_is(small: list[Bundle]) -> None:
    experiment = open_experiment(small[0].experiment.path)
    assert experiment.methods == ("common", "stimulative")
    assert experiment.image_shape == (3, 12, 12)
