"""Copies of the parts that a unit runs, joined into one graph: the first and the last step of every pass."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import NodeProto, TensorProto, helper

from stimcore.engine.graph.main_graph import MainGraph
from stimcore.engine.prefix_tree import Unit
from stimcore.subnets.part_name import PartName, Route

IR_VERSION = 10
"""Version of the ONNX file format: the newest that every supported onnxruntime reads."""
INPUT = "in"
"""Input of a unit's graph, unless it gets another name."""


@dataclass(frozen=True)
class Step:
    """One part in a graph under construction.

    Attributes:
        route: The prefix that ends with the part.
        mark: What follows the names of the part's nodes and activations: empty at its first occurrence in the graph.
        output: The part's output tensor.
        nodes: Copies of the part's nodes, which a pass may change.
        stored: Name of a constant in this graph -> name of the stored constant that it is, or is narrowed from.
    """

    route: Route
    mark: str
    output: str
    nodes: list[NodeProto] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)

    @property
    def part(self) -> PartName:
        """The part."""
        return self.route[-1]

    def norm(self, node: NodeProto) -> str:
        """Return the name of a batch norm in the main network, by which statistics are known."""
        return node.name.removesuffix(self.mark)

    def read(self, graph: MainGraph, tensor: str) -> str:
        """Return the name under which this step reads a stored constant, and remember that it does.

        A narrowed constant has the part's suffix behind its name. It has no mark: all occurrences of a part, and all parts that
        are narrowed alike, read the same one.
        """
        name = tensor + self.part.suffix if tensor in graph.parts[self.part.whole].axes else tensor
        self.stored[name] = tensor
        return name


def copy_steps(graph: MainGraph, unit: Unit, *, entry: str = INPUT, names: Mapping[Route, str] | None = None) -> Iterator[Step]:
    """Copy the nodes of every part of a unit, with names that are unique in one graph.

    A part may run several times in one unit, behind different prefixes. Its weights are constants of the main network and keep
    their name, so that a graph holds them once; its nodes, activations and statistics get a mark, `~2`, `~3`, ...

    Requires:
        The steps of the unit come after the steps or the source that they go on from.

    Ensures:
        A step's input is the output of the step before it. The statistics of a batch norm are read under the node's name with
        `.mean` and `.var` and the mark; they are not among `stored`.

    Args:
        graph: The main network.
        unit: What runs.
        entry: Name of the graph's input.
        names: Names of the outputs of some steps.
    """
    borders = {unit.source: entry}
    occurrences: Counter[PartName] = Counter()
    for route in unit.steps:
        part = graph.parts[route[-1].whole]
        occurrences[part.name] += 1
        mark = "" if occurrences[part.name] == 1 else f"~{occurrences[part.name]}"
        borders[route] = (names or {}).get(route, part.output + mark)
        step = Step(route, mark, borders[route])
        rename = {part.input: borders[route[:-1]], part.output: borders[route], "": ""}  # "" is an optional input left out
        for original in graph.nodes[part.name]:
            node = NodeProto()
            node.CopyFrom(original)
            node.name += mark
            for place, tensor in enumerate(original.input):
                if tensor in rename:
                    node.input[place] = rename[tensor]
                elif tensor in graph.weights and not tensor.endswith((".mean", ".var")):
                    node.input[place] = step.read(graph, tensor)
                else:
                    node.input[place] = tensor + mark
            for place, tensor in enumerate(original.output):
                node.output[place] = rename.get(tensor, tensor + mark)
            step.nodes.append(node)
        yield step


def model_of(
    graph: MainGraph,
    nodes: Sequence[NodeProto],
    constants: Mapping[str, TensorProto],
    *,
    entry: str = INPUT,
    outputs: Sequence[str],
) -> onnx.ModelProto:
    """Return nodes and constants as a model.

    Ensures:
        The model holds the constants that its nodes read and no others, in the order of their names: equal inputs give equal
        bytes.
    """
    used = {name for node in nodes for name in node.input}
    composed = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(entry, TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [constants[name] for name in sorted(used & set(constants))],
    )
    return helper.make_model(composed, opset_imports=graph.opsets, ir_version=IR_VERSION)


def add_stored(graph: MainGraph, step: Step, nodes: Sequence[NodeProto], constants: dict[str, TensorProto]) -> None:
    """Add the stored constants that nodes of a step read, narrowed where the step's part is."""
    for name in {name for node in nodes for name in node.input if name in step.stored and name not in constants}:
        constants[name] = graph.constant(step.stored[name], step.part, name)


def epsilon(node: NodeProto) -> float:
    """Return what a batch norm adds to variances; 1e-5 is ONNX's default."""
    return float(next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5))
