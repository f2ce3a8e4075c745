"""Self-contained files: simplified where onnxscript is installed, compared with the engine, and described, also when served."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from stimcore.bundle import open_bundle
from stimcore.engine import standalone
from stimcore.engine.engine import Engine
from stimcore.engine.standalone import SAMPLE_IMAGES
from stimcore.errors import BundleError

COMMITTED = Path(__file__).parents[2] / "exported" / "resnet20-fashion" / "stimulative"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(open_bundle(COMMITTED, verify=False), device="cpu", threads=1)


def opened(content: bytes) -> tuple[onnx.ModelProto, dict[str, str]]:
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    return model, {item.key: item.value for item in model.metadata_props}


def logits(content: bytes, engine: Engine, count: int = 64) -> np.ndarray:
    images = engine.bundle.experiment.normalise(engine.bundle.experiment.evaluation[0][:count])
    result: np.ndarray = ort.InferenceSession(content).run(None, {"images": images})[0]
    return result


def test_half_of_the_nodes_give_the_same_answers(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = engine.bundle.topology.parse("d1-1-1")
    content = engine.standalone(spec)
    model, properties = opened(content)
    assert len(model.graph.node) < 40
    assert not {"Constant", "Shape", "Gather", "BatchNormalization"} & {node.op_type for node in model.graph.node}
    assert properties["optimiser"].startswith("onnxscript ")
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as in an environment of the model server
    plain = engine.standalone(spec)
    plain_model, plain_properties = opened(plain)
    assert len(plain_model.graph.node) > 2 * len(model.graph.node)
    assert plain_properties["optimiser"] == "none (onnxscript is not installed)"
    expected = logits(plain, engine)
    assert np.abs(logits(content, engine) - expected).max() < 1e-5 * np.abs(expected).max()
    for part in (model, plain_model):  # one input and one output of any batch size, in a format that all runtimes read
        shapes = [
            [dim.dim_param or dim.dim_value for dim in v.type.tensor_type.shape.dim]
            for v in (*part.graph.input, *part.graph.output)
        ]
        assert shapes == [["N", 1, 28, 28], ["N", 10]]
        assert (part.ir_version, part.opset_import[0].version) == (10, 18)


@pytest.mark.parametrize("text", ["d2-1-1", "1-3-2.4-6.7-9"])
def test_served_files_describe_themselves(engine: Engine, text: str) -> None:
    """A listed network has its stored accuracy; any other one that of a sample, which the file states."""
    spec = engine.bundle.topology.parse(text)
    model, properties = opened(engine.standalone(spec))
    short = engine.bundle.topology.short(spec)
    assert (model.producer_name, model.graph.name) == ("stimcore", f"resnet20 {short}")
    assert f"sub-network {short}" in model.doc_string
    known = engine.bundle.known_correct(spec)
    accuracy = json.loads(properties["accuracy"])
    assert accuracy["images"] == (SAMPLE_IMAGES if known is None else engine.bundle.manifest.images)
    assert known is None or accuracy["correct"] == known
    assert f"{accuracy['accuracy_pct']:.2f}% of {accuracy['images']:,} images, 95% interval" in model.doc_string
    low, high = accuracy["interval_pct"]
    assert low < accuracy["accuracy_pct"] < high
    assert 0 <= float(properties["parity"]) < 1e-4
    assert properties["parity_images"] == str(SAMPLE_IMAGES)
    assert properties["checkpoint_sha256"] == engine.bundle.manifest.checkpoint_sha256
    assert properties["data_licence"] == (engine.bundle.experiment.licence or "unknown")
    assert json.loads(properties["classes"]) == list(engine.bundle.experiment.classes)
    assert json.loads(properties["preprocessing"]) == engine.bundle.experiment.preprocessing.to_dict()


def _broken(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    bias = next(tensor for tensor in copy.graph.initializer if tensor.name.endswith(".bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1), bias.name))
    return copy


def test_a_wrong_optimisation_is_found_and_not_used(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = engine.bundle.topology.parse("d1-1-1")
    monkeypatch.setattr(standalone, "optimised_graph", lambda model: (_broken(model), "onnxscript 0"))
    _, properties = opened(engine.standalone(spec))
    assert properties["optimiser"] == "none (the optimised graph gave other logits)"
    composed = engine.network
    monkeypatch.setattr(engine, "network", lambda *args, **kwargs: _broken(composed(*args, **kwargs)))
    with pytest.raises(BundleError, match="gives other logits than the bundle"):
        engine.standalone(spec)
