"""The graphs of both exporters of torch give the counts of torch, and keep every batch norm."""

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from stimcore.errors import Unavailable, UsageError
from stimcore.export.choices import GraphExporter
from stimcore.export.graphs import network_graph
from stimcore.nets.catalogue import build
from stimcore.nets.exportable import check_exportable
from stimcore.nets.norms import batch_norms
from stimcore.nets.own import staged
from stimcore.nets.staged import StagedNet
from stimcore.train.seeds import layers_seeded
from tests.nets.conftest import FAMILIES, SIDE, lively

IMAGES = 500
ROOT = Path(__file__).parents[2]


def network(name: str) -> StagedNet:
    with layers_seeded(0, name):
        return lively(build(name, input_shape=(3, SIDE, SIDE), num_classes=5)).eval()


def answers(model: onnx.ModelProto, images: Tensor) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {"images": images.numpy()})[0]
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_both_exporters_give_equal_counts(name: str) -> None:
    net = network(name)
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(5, (IMAGES,), generator=generator).numpy()
    with torch.no_grad():
        expected = net(images, net.topology.full).numpy()
    counts = [int((expected.argmax(1) == labels).sum())]
    graphs: tuple[GraphExporter, ...] = ("torch.export", "torchscript")
    for exporter in graphs:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model, parts = network_graph(net, exporter)
        assert [str(part.name) for part in parts] == [str(part.name) for part in net.route(net.topology.full)]
        assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == len(batch_norms(net))
        onnx.checker.check_model(model, full_check=True)
        assert str(ROOT).encode() not in model.SerializeToString(), "lines of source code with paths of this machine"
        logits = answers(model, images)
        assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
        counts.append(int((logits.argmax(1) == labels).sum()))
    assert len(set(counts)) == 1


@pytest.mark.slow  # the tests of stopped exports compare bytes, too
def test_equal_networks_give_equal_bytes() -> None:
    first, second = (network_graph(network("resnet8"))[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def wrapped(*blocks: nn.Module) -> StagedNet:
    """Return a network with these blocks, between a convolution and a mean."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = nn.Sequential(nn.Conv2d(3, 4, 3), *blocks, head)
    return staged(module, stem=module[0], stages=[list(blocks)], head=head, input_shape=(3, SIDE, SIDE)).eval()


class Branching(nn.Module):
    """A block whose way depends on the values of its input, which no graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_network_that_no_graph_can_hold_is_refused_in_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"torch\.export can't express .*--exporter torchscript") as raised:
        network_graph(wrapped(Branching(), Branching()))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


class Transformed(nn.Module):
    """A block with an operator that only the current exporter knows."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sinc(x)


@pytest.mark.slow
def test_what_only_the_current_exporter_knows_may_be_trained_and_is_exported(capfd: pytest.CaptureFixture[str]) -> None:
    net = wrapped(Transformed(), Transformed())
    with pytest.raises(UsageError, match="block 1 can't be exported to ONNX"):
        network_graph(net, "torchscript")
    check_exportable(net)
    assert capfd.readouterr().out == ""
    images = torch.rand(3, *net.input_shape, generator=torch.Generator().manual_seed(0))
    expected = net(images, net.topology.full).detach().numpy()
    assert np.abs(answers(network_graph(net)[0], images) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_without_onnxscript_a_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnxscript.optimizer", None)
    net = wrapped(nn.ReLU(), nn.ReLU())
    with pytest.raises(Unavailable, match="pip install onnxscript, or use .*--exporter torchscript"):
        network_graph(net)
    check_exportable(net)
    network_graph(net, "torchscript")


class Nothing(nn.Module):
    """A block without any operation."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_part_without_operations_is_a_part() -> None:
    net = wrapped(Nothing(), nn.ReLU())
    model, parts = network_graph(net)
    assert len(parts) == len(net.route(net.topology.full))
    onnx.checker.check_model(onnx.load(io.BytesIO(model.SerializeToString())), full_check=True)
