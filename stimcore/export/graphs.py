"""torch to ONNX, part by part: `main.onnx` with batch norms kept and every block's border tensors named."""

import io
import warnings
from collections.abc import Sequence

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from stimcore.bundle import PartEntry
from stimcore.engine.graph.graph import IR_VERSION
from stimcore.nets.staged import StagedNet

OPSET = 18


def whole(net: StagedNet) -> tuple[onnx.ModelProto, list[PartEntry]]:
    """The main network as one graph.

    Returns:
        A model whose node names begin with `PART/`, every batch norm with its own `NODE.mean` and `NODE.var`; and its parts.
    """
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, TensorProto] = {}
    parts: list[PartEntry] = []
    x = torch.zeros(2, *net.input_shape)
    border = "images"
    route = net.route(net.topology.full)
    for i, part in enumerate(route):
        end = "logits" if i + 1 == len(route) else f"{part.name}:out"
        graph = _exported(part.module, x).graph
        rename = {graph.input[0].name: border, graph.output[0].name: end}
        own = {tensor.name: tensor for tensor in graph.initializer}
        for name in own:
            rename[name] = f"{part.name}/{name}"
        for number, node in enumerate(graph.node):
            node.name = f"{part.name}/{node.op_type}{number}"
            node.input[:] = [rename.get(t, f"{part.name}/{t}") if t else "" for t in node.input]
            node.output[:] = [rename.get(t, f"{part.name}/{t}") if t else "" for t in node.output]
        for name, tensor in own.items():
            tensor.name = f"{part.name}/{name}"
            weights[tensor.name] = tensor
        # the exporter stores equal constants once and lets Identity nodes stand for the others
        twice = {
            node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity" and node.input[0] in weights
        }
        kept = [node for node in graph.node if node.output[0] not in twice]
        axes = {f"{part.name}/{key}": list(follows) for key, follows in net.axes(part.name).items()}
        if axes:  # what is equal here may be sliced differently
            for copy, original in twice.items():
                weights[copy] = numpy_helper.from_array(numpy_helper.to_array(weights[original]), copy)
            twice = {}
        for node in kept:
            node.input[:] = [twice.get(t, t) for t in node.input]
            if node.op_type == "BatchNormalization":
                for place, kind in ((3, "mean"), (4, "var")):
                    value = numpy_helper.to_array(weights[node.input[place]])
                    if node.input[place] in axes:
                        axes[f"{node.name}.{kind}"] = axes.pop(node.input[place])
                    node.input[place] = f"{node.name}.{kind}"
                    weights[node.input[place]] = numpy_helper.from_array(value, node.input[place])
        nodes += kept
        assert set(axes) <= {name for node in kept for name in node.input}, f"constants of {part.name} were renamed"
        parts.append(PartEntry(name=part.name, input=border, output=end, axes=axes))
        border = end
        with torch.no_grad():
            x = part.module(x)
    used = {name for node in nodes for name in node.input}
    batch: list[int | str] = ["N"]
    graph = helper.make_graph(
        nodes,
        net.topology.network,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [*batch, *net.input_shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*batch, net.num_classes])],
        [weights[name] for name in sorted(used & set(weights))],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="stimcore"
    )
    return model, parts


def _exported(module: nn.Module, example: Tensor) -> onnx.ModelProto:
    """One part; the TorchScript exporter keeps batch norms when told to preserve the mode and fold nothing."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            buffer,  # type: ignore[arg-type]  # the stub knows paths only
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "N"}, "y": {0: "N"}},
        )
    return onnx.load_from_string(buffer.getvalue())


def externalise(model: onnx.ModelProto, location: str, inline: Sequence[str]) -> bytes:
    """Moves every tensor but `inline` out of the model; returns the bytes of the file that holds them."""
    blob = bytearray()
    for tensor in model.graph.initializer:
        if tensor.name in inline:
            continue
        raw = numpy_helper.to_array(tensor).tobytes()
        blob += b"\0" * (-len(blob) % 64)
        tensor.ClearField("float_data")
        tensor.ClearField("int64_data")
        tensor.raw_data = b""
        del tensor.external_data[:]
        for key, value in (("location", location), ("offset", len(blob)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        blob += raw
    return bytes(blob)
