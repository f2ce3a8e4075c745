"""The graphs of torch's older exporter, which is deprecated; those of `capture` are compared with them."""

import io
import warnings

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from stimcore.export.capture import PartGraph
from stimcore.nets.staged import StagedNet


def traced_parts(net: StagedNet, opset: int) -> list[PartGraph]:
    """Return the graphs of all parts of the main network, each traced alone."""
    x = torch.zeros(2, *net.input_shape)
    parts = []
    for part in net.route(net.topology.full):
        graph = _trace(part.module, x, opset).graph
        stored = {tensor.name: tensor for tensor in graph.initializer}
        # equal constants are stored once, and Identity nodes stand for the others
        copies = {
            node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity" and node.input[0] in stored
        }
        for copy, original in copies.items():
            stored[copy] = numpy_helper.from_array(numpy_helper.to_array(stored[original]), copy)
        nodes = [node for node in graph.node if node.output[0] not in copies]
        parts.append(PartGraph(graph.input[0].name, graph.output[0].name, nodes, stored))
        with torch.no_grad():
            x = part.module(x)
    return parts


def _trace(module: nn.Module, example: Tensor, opset: int) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated is why it is only compared with
        torch.onnx.export(
            module.eval(),
            (example,),
            buffer,  # type: ignore[arg-type]  # the stub knows paths only
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=opset,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "N"}, "y": {0: "N"}},
        )
    return onnx.load_from_string(buffer.getvalue())
