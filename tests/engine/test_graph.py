"""Graph surgery: measuring written as reductions says the same, folding changes nothing that matters."""

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.engine import Engine
from stimcore.engine.graph.main_graph import MainGraph
from stimcore.engine.graph.measure import measuring_graph
from stimcore.engine.prefix_tree import Unit
from stimcore.engine.provider import Provider, pick
from stimcore.errors import BundleError, UsageError
from stimcore.subnets.part_name import STEM, PartName


def test_decomposed_batch_norms_measure_the_same(small: list[Bundle]) -> None:
    engine = Engine(small[0], device="cpu")
    graph, provider = engine.graph, Provider("CPUExecutionProvider")
    images = small[0].experiment.normalise(small[0].experiment.evaluation[0][:64])
    unit = Unit.whole((STEM, PartName.block(1), PartName.block(4)))
    outputs = []
    for decompose in (False, True):
        measuring = measuring_graph(graph, unit, decompose=decompose)
        session = provider.session(measuring.model.SerializeToString(), 1)
        outputs.append([value.numpy() for value in session.run({"in": provider.value(images)})])
        assert [norm for _, norm in measuring.norms] == [n for step in unit.steps for n in graph.norms(step[-1])]
    for plain, decomposed in zip(*outputs, strict=True):
        np.testing.assert_allclose(decomposed, plain, rtol=1e-4, atol=1e-5)


def test_folded_and_unfolded_networks_agree(small: list[Bundle]) -> None:
    bundle = small[0]
    engine = Engine(bundle, device="cpu")
    spec = bundle.topology.parse("d2-1-3")
    images = bundle.experiment.normalise(bundle.experiment.evaluation[0][:100])
    statistics = engine.calibrated([spec])
    out = []
    for folded in (False, True):
        model = engine.network(spec, statistics, folded=folded)
        onnx.checker.check_model(model, full_check=True)
        assert any(node.op_type == "BatchNormalization" for node in model.graph.node) is not folded
        session = Provider("CPUExecutionProvider").session(model.SerializeToString(), 1)
        out.append(session.run({"images": Provider("CPUExecutionProvider").value(images)})[0].numpy())
    assert np.abs(out[0] - out[1]).max() <= 1e-5 * np.abs(out[0]).max()


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:0", ""])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="there is no device"):
        pick(device)


def test_without_a_gpu_auto_says_why_it_runs_on_the_cpu() -> None:
    provider = pick("auto")
    if provider.on_gpu:
        assert provider.reason is None
    else:
        assert provider.reason
        assert "\n" not in provider.reason


@pytest.mark.gpu
def test_cuda_counts_what_the_cpu_counts(small: list[Bundle]) -> None:
    """Needs a CUDA device: the same code path with I/O binding on the GPU, TF32 off."""
    from stimcore.subnets.families import ordered

    specs = list(ordered(small[0].topology))
    scores = []
    for device in ("cpu", "cuda"):
        *_, report = Engine(small[0], device=device).evaluate(specs)
        scores.append(report.results)
    for spec in specs:
        assert abs(scores[0][spec].correct - scores[1][spec].correct) <= 1


def test_a_bundle_whose_weights_are_a_hard_link_opens(small: list[Bundle], tmp_path: Path) -> None:
    """onnx itself refuses such files; the engine reads the bytes that were hashed, wherever they are."""
    folder = tmp_path / "small" / "common"
    shutil.copytree(small[0].path.parent, folder.parent)
    os.link(folder / "weights.bin", tmp_path / "weights.bin")
    spec = small[0].topology.full
    images = small[0].experiment.normalise(small[0].experiment.evaluation[0][:8])
    expected = Engine(small[0], device="cpu").logits(spec, images)
    np.testing.assert_array_equal(Engine(open_bundle(folder), device="cpu").logits(spec, images), expected)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("offset", str(1 << 40), "outside of weights.bin"),
        ("offset", "-1", "outside of weights.bin"),
        ("length", "many", "without a place in weights.bin"),
        ("location", "../../experiment.json", "experiment.json"),
    ],
)
def test_references_to_other_bytes_are_refused(small: list[Bundle], key: str, value: str, message: str) -> None:
    bundle = small[0]
    model = onnx.load_from_string(bundle.read("main.onnx"))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    next(entry for entry in tensor.external_data if entry.key == key).value = value

    def read(name: str) -> bytes:
        content: bytes = model.SerializeToString() if name == "main.onnx" else bundle.read(name)
        return content

    with pytest.raises(BundleError, match=message):
        MainGraph.load(read, bundle.manifest.parts, bundle.topology)


def test_a_file_that_is_no_model_is_refused(small: list[Bundle]) -> None:
    with pytest.raises(BundleError, match="main.onnx is not an ONNX model"):
        MainGraph.load(lambda _: b"\xff" * 64, small[0].manifest.parts, small[0].topology)
