"""Pass: batch norms normalise with the statistics of the batch, and return them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from stimcore.engine.graph.compose import add_stored, copy_steps, epsilon, model_of
from stimcore.engine.graph.main_graph import MainGraph
from stimcore.engine.prefix_tree import Unit
from stimcore.subnets.part_name import Route


@dataclass(frozen=True)
class MeasuringGraph:
    """A graph that measures batch statistics.

    Attributes:
        model: Its outputs are those of the unit, then for every norm its mean and its population variance, each `[C]`.
        norms: Step and batch norm, in the order of the outputs.
    """

    model: onnx.ModelProto
    norms: list[tuple[Route, str]]


def measuring_graph(graph: MainGraph, unit: Unit, *, decompose: bool = False) -> MeasuringGraph:
    """Return the graph of a unit with its batch norms on batch statistics.

    Requires:
        Activations are `[B, C, ...]`.

    Ensures:
        Every batch norm of every step is measured once. The unit's outputs are what the network computes in training mode.

    Args:
        graph: The main network.
        unit: What runs.
        decompose: Write batch norms as reductions, for providers whose `BatchNormalization` has no training mode (CUDA).
    """
    nodes: list[NodeProto] = []
    constants: dict[str, TensorProto] = {}
    outputs: dict[Route, str] = {}
    norms: list[tuple[Route, str]] = []
    measured: list[str] = []
    for step in copy_steps(graph, unit):
        outputs[step.route] = step.output
        first = len(nodes)
        for node in step.nodes:
            if node.op_type != "BatchNormalization":
                nodes.append(node)
                continue
            # ONNX wants running statistics as inputs in training mode too, although their values play no part with momentum 0:
            # the stored ones do for all occurrences of the part
            for place in (3, 4):
                node.input[place] = step.read(graph, node.input[place].removesuffix(step.mark))
            statistics = [f"{node.name}:mean", f"{node.name}:var"]
            nodes += _decomposed(node, statistics) if decompose else [_training(node, statistics)]
            norms.append((step.route, step.norm(node)))
            measured += statistics
        add_stored(graph, step, nodes[first:], constants)
    wanted = [outputs[route] for route in unit.outputs]
    return MeasuringGraph(model_of(graph, nodes, constants, outputs=[*wanted, *measured]), norms)


def _training(node: NodeProto, statistics: Sequence[str]) -> NodeProto:
    """Return a batch norm in training mode, with two further outputs.

    ONNX has no output for batch statistics. It has one for running statistics, `old * momentum + batch * (1 - momentum)`: with
    momentum 0 these are the batch's, with the population variance.
    """
    node.output.extend(statistics)
    added = epsilon(node)
    del node.attribute[:]
    for name, value in (("epsilon", added), ("training_mode", 1), ("momentum", 0.0)):
        node.attribute.append(helper.make_attribute(name, value))
    return node


def _decomposed(node: NodeProto, statistics: Sequence[str]) -> list[NodeProto]:
    """Return the nodes that compute what `_training` computes, written as reductions.

    Activations `[B, C, ...]` of any rank are seen as `[B, C, P]`, so that batch and places are the same axes for 1-d, 2-d and
    flat batch norms; a reshape moves no data.
    """
    x, scale, shift = node.input[:3]
    name, mean, var = node.name, *statistics

    def tensor(role: str) -> str:
        return f"{name}:{role}"

    def constant(role: str, value: NDArray) -> NodeProto:
        return helper.make_node("Constant", [], [tensor(role)], name=tensor(role), value=numpy_helper.from_array(value))

    def op(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
        return helper.make_node(kind, inputs, [output], name=f"{name}:{kind}:{output}", **attributes)

    # the variance is the mean of squared differences, in two passes: E[x^2] - E[x]^2 would cancel in float32
    return [
        constant("flat", np.array([0, 0, -1], np.int64)),  # 0 copies a length
        constant("axes", np.array([0, 2], np.int64)),
        constant("spread", np.array([1], np.int64)),
        constant("epsilon", np.array(epsilon(node), np.float32)),
        op("Reshape", [x, tensor("flat")], tensor("x3")),
        op("ReduceMean", [tensor("x3"), tensor("axes")], tensor("mean3"), keepdims=1),
        op("Sub", [tensor("x3"), tensor("mean3")], tensor("centred")),
        op("Mul", [tensor("centred"), tensor("centred")], tensor("squared")),
        op("ReduceMean", [tensor("squared"), tensor("axes")], tensor("var3"), keepdims=1),
        # once more without the axes of length 1: normalising needs [1, C, 1] to broadcast, the caller gets [C]
        op("ReduceMean", [tensor("x3"), tensor("axes")], mean, keepdims=0),
        op("ReduceMean", [tensor("squared"), tensor("axes")], var, keepdims=0),
        op("Add", [tensor("var3"), tensor("epsilon")], tensor("safe")),
        op("Sqrt", [tensor("safe")], tensor("deviation")),
        op("Div", [tensor("centred"), tensor("deviation")], tensor("unit")),
        op("Unsqueeze", [scale, tensor("spread")], tensor("scale2")),
        op("Unsqueeze", [shift, tensor("spread")], tensor("shift2")),
        op("Mul", [tensor("unit"), tensor("scale2")], tensor("scaled")),
        op("Add", [tensor("scaled"), tensor("shift2")], tensor("y3")),
        op("Shape", [x], tensor("shape")),
        op("Reshape", [tensor("y3"), tensor("shape")], node.output[0]),
    ]
