"""Pass: all constants stay as they are stored, and the graph itself slices those of narrowed parts."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from stimcore.engine.graph.compose import INPUT, copy_steps, model_of
from stimcore.engine.graph.main_graph import MainGraph, Statistics
from stimcore.engine.prefix_tree import Unit
from stimcore.subnets.channels import Ranges
from stimcore.subnets.part_name import Route


def sliced_graph(
    graph: MainGraph, unit: Unit, statistics: Mapping[Route, Statistics], *, names: tuple[str, str] | None = None
) -> onnx.ModelProto:
    """Return the graph of a unit with its batch norms on fixed statistics, and no weight copied or changed.

    Requires:
        `statistics` has every batch norm of every step.

    Ensures:
        Every constant is a stored one, bit for bit, except the statistics and the bounds of slices: files made of such graphs
        can share one file of weights.

    Args:
        graph: The main network.
        unit: What runs.
        statistics: Step -> statistics of its last part.
        names: Names of the graph's input and of its only output.
    """
    nodes: list[NodeProto] = []
    constants: dict[str, TensorProto] = {}
    outputs: dict[Route, str] = {}
    slices: dict[str, list[NodeProto]] = {}
    entry = INPUT if names is None else names[0]
    for step in copy_steps(graph, unit, entry=entry, names=None if names is None else {unit.outputs[0]: names[1]}):
        outputs[step.route] = step.output
        for node in step.nodes:
            if node.op_type == "BatchNormalization":
                for place, value in zip((3, 4), statistics[step.route][step.norm(node)], strict=True):
                    constants[node.input[place]] = numpy_helper.from_array(value, node.input[place])
            for name in node.input:
                if name not in step.stored:
                    continue
                tensor = step.stored[name]
                constants[tensor] = graph.weights[tensor]
                if name != tensor and name not in slices:
                    slices[name], bounds = _slice_nodes(tensor, name, graph.ranges(tensor, step.part))
                    constants |= {bound.name: bound for bound in bounds}
            nodes.append(node)
    # slices read constants only, so that in front of everything else they are in topological order
    nodes = [*(node for group in slices.values() for node in group), *nodes]
    return model_of(graph, nodes, constants, entry=entry, outputs=[outputs[route] for route in unit.outputs])


def _slice_nodes(tensor: str, name: str, axes: Sequence[Ranges]) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the nodes that slice `tensor` into `name`, axis after axis, and the constants that bound the slices.

    A dense block reads the first channels that enter its stage and then those of the blocks before it, so that an axis may keep
    two ranges: they are sliced one by one and concatenated.
    """
    nodes: list[NodeProto] = []
    bounds: list[TensorProto] = []
    source = tensor
    narrowed = [(axis, ranges) for axis, ranges in enumerate(axes) if ranges]
    for axis, ranges in narrowed:
        target = name if (axis, ranges) == narrowed[-1] else f"{name}:{axis}"
        pieces = [target] if len(ranges) == 1 else [f"{name}:{axis}:{i}" for i in range(len(ranges))]
        for piece, (start, stop) in zip(pieces, ranges, strict=True):
            values = [("start", start), ("stop", stop), ("axis", axis)]
            inputs = [numpy_helper.from_array(np.array([value], np.int64), f"{piece}:{role}") for role, value in values]
            bounds += inputs
            nodes.append(helper.make_node("Slice", [source, *(bound.name for bound in inputs)], [piece], name=f"{piece}:Slice"))
        if len(ranges) > 1:
            nodes.append(helper.make_node("Concat", pieces, [target], name=f"{target}:Concat", axis=axis))
        source = target
    return nodes, bounds
