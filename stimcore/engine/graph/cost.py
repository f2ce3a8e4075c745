"""Parameters and multiply-accumulates of sub-networks, counted in the main network's ONNX graph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import NodeProto, TensorProto

from stimcore.engine.cuda import CPU
from stimcore.engine.provider import session_options
from stimcore.subnets.part_name import PartName, Route

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
COUNTED = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators whose multiply-accumulates are counted, as torch's counter does: convolutions and matrix products."""


@dataclass(frozen=True)
class GraphCost:
    """What a sub-network costs.

    Attributes:
        parameters: Number of weights; the running statistics of batch norms are not among them.
        macs: Multiply-accumulates for one image.
    """

    parameters: int
    macs: int


class GraphCosts:
    """The costs of the sub-networks of one main network.

    The sizes of matrix products may be calculated in the graph, where shape inference does not always follow: the network runs
    once, on one image, and its tensors are measured.

    Args:
        model: `main.onnx` with its weights, of a network whose layers don't concatenate.
        image_shape: `[C, H, W]` of an image.
    """

    def __init__(self, model: onnx.ModelProto, image_shape: Sequence[int]) -> None:
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type in FLOATS}
        self._reads: dict[PartName, set[str]] = {}
        self._macs: dict[PartName, int] = {}
        counted = [node for node in model.graph.node if node.op_type in COUNTED]
        sizes = _sizes(model, [name for node in counted for name in (node.input[0], node.output[0])], image_shape)
        for node in model.graph.node:
            part = PartName.parse(node.name.split("/", 1)[0])
            stored = (name for name in node.input if name in self._weights and not name.endswith((".mean", ".var")))
            self._reads.setdefault(part, set()).update(stored)
            self._macs[part] = self._macs.get(part, 0) + (self._of_node(node, sizes) if node.op_type in COUNTED else 0)

    def of(self, route: Route) -> GraphCost:
        """Return the cost of a sub-network; weights that several of its parts share count once."""
        read = set[str]().union(*(self._reads[part] for part in route))
        parameters = sum(int(np.prod(self._weights[name].dims, dtype=np.int64)) for name in read)
        return GraphCost(parameters, sum(self._macs[part] for part in route))

    def _of_node(self, node: NodeProto, sizes: dict[str, tuple[int, ...]]) -> int:
        outputs = int(np.prod(sizes[node.output[0]], dtype=np.int64))
        if node.op_type == "Conv":
            return outputs * int(np.prod(self._weights[node.input[1]].dims[1:], dtype=np.int64))
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return outputs * sizes[node.input[0]][0 if transposed else -1]


def _sizes(model: onnx.ModelProto, names: Sequence[str], image_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the sizes of tensors for one image."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    wanted = sorted(set(names) - set(stored) - {info.name for info in model.graph.input})
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=[CPU])
    image = np.zeros((1, *image_shape), np.float32)
    values = session.run(wanted, {model.graph.input[0].name: image})
    return {**stored, model.graph.input[0].name: image.shape, **dict(zip(wanted, (v.shape for v in values), strict=True))}
