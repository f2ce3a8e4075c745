"""torch to ONNX, part by part: `main.onnx` with batch norms kept and the border tensors of every part named.

The engine relies on three conventions of this file: a node's name begins with the name of its part and a slash; every batch
norm has its statistics in constants `NODE.mean` and `NODE.var` that no other node reads; and neighbouring parts share one
tensor.
"""

from collections.abc import Iterator

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from stimcore.bundle import PartEntry
from stimcore.engine.graph.compose import IR_VERSION
from stimcore.export.choices import GraphExporter
from stimcore.nets.onnx_capture import captured_parts
from stimcore.nets.onnx_part import OPSET, export_part
from stimcore.nets.staged import StagedNet
from stimcore.subnets.part_name import PartName

STATISTICS = (".mean", ".var")
"""Endings of the constants that hold batch-norm statistics."""


def network_graph(net: StagedNet, exporter: GraphExporter = "torch.export") -> tuple[onnx.ModelProto, list[PartEntry]]:
    """Return the main network as one graph, and the entries of its parts for the manifest.

    Args:
        net: In evaluation mode.
        exporter: torch's exporter that is used.

    Raises:
        UsageError: A part can't be exported; the message names it.
    """
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, TensorProto] = {}
    parts: list[PartEntry] = []
    x = torch.zeros(2, *net.input_shape)
    border = "images"
    hints: list[onnx.ValueInfoProto] = []
    route = net.route(net.topology.full)
    for number, (part, model) in enumerate(zip(route, _part_models(net, exporter), strict=True), 1):
        graph = model.graph
        end = "logits" if number == len(route) else f"{part.name}:out"
        _rename(graph, part.name, {graph.input[0].name: border, graph.output[0].name: end})
        hints += graph.value_info
        stored = {tensor.name: tensor for tensor in graph.initializer}
        axes = {f"{part.name}/{key}": list(follows) for key, follows in net.axes(part.name).items()}
        part_nodes = _without_copies(graph, stored, keep_apart=bool(axes))
        constants = {node.output[0]: node for node in part_nodes if node.op_type == "Constant"}
        for node in part_nodes:
            if node.op_type == "BatchNormalization":
                _give_statistics(node, stored, axes)
                _give_parameters(node, stored, constants)
        assert set(axes) <= {name for node in part_nodes for name in node.input}, f"constants of {part.name} were renamed"
        nodes += part_nodes
        weights |= stored
        parts.append(PartEntry(name=part.name, input=border, output=end, axes=axes))
        border = end
        with torch.no_grad():
            x = part.module(x)
        hints.append(helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", *x.shape[1:]]))
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        net.topology.network,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *net.input_shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", net.num_classes])],
        [weights[name] for name in sorted(read & set(weights))],
    )
    whole = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="stimcore"
    )
    # shape inference does not follow every calculation of a shape (in attention, say): where it ends, the shape is written down
    inferred = onnx.shape_inference.infer_shapes(whole, data_prop=True).graph.value_info
    known = {info.name for info in inferred if len(info.type.tensor_type.shape.dim) and _is_known(info)}
    whole.graph.value_info.extend(info for info in hints[:-1] if info.name not in known)
    return whole, parts


def _part_models(net: StagedNet, exporter: GraphExporter) -> Iterator[onnx.ModelProto]:
    """Yield the graphs of the parts of the main network."""
    if exporter == "torch.export":
        yield from captured_parts(net)
        return
    # two images: exporters may take a batch of one for a constant
    x = torch.zeros(2, *net.input_shape)
    for part in net.route(net.topology.full):
        model = export_part(part.name, part.module, x)
        with torch.no_grad():
            x = part.module(x)
        yield model


def _is_known(info: onnx.ValueInfoProto) -> bool:
    """Return whether shape inference found every size of a tensor but the number of images."""
    return all(dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim[1:])


def is_statistics(tensor: TensorProto) -> bool:
    """Return whether a constant holds batch-norm statistics."""
    return bool(tensor.name.endswith(STATISTICS))


def _rename(graph: onnx.GraphProto, part: PartName, borders: dict[str, str]) -> None:
    """Put the name of a part in front of all names in its graph; `borders` maps the exceptions."""

    def renamed(tensor: str) -> str:
        # an empty name stands for an optional input that is left out
        return borders.get(tensor, f"{part}/{tensor}") if tensor else ""

    for number, node in enumerate(graph.node):
        node.name = f"{part}/{node.op_type}{number}"
        node.input[:] = map(renamed, node.input)
        node.output[:] = map(renamed, node.output)
    for named in (*graph.initializer, *graph.value_info):
        named.name = renamed(named.name)


def _without_copies(graph: onnx.GraphProto, stored: dict[str, TensorProto], *, keep_apart: bool) -> list[onnx.NodeProto]:
    """Return the nodes of a part without the Identity nodes that copy constants.

    The exporter stores equal constants once, and lets Identity nodes stand for the others.

    Args:
        graph: Its nodes are changed in place.
        stored: Name -> constant; copies are added to it when they are kept apart.
        keep_apart: Store every copy, because parts that can be narrowed may slice equal constants differently.
    """
    copies = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity" and node.input[0] in stored}
    nodes = [node for node in graph.node if node.output[0] not in copies]
    if keep_apart:
        for copy, original in copies.items():
            stored[copy] = numpy_helper.from_array(numpy_helper.to_array(stored[original]), copy)
        return nodes
    for node in nodes:
        node.input[:] = [copies.get(tensor, tensor) for tensor in node.input]
    return nodes


def _give_statistics(norm: onnx.NodeProto, stored: dict[str, TensorProto], axes: dict[str, list[str]]) -> None:
    """Give a batch norm constants that only it reads, as sub-networks replace them norm by norm.

    Args:
        norm: Changed in place.
        stored: Name -> constant; the new ones are added.
        axes: Constant -> how a narrowed part slices it; changed with the names.
    """
    for place, ending in zip((3, 4), STATISTICS, strict=True):
        old, new = norm.input[place], f"{norm.name}{ending}"
        if old in axes:
            axes[new] = axes.pop(old)
        stored[new] = numpy_helper.from_array(numpy_helper.to_array(stored[old]), new)
        norm.input[place] = new


def _give_parameters(norm: onnx.NodeProto, stored: dict[str, TensorProto], constants: dict[str, onnx.NodeProto]) -> None:
    """Store the scale and the shift of a batch norm that has none of its own (`affine=False`): ones and zeros.

    The exporter writes them as Constant nodes; passes over the graph expect stored constants.

    Args:
        norm: Changed in place.
        stored: Name -> constant; the new ones are added.
        constants: Output -> Constant node of the part.
    """
    for place, ending in zip((1, 2), (".scale", ".shift"), strict=True):
        if norm.input[place] in stored:
            continue
        value = next(attribute.t for attribute in constants[norm.input[place]].attribute if attribute.name == "value")
        name = f"{norm.name}{ending}"
        stored[name] = numpy_helper.from_array(numpy_helper.to_array(value), name)
        norm.input[place] = name
