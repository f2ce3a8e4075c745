"""torch to ONNX: `main.onnx` with batch norms kept and the border tensors of every part named.

The engine relies on three conventions of this file: a node's name begins with the name of its part and a slash; every batch
norm has its statistics in constants `NODE.mean` and `NODE.var` that no other node reads; and neighbouring parts share one
tensor.

Under the hood, torch captures the whole network once, with every border as an output, because a capture costs seconds however
small the module is. The graph is then cut at these borders.
"""

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper, numpy_helper

from stimcore.bundle import PartEntry
from stimcore.engine.graph.compose import IR_VERSION
from stimcore.export.capture import PartGraph, capture_parts
from stimcore.nets.staged import StagedNet
from stimcore.subnets.part_name import PartName

OPSET = 18
STATISTICS = (".mean", ".var")
"""Endings of the constants that hold batch-norm statistics."""


def network_graph(net: StagedNet) -> tuple[onnx.ModelProto, list[PartEntry]]:
    """Return the main network as one graph, and the entries of its parts for the manifest.

    Args:
        net: In evaluation mode.

    Raises:
        UsageError: torch can't capture the network.
    """
    return join_parts(net, capture_parts(net, OPSET))


def join_parts(net: StagedNet, graphs: Sequence[PartGraph]) -> tuple[onnx.ModelProto, list[PartEntry]]:
    """Return the graphs of all parts of the main network as one, and the entries of its parts for the manifest.

    Args:
        net: The network.
        graphs: A graph per part, in the order in which they run; their nodes are changed in place.
    """
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, TensorProto] = {}
    parts: list[PartEntry] = []
    border = "images"
    route = net.route(net.topology.full)
    for number, (part, graph) in enumerate(zip(route, graphs, strict=True), 1):
        end = "logits" if number == len(route) else f"{part.name}:out"
        stored = _rename(graph, part.name, {graph.input: border, graph.output: end})
        axes = {f"{part.name}/{key}": list(follows) for key, follows in net.axes(part.name).items()}
        for node in graph.nodes:
            if node.op_type == "BatchNormalization":
                _give_statistics(node, stored, axes)
        assert set(axes) <= {name for node in graph.nodes for name in node.input}, f"constants of {part.name} were renamed"
        nodes += graph.nodes
        weights |= stored
        parts.append(PartEntry(name=part.name, input=border, output=end, axes=axes))
        border = end
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        net.topology.network,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *net.input_shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", net.num_classes])],
        [weights[name] for name in sorted(read & set(weights))],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="stimcore"
    )
    return model, parts


def is_statistics(tensor: TensorProto) -> bool:
    """Return whether a constant holds batch-norm statistics."""
    return bool(tensor.name.endswith(STATISTICS))


def externalise(model: onnx.ModelProto, location: str, inline: Sequence[str]) -> bytes:
    """Move constants out of a model into the bytes of a file that several models can share.

    Args:
        model: Changed in place: its constants refer to the file.
        location: Name of the file, which lies in the folder of the model's file.
        inline: Names of the constants that stay in the model.

    Returns:
        The content of the file.
    """
    blob = bytearray()
    for tensor in model.graph.initializer:
        if tensor.name in inline:
            continue
        raw = numpy_helper.to_array(tensor).tobytes()
        # aligned, so that onnxruntime can map the file into memory
        blob += b"\0" * (-len(blob) % 64)
        for field in ("float_data", "int64_data", "raw_data"):
            tensor.ClearField(field)
        del tensor.external_data[:]
        for key, value in (("location", location), ("offset", len(blob)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        tensor.data_location = TensorProto.EXTERNAL
        blob += raw
    return bytes(blob)


def _rename(graph: PartGraph, part: PartName, borders: dict[str, str]) -> dict[str, TensorProto]:
    """Put the name of a part in front of all names in its graph; `borders` maps the exceptions.

    Returns:
        The renamed constants.
    """

    def renamed(tensor: str) -> str:
        # an empty name stands for an optional input that is left out
        return borders.get(tensor, f"{part}/{tensor}") if tensor else ""

    for number, node in enumerate(graph.nodes):
        node.name = f"{part}/{node.op_type}{number}"
        node.input[:] = map(renamed, node.input)
        node.output[:] = map(renamed, node.output)
    stored = {}
    for name, tensor in graph.constants.items():
        tensor.name = renamed(name)
        stored[tensor.name] = tensor
    return stored


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
