"""What runs on a GPU, as far as a processor can prove it: its graphs run here and count the same."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from stimcore.bundle import Bundle, open_bundle
from stimcore.engine import cuda
from stimcore.engine import engine as engine_module
from stimcore.engine.budget import Budget
from stimcore.engine.cuda import CPU, CUDA
from stimcore.engine.engine import Engine
from stimcore.engine.graph.measure import _decomposed, _training
from stimcore.engine.provider import Provider, pick
from stimcore.errors import UsageError
from stimcore.subnets.families import deletions, ordered
from stimcore.subnets.spec import Spec

ROOT = Path(__file__).parents[2]


def counts(bundle: Bundle, specs: list[Spec], images: int | None = None) -> dict[Spec, int]:
    *_, report = Engine(bundle, device="cpu", threads=2).evaluate(specs, max_images=images)
    return {spec: report.results[spec].correct for spec in specs}


@pytest.fixture
def decomposing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine takes the code path of a GPU for its measurements."""
    monkeypatch.setattr(engine_module, "pick", lambda _: Provider(CPU, decomposes=True))


def spread(bundle: Bundle, count: int) -> list[Spec]:
    """Return sub-networks of both families, evenly spread."""
    specs = [*ordered(bundle.topology)]
    if not bundle.topology.ordered_only:
        specs += deletions(bundle.topology, 1)
    return specs[:: max(1, len(specs) // count)][:count]


def test_the_graphs_of_a_gpu_count_the_same(small: list[Bundle], request: pytest.FixtureRequest) -> None:
    specs = spread(small[0], 12)
    expected = counts(small[0], specs)
    request.getfixturevalue("decomposing")
    assert counts(small[0], specs) == expected
    assert len(set(expected.values())) > 2


@pytest.mark.slow
@pytest.mark.parametrize("experiment", sorted(path.parent.name for path in (ROOT / "exported").glob("*/experiment.json")))
def test_the_graphs_of_a_gpu_count_the_same_on_committed_networks(experiment: str, request: pytest.FixtureRequest) -> None:
    folders = sorted(path.parent for path in (ROOT / "exported" / experiment).glob("*/manifest.json"))
    bundle = open_bundle(next(folder for folder in folders if not folder.name.startswith("twin")))
    specs = spread(bundle, 30)
    expected = counts(bundle, specs, 2000)
    request.getfixturevalue("decomposing")
    ours = counts(bundle, specs, 2000)
    assert {str(spec): ours[spec] - expected[spec] for spec in specs if ours[spec] != expected[spec]} == {}


def outputs(nodes: list[onnx.NodeProto], x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> list[np.ndarray]:
    names = ["y", "mean", "var"]
    constants = [numpy_helper.from_array(value, name) for name, value in (("scale", scale), ("shift", shift))]
    constants += [
        numpy_helper.from_array(np.zeros_like(scale), "old_mean"),
        numpy_helper.from_array(np.ones_like(scale), "old_var"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph(nodes, "norm", inputs, results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=[CPU])
    return list(session.run(names, {"x": x}))


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 7), (6, 5, 7, 3), (6, 5, 2, 3, 4)])
def test_batch_norms_of_every_rank_are_decomposed(shape: tuple[int, ...]) -> None:
    """A BatchNorm1d stands after a linear layer, where activations have two axes."""
    numbers = np.random.default_rng(0)
    x = numbers.normal(3, 2, shape).astype(np.float32)
    scale, shift = (numbers.normal(size=5).astype(np.float32) for _ in range(2))

    def node() -> onnx.NodeProto:
        return helper.make_node(
            "BatchNormalization", ["x", "scale", "shift", "old_mean", "old_var"], ["y"], "norm", epsilon=1e-3
        )

    expected = outputs([_training(node(), ["mean", "var"])], x, scale, shift)
    ours = outputs(_decomposed(node(), ["mean", "var"]), x, scale, shift)
    for theirs, value in zip(expected, ours, strict=True):
        assert value.shape == theirs.shape
        np.testing.assert_allclose(value, theirs, rtol=2e-5, atol=2e-5)


def test_the_budget_of_a_gpu_is_taken_from_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="8000\n", stderr="")

    monkeypatch.setattr(subprocess, "run", answer)
    free = cuda.free_bytes(1)
    assert free == 8000 << 20
    assert "--id=1" in asked[0]
    budget = Budget.of_gpu(free)
    kept = budget.working + budget.calibration + budget.evaluation + budget.sessions
    assert free // 4 < kept <= free // 2


@pytest.mark.parametrize("stdout", ["", "No devices were found\n", "[N/A]\n"])
def test_a_gpu_that_does_not_say_its_memory_gets_the_usual_budget(stdout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, stdout=stdout))
    assert Budget.of_gpu(cuda.free_bytes()) == Budget()


def test_another_provider_is_passed_through(small: list[Bundle], monkeypatch: pytest.MonkeyPatch) -> None:
    name = "StrangeExecutionProvider"
    with pytest.raises(UsageError, match="has no provider 'StrangeExecutionProvider'.*CPUExecutionProvider"):
        pick(name)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [name, CPU])
    provider = pick(name)
    assert (provider.name, provider.on_gpu, provider.decomposes) == (name, False, True)
    given: list[list[str]] = []
    real = ort.InferenceSession

    def session(model: bytes, options: ort.SessionOptions, providers: list[str]) -> ort.InferenceSession:
        given.append(providers)
        return real(model, options, providers=[CPU])

    monkeypatch.setattr(ort, "InferenceSession", session)
    engine = Engine(small[0], device=name, threads=1)
    images = small[0].experiment.normalise(small[0].experiment.evaluation[0][:4])
    engine.logits(small[0].topology.full, images)
    assert given
    assert all(providers == [name, CPU] for providers in given)


@pytest.mark.gpu
def test_sessions_are_on_the_gpu_without_tf32() -> None:
    provider = pick("cuda")
    assert (provider.name, provider.decomposes) == (CUDA, True)
    assert provider.describe()["tf32"] is False
    assert (cuda.free_bytes(0) or 0) > 1 << 30
