"""The graphs of the exporter give the counts of torch and of torch's older exporter, and keep every batch norm."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from stimcore.engine.graph.fold import folded_graph
from stimcore.engine.graph.main_graph import MainGraph, Statistics
from stimcore.engine.prefix_tree import Unit
from stimcore.errors import UsageError
from stimcore.export.graphs import OPSET, join_parts, network_graph
from stimcore.nets.catalogue import build
from stimcore.nets.norms import batch_norms
from stimcore.nets.own import staged
from stimcore.nets.staged import StagedNet
from stimcore.subnets import families
from stimcore.subnets.part_name import Route
from stimcore.subnets.spec import Spec
from stimcore.train.seeds import layers_seeded
from tests.export.torchscript import traced_parts
from tests.nets.conftest import FAMILIES, SIDE, lively

SLOW_FAMILIES = [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name != "resnet20"]
IMAGES = 500
ROOT = Path(__file__).parents[2]


def network(name: str) -> StagedNet:
    with layers_seeded(0, name):
        return lively(build(name, input_shape=(3, SIDE, SIDE), num_classes=5))


def logits(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    return answer


def composed(graph: MainGraph, net: StagedNet, spec: Spec) -> onnx.ModelProto:
    """A sub-network with the statistics of training, folded as the engine does."""
    unit = Unit.whole(net.topology.route(spec))
    trained: dict[Route, Statistics] = {}
    for step in unit.steps:
        trained[step] = {}
        for norm in graph.norms(step[-1]):
            mean, var = (
                graph.narrowed(f"{norm}.{what}", step[-1], onnx.numpy_helper.to_array(graph.weights[f"{norm}.{what}"]))
                for what in ("mean", "var")
            )
            trained[step][norm] = mean, var
    return folded_graph(graph, unit, trained)


@pytest.mark.parametrize("name", ["resnet20", *SLOW_FAMILIES])
def test_both_exporters_of_torch_give_equal_counts(name: str) -> None:
    """For the main network and the first member of every family that the network has."""
    net = network(name)
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(5, (IMAGES,), generator=generator).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model, parts = network_graph(net)
    assert [str(part.name) for part in parts] == [str(part.name) for part in net.route(net.topology.full)]
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == len(batch_norms(net))
    onnx.checker.check_model(model, full_check=True)
    assert str(ROOT).encode() not in model.SerializeToString(), "lines of source code with paths of this machine"
    graphs = [MainGraph(model, parts, net.topology), MainGraph(*join_parts(net, traced_parts(net, OPSET)), net.topology)]
    kinds = [kind for kind in families.KINDS if families.count(net.topology, kind)]
    for spec in [net.topology.full, *(next(iter(families.family(net.topology, kind))) for kind in kinds)]:
        new, old = (logits(composed(graph, net, spec), images.numpy()) for graph in graphs)
        with torch.no_grad():
            expected = net(images, spec).numpy()
        assert np.abs(new - old).max() <= 1e-5 * np.abs(old).max()
        counts = [int((answer.argmax(1) == labels).sum()) for answer in (new, old, expected)]
        assert counts[0] == counts[1] == counts[2]


@pytest.mark.slow  # the tests of stopped exports compare bytes, too
def test_equal_networks_give_equal_bytes() -> None:
    first, second = (network_graph(network("resnet8"))[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


class Branching(nn.Module):
    """A block whose way depends on the values of its input, which no graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_network_that_no_graph_can_hold_is_refused_in_one_sentence() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = nn.Sequential(nn.Conv2d(3, 4, 3), Branching(), Branching(), head)
    net = staged(module, stem=module[0], stages=[[module[1], module[2]]], head=head, input_shape=(3, SIDE, SIDE))
    with pytest.raises(UsageError, match="torch can't export .*; allowed: a network without branches on the values") as raised:
        network_graph(net.eval())
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
