"""Pass: batch norms with known statistics become part of the convolutions before them."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from stimcore.engine.graph.compose import INPUT, Step, add_stored, copy_steps, epsilon, model_of
from stimcore.engine.graph.main_graph import MainGraph, Statistics
from stimcore.engine.prefix_tree import Unit
from stimcore.subnets.part_name import Route


def folded_graph(
    graph: MainGraph, unit: Unit, statistics: Mapping[Route, Statistics], *, names: tuple[str, str] | None = None
) -> onnx.ModelProto:
    """Return the graph of a unit with batch norms folded into convolutions.

    A batch norm with fixed statistics is `x * factor + shift` per channel, and a convolution is linear: scaling its weights and
    moving its bias gives the same, and saves one pass over the activations.
    Only a convolution *before* the batch norm can take it. Behind the batch norm there mostly is an activation function, and a
    convolution pads with zeros, which no batch norm has shifted: the first batch norm of a DenseNet's layers stays as it is.

    Requires:
        `statistics` has every batch norm of every step.

    Ensures:
        The graph needs no other file. A batch norm is left only where it does not directly follow a convolution, or where
        another node reads that convolution too. Weights are scaled in float64 and rounded once.

    Args:
        graph: The main network.
        unit: What runs.
        statistics: Step -> statistics of its last part.
        names: Names of the graph's input and of its only output.
    """
    nodes: list[NodeProto] = []
    constants: dict[str, TensorProto] = {}
    outputs: dict[Route, str] = {}
    entry = INPUT if names is None else names[0]
    for step in copy_steps(graph, unit, entry=entry, names=None if names is None else {unit.outputs[0]: names[1]}):
        outputs[step.route] = step.output
        folded = folded_nodes(graph, step, statistics[step.route], constants)
        add_stored(graph, step, folded, constants)
        nodes += folded
    return model_of(graph, nodes, constants, entry=entry, outputs=[outputs[route] for route in unit.outputs])


def folded_nodes(graph: MainGraph, step: Step, statistics: Statistics, constants: dict[str, TensorProto]) -> list[NodeProto]:
    """Return a step's nodes after folding.

    Args:
        graph: The main network.
        step: Its nodes are changed in place.
        statistics: The statistics of its batch norms.
        constants: The constants that are made on the way are added.
    """
    producers = {name: node for node in step.nodes for name in node.output}
    readers = Counter(name for node in step.nodes for name in node.input)
    nodes: list[NodeProto] = []
    for node in step.nodes:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        moments = statistics[step.norm(node)]
        conv = producers.get(node.input[0])
        # a convolution whose plain output somebody else reads, too, must keep computing it
        if conv is None or conv.op_type != "Conv" or readers[node.input[0]] > 1:
            for place, value in zip((3, 4), moments, strict=True):
                constants[node.input[place]] = numpy_helper.from_array(value, node.input[place])
            nodes.append(node)
            continue
        mean, var = (value.astype(np.float64) for value in moments)
        scale, shift = (_values(graph, step, node.input[place]) for place in (1, 2))
        factor = scale / np.sqrt(var + epsilon(node))
        weight = _values(graph, step, conv.input[1])
        bias = _values(graph, step, conv.input[2]) if len(conv.input) > 2 else 0.0
        # (conv(x) + bias - mean) * factor + shift. Weights are [out, in / groups, ...] in every convolution, so that a factor
        # per output channel scales the first axis, with groups as well as without.
        exact = {
            f"{conv.name}.weight": weight * factor.reshape(-1, *[1] * (weight.ndim - 1)),
            f"{conv.name}.bias": (bias - mean) * factor + shift,
        }
        # named by the node, mark included: the same part has other statistics behind another prefix
        for name, values in exact.items():
            constants[name] = numpy_helper.from_array(values.astype(np.float32), name)
        conv.input[:] = [conv.input[0], *exact]
        conv.output[0] = node.output[0]
    return nodes


def _values(graph: MainGraph, step: Step, name: str) -> NDArray[np.float64]:
    return numpy_helper.to_array(graph.constant(step.stored[name], step.part, name)).astype(np.float64)
