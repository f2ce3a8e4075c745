"""Imports that fail or are killed leave nothing in the way of the next one."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from stimcore.bundle import __main__ as bundle_command
from stimcore.data.folder import image_folder
from stimcore.data.normalise import Normalisation
from stimcore.errors import ParityError, UsageError
from stimcore.export.experiment import check_unchanged, shared_experiment
from stimcore.export.parity import Tolerance
from stimcore.surgery.bundle import import_network, write_bundle
from stimcore.surgery.reading import read_onnx
from tests.surgery.graphs import with_ending


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("deviation", "--std 1e-45,1,1 for images of 3 channels"),
        ("weights", "the weights 'w0' of .* are not finite"),
        ("outputs", "the outputs of .* are not finite"),
        ("parity", "differs from its reference by"),
        ("stopped", None),
    ],
)
@pytest.mark.parametrize("before", ["nothing", "another method"])
def test_an_import_that_failed_leaves_nothing_in_the_way(
    fault: str, sentence: str | None, before: str, tiny_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, output = with_ending("none")
    path, out = graph.save(tmp_path / "g.onnx", output), tmp_path / "out"
    line = ["from-onnx", str(path), "--dataset", f"folder:{tiny_pictures}", "--out", str(out), "--mean", "0,0,0"]
    if before == "another method":
        if fault == "deviation":
            pytest.skip("an experiment with a method keeps its normalisation")
        assert bundle_command.main([*line, "--std", "1,1,1", "--name", "first"]) == 0
    content = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    wrong = onnx.load(path)
    if fault in ("weights", "outputs"):
        value = np.nan if fault == "weights" else 3e38
        shape = tuple(wrong.graph.initializer[0].dims)
        wrong.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full(shape, value, np.float32), "w0"))
    (tmp_path / "wrong").mkdir()
    onnx.save(wrong, tmp_path / "wrong" / "g.onnx")
    with monkeypatch.context() as patch:
        error: type[BaseException] = UsageError
        if fault == "parity":
            patch.setattr("stimcore.surgery.bundle.FLOAT32", Tolerance(-1, 1))
            error = ParityError
        if fault == "stopped":
            patch.setattr("stimcore.surgery.bundle.GraphCosts", stopped)
            error = KeyboardInterrupt
        deviation = "1e-45,1,1" if fault == "deviation" else "1,1,1"
        with pytest.raises(error, match=sentence):
            bundle_command.main(["from-onnx", str(tmp_path / "wrong" / "g.onnx"), *line[2:], "--std", deviation])
    assert {file for file in out.rglob("*") if file.is_file() and file.name != ".lock"} == set(content) - {out / ".lock"}
    assert not (out / ".imported.part").exists()
    assert all(file.read_bytes() == bytes_before for file, bytes_before in content.items())
    assert bundle_command.main([*line, "--std", "1,1,1"]) == 0
    assert bundle_command.main(["verify", str(out)]) == 0


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_experiment_that_a_killed_import_left_is_replaced(tiny_pictures: Path, tmp_path: Path) -> None:
    graph, output = with_ending("none")
    file = read_onnx(graph.save(tmp_path / "g.onnx", output))
    network, dataset = import_network(file, file.image_shape()), image_folder(tiny_pictures)
    zeros, ones = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    wrong, right = Normalisation(zeros, (2.0, 2.0, 2.0)), Normalisation(zeros, ones)
    left = shared_experiment(tmp_path / "out", dataset, network.structure.topology, wrong, twin=False)
    (left.path / ".imported.part").mkdir()
    bundle = write_bundle(network, dataset, right, tmp_path / "out")
    assert bundle.experiment.std == ones
    with pytest.raises(UsageError, match="was replaced or removed by another export meanwhile. Start this export again"):
        check_unchanged(left)
    with pytest.raises(UsageError, match="holds another experiment"):
        write_bundle(network, dataset, wrong, tmp_path / "out", name="second")
