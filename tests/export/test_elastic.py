"""One file of all ordered sub-networks: its answers are theirs, its description says so, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.graph.elastic import DEPTHS
from stimcore.errors import UsageError
from stimcore.export import __main__ as export
from stimcore.export import elastic
from stimcore.export.elastic import Elastic, write_elastic
from stimcore.subnets.families import ordered

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(small: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Elastic]:
    folder = Path(shutil.copytree(small[0].experiment.path, tmp_path_factory.mktemp("elastic") / "small"))
    bundle = open_bundle(folder / "common")
    return bundle, write_elastic(bundle, lambda done, total, line: None)


@pytest.mark.slow
def test_every_stored_count_to_the_image_from_one_session(written: tuple[Bundle, Elastic]) -> None:
    bundle, result = written
    session = ort.InferenceSession(result.file)
    pixels, labels = bundle.experiment.evaluation
    images = bundle.experiment.normalise(pixels)
    counts = set()
    for spec in ordered(bundle.topology):
        depths = np.array(bundle.topology.depths(spec), np.int64)
        logits = session.run(None, {"images": images, DEPTHS: depths})[0]
        assert (logits.argmax(1) == labels).sum() == bundle.known_correct(spec) == result.correct[bundle.topology.short(spec)]
        counts.add(bundle.known_correct(spec))
    assert len(counts) > 5, "the depths make a difference"
    assert result.parity < 1e-5


def test_weights_are_there_once_and_belong_to_their_branches(written: tuple[Bundle, Elastic]) -> None:
    bundle, result = written
    model = onnx.load(result.file)
    onnx.checker.check_model(model, full_check=True)
    assert result.bytes < 1.35 * sum((bundle.path / name).stat().st_size for name in ("weights.bin", "main.onnx"))
    outer = {tensor.name for tensor in model.graph.initializer}
    branches = [a.g for node in model.graph.node if node.op_type == "If" for a in node.attribute if a.name == "then_branch"]
    assert len(branches) == 3
    for branch in branches:
        convolutions = [node for node in branch.node if node.op_type == "Conv"]
        assert convolutions
        assert not {node.input[1] for node in convolutions} & outer
    described = json.loads(next(item.value for item in model.metadata_props if item.key == "elastic"))
    assert described["correct"] == result.correct
    assert (described["low"], described["high"]) == ([1, 1, 1], [3, 3, 3])


def test_depths_outside_of_a_stage_count_as_the_nearest(written: tuple[Bundle, Elastic]) -> None:
    session = ort.InferenceSession(written[1].file)
    images = np.random.Generator(np.random.PCG64(0)).random((2, 3, 12, 12), np.float32)

    def run(*depths: int) -> list[float]:
        logits: list[float] = session.run(None, {"images": images, DEPTHS: np.array(depths, np.int64)})[0].ravel().tolist()
        return logits

    assert run(0, 2, 9) == run(1, 2, 3)
    assert run(-5, 2, 3) != run(2, 2, 3)


def test_the_bundle_stays_whole(written: tuple[Bundle, Elastic]) -> None:
    bundle = open_bundle(written[0].path)
    assert bundle.fingerprint == written[0].fingerprint
    assert "standalone/elastic.onnx" in bundle.manifest.hashes


def test_what_has_no_elastic_file(small: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    dense = open_bundle(Path("exported/densenet-loafing/common"))
    with pytest.raises(UsageError, match="whose layers don't concatenate"):
        write_elastic(dense, lambda done, total, line: None)
    monkeypatch.setattr(elastic, "MOST_SUBNETS", 26)
    with pytest.raises(UsageError, match="27 ordered sub-networks in one file; allowed: at most 26"):
        write_elastic(small[0], lambda done, total, line: None)


def test_the_program_of_the_documentation_keeps_a_deadline(written: tuple[Bundle, Elastic], tmp_path: Path) -> None:
    page = (ROOT / "docs" / "scan.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(import json, sys, time\n.*?)```", page, re.DOTALL)
    (tmp_path / "deadline.py").write_text(program)
    for deadline in ("1000", "0.000001"):
        done = subprocess.run(
            [sys.executable, str(tmp_path / "deadline.py"), written[1].file, deadline],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = done.stdout.splitlines()
        assert len(lines) == 10
        best = max(written[1].correct.values())
        chosen = {re.findall(r"depths \((.*?)\)", line)[0].replace(", ", "-") for line in lines}
        if deadline == "1000":
            assert {written[1].correct[f"d{depths}"] for depths in chosen} == {best}


@pytest.mark.slow
def test_one_file_of_a_committed_bundle_has_every_count_that_is_stored(tmp_path: Path) -> None:
    """MobileNetV3's 144 networks, on all evaluation images, written into a copy of the bundle without its run."""
    folder = Path(shutil.copytree(ROOT / "exported" / "mobilenetv3-fashion", tmp_path / "mobilenetv3-fashion")) / "stimulative"
    assert export.main([str(folder), "--elastic", "--quiet", "--json", str(tmp_path / "report.json")]) == 0
    bundle = open_bundle(folder)
    counts = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["elastic"]["correct"]
    sweep = bundle.sweep("ordered")
    assert sweep is not None
    stored = {bundle.topology.short(bundle.topology.parse(row["spec"])): row["correct"] for row in sweep["results"]}
    assert counts == stored
    assert len(counts) == 144
