"""All parts of a network as ONNX graphs, captured in one go by `torch.export`.

A capture takes seconds however small the module is. So the whole network is captured once, and its graph is cut at the borders
of the parts.
"""

import warnings
from collections.abc import Sequence

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from stimcore.errors import Unavailable, UsageError
from stimcore.nets.onnx_part import OPSET, describe_norms, unique_norm_calls
from stimcore.nets.staged import StagedNet

INPUT, OUTPUT = "x", "y"
"""Names of the input and the output of every part."""
INLINE_BYTES = 1024
"""Largest constant, other than parameters and buffers, that is a node of the graph."""
_PARTS = "parts"
"""Attribute that holds the parts; the exporter begins the names of their parameters with it."""


class _Chain(nn.Module):
    """Runs modules one after the other and returns the output of each."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        for part in self.parts:
            x = part(x)
            outputs.append(x)
        return tuple(outputs)


def captured_parts(net: StagedNet) -> list[onnx.ModelProto]:
    """Return the graphs of all parts of the main network, in the order in which they run.

    Their constants have the names that parameters and buffers have in the part's state dict.

    Args:
        net: In evaluation mode.

    Raises:
        UsageError: torch can't capture the network, or can't express it in ONNX; or a part uses a batch norm twice, or has one
            that is no module of its own.
        Unavailable: The package `onnxscript` is missing.
    """
    route = net.route(net.topology.full)
    x = torch.zeros(2, *net.input_shape)
    calls = []
    with torch.no_grad():
        for part in route:
            calls.append(unique_norm_calls(part.name, part.module.eval(), x))
            x = part.module(x)
    captured = _capture(net, [part.module for part in route])
    graph = captured.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    # Shapes, axes and bounds stay inside of the graph: the checker and onnxruntime infer shapes from them before any file of
    # weights is read.
    numbers = [tensor for name, tensor in constants.items() if not _is_parameter(name) and tensor.ByteSize() <= INLINE_BYTES]
    inline = [helper.make_node("Constant", [], [constants.pop(tensor.name).name], value=tensor) for tensor in numbers]
    nodes = {name: node for node in (*inline, *graph.node) for name in node.output}
    begin = INPUT
    models = []
    for part, value, ran in zip(route, graph.output, calls, strict=True):
        cut = _cut(nodes, begin, value.name)
        read = {name for node in cut for name in node.input}
        stored = _stored(cut, [constants[name] for name in sorted(read & set(constants))])
        _name_ends(cut, begin, value.name)
        inner = helper.make_graph(
            cut,
            str(part.name),
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)],
            stored,
        )
        describe_norms(part.name, inner, ran)
        models.append(helper.make_model(inner, opset_imports=captured.opset_import, ir_version=captured.ir_version))
        begin = value.name
    return models


def _capture(net: StagedNet, modules: Sequence[nn.Module]) -> onnx.ModelProto:
    """Return the graph of all modules in a row, whose outputs are the outputs of the modules."""
    try:
        import onnxscript.optimizer
    except ImportError as reason:
        raise Unavailable(
            "torch.export needs the package 'onnxscript' to write ONNX",
            todo="pip install onnxscript, or use torch's older exporter: --exporter torchscript.",
        ) from reason
    # two images: torch takes a batch of one for a constant
    example = torch.zeros(2, *net.input_shape)
    with warnings.catch_warnings(), torch.no_grad():
        # deprecations inside of torch and onnxscript, on which a user has no influence
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            program = torch.onnx.export(
                _Chain(modules).eval(),
                (example,),
                dynamo=True,
                optimize=False,  # would fold batch norms into convolutions
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                dynamic_shapes=({0: Dim.DYNAMIC},),
            )
        except Exception as reason:  # the exporter runs the user's code, and raises many types of errors of its own
            raise UsageError(
                f"torch.export can't express {net.topology.network} in ONNX: {_first_line(reason)}",
                allowed="operators that torch.onnx knows, without branches on the values of tensors, for batches of any size",
                todo="torch's older exporter may know them: --exporter torchscript.",
            ) from reason
    assert program is not None
    onnxscript.optimizer.inline(program.model)
    onnxscript.optimizer.fold_constants(program.model)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    model = program.model_proto
    _remove_zero_biases(model.graph)
    _restore_flatten(model.graph)
    return model


def _is_parameter(name: str) -> bool:
    """Return whether a constant of the captured network is a parameter or buffer of a module."""
    return name.startswith(f"{_PARTS}.")


def _first_line(reason: BaseException) -> str:
    """Return what went wrong at the bottom of a chain of exceptions."""
    while reason.__cause__ is not None:
        reason = reason.__cause__
    return next((line for line in str(reason).splitlines() if line.strip()), type(reason).__name__)[:200]


def _remove_zero_biases(graph: onnx.GraphProto) -> None:
    """Remove the biases of zeros that the exporter gives to convolutions without a bias."""
    zeros = {
        tensor.name
        for tensor in graph.initializer
        if not _is_parameter(tensor.name) and not numpy_helper.to_array(tensor).any()
    }
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in zeros:
            del node.input[2]


def _restore_flatten(graph: onnx.GraphProto) -> None:
    """Turn reshapes `[N, C, H, W]` -> `[N, C * H * W]` into what the modules say: Flatten.

    torch writes the number of channels into the graph as a number, so that a narrowed part could not run it.
    """
    shapes = {value.name: _dims(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    for node in graph.node:
        if node.op_type != "Reshape":
            continue
        before, after = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
        # a first size with the same name is the number of images: everything behind it is flattened
        if len(after) == 2 and before[:1] == after[:1] and isinstance(after[0], str):
            node.op_type = "Flatten"
            del node.input[1], node.attribute[:]
            node.attribute.append(helper.make_attribute("axis", 1))


def _dims(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """Return the sizes of a tensor: numbers, or the names of sizes that are not known yet."""
    return tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim)


def _cut(nodes: dict[str, onnx.NodeProto], begin: str, end: str) -> list[onnx.NodeProto]:
    """Return copies of the nodes between two borders, in the order in which they run.

    Args:
        nodes: Output -> node of the whole network.
        begin: Border at which the part begins.
        end: Border at which it ends.
    """
    needed, waiting = set[str](), [end]
    while waiting:
        name = waiting.pop()
        if name != begin and name in nodes and name not in needed:
            needed.update(nodes[name].output)
            waiting += nodes[name].input
    part = []
    for output, node in nodes.items():  # insertion order is the order in which the nodes run
        if output not in needed or output != node.output[0]:
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        # torch notes its own names of the operation and lines of source code, with the paths of this machine
        del copy.metadata_props[:]
        copy.ClearField("doc_string")
        for place, name in enumerate(copy.input):
            if name == INPUT and begin != INPUT:
                # torch takes the number of images from the network's input, wherever it is needed; it is the same at every
                # border. Nothing else of the input can be needed behind the first border.
                assert node.op_type == "Shape", f"{node.op_type} reads the network's input behind {begin}"
                copy.input[place] = begin
        part.append(copy)
    return part


def _name_ends(nodes: list[onnx.NodeProto], begin: str, end: str) -> None:
    """Give a part's input and output their names, and a part without operations one operation that copies its input."""
    for node in nodes:
        node.input[:] = [INPUT if name == begin else name for name in node.input]
        node.output[:] = [OUTPUT if name == end else name for name in node.output]
    if not nodes:
        nodes.append(helper.make_node("Identity", [INPUT], [OUTPUT]))


def _stored(nodes: Sequence[onnx.NodeProto], constants: Sequence[TensorProto]) -> list[TensorProto]:
    """Return copies of a part's constants, named as in its state dict: `parts.3.conv1.weight` becomes `conv1.weight`.

    Args:
        nodes: Of the part; the names of their inputs are changed with the constants.
        constants: What they read.
    """
    keys = {tensor.name: tensor.name.split(".", 2)[2] for tensor in constants if _is_parameter(tensor.name)}
    for node in nodes:
        node.input[:] = [keys.get(name, name) for name in node.input]
    copies = []
    for tensor in constants:
        copy = TensorProto()
        copy.CopyFrom(tensor)
        del copy.metadata_props[:]
        copy.name = keys.get(tensor.name, tensor.name)
        copies.append(copy)
    return copies
