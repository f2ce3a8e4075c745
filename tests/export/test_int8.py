"""Quantised files: what they state is what onnxruntime measures, and a low accuracy is refused."""

import json
import shutil
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from stimcore.bundle import Bundle, open_bundle
from stimcore.bundle.__main__ import main as bundle_command
from stimcore.errors import ParityError, UsageError
from stimcore.export import __main__ as export
from stimcore.export.int8 import write_int8


@pytest.fixture(scope="module")
def bundle(small: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = Path(shutil.copytree(small[0].experiment.path, tmp_path_factory.mktemp("int8") / "small"))
    return open_bundle(folder / "common")


def test_a_file_in_eight_bits(bundle: Bundle) -> None:
    (row,) = write_int8(bundle, [bundle.topology.full])
    path = bundle.path / "standalone" / row.file
    model = onnx.load(path)
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
    assert weights
    assert all(tensor.data_type == onnx.TensorProto.INT8 for tensor in weights)
    scales = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    per_channel = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and scales.get(node.input[1], ())]
    assert len(per_channel) >= len(weights), "one scale per channel"
    assert row.bytes < 0.5 * (bundle.path / "weights.bin").stat().st_size
    pixels, labels = bundle.experiment.evaluation
    logits = ort.InferenceSession(path).run(None, {"images": bundle.experiment.normalise(pixels)})[0]
    assert (logits.argmax(1) == labels).sum() == row.correct
    assert row.agreement > 0.8
    stated = {item.key: item.value for item in model.metadata_props}
    assert json.loads(stated["accuracy"])["correct"] == row.correct
    assert stated["correct_before_quantisation"] == str(bundle.main.correct)
    card = (bundle.experiment.path / "README.md").read_text()
    assert f"`common/standalone/main-int8.onnx` | {100 * row.correct / row.images:.2f}%" in card
    assert bundle_command(["verify", str(bundle.experiment.path)]) == 0


def test_a_low_accuracy_is_refused_and_nothing_is_written(bundle: Bundle) -> None:
    spec = bundle.topology.parse("d1-1-1")
    with pytest.raises(ParityError, match=r"before it was quantised; allowed: 99.9% and more"):
        write_int8(bundle, [spec], min_accuracy=99.9)
    assert not (bundle.path / "standalone" / "subnet-d1-1-1-int8.onnx").exists()


@pytest.mark.parametrize("options", [["--min-accuracy", "90"], ["--int8", "--min-accuracy", "101"]])
def test_a_minimum_that_means_nothing(options: list[str]) -> None:
    with pytest.raises(UsageError, match="0 to 100 percent, with --int8"):
        export.main(["run", "--out", "out", *options])
