"""Writes a divided graph as the engine reads it: `main.onnx` with the names of `docs/bundle.md`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from stimcore.bundle import PartEntry
from stimcore.engine.graph.compose import IR_VERSION
from stimcore.subnets.part_name import HEAD, STEM, PartName
from stimcore.surgery.blocks import FoundNetwork, Segment
from stimcore.surgery.plain import Line, PlainGraph

STATISTICS = (".mean", ".var")
"""Endings of the constants that hold batch-norm statistics."""


@dataclass(frozen=True, kw_only=True)
class DividedGraph:
    """The main network in parts.

    Attributes:
        model: The graph; batch norms have the statistics of the file.
        parts: Its parts for the manifest.
        norms: Output of a batch norm in the file -> name of its node in `model`.
    """

    model: onnx.ModelProto
    parts: list[PartEntry]
    norms: Mapping[str, str]


def divided_graph(network: FoundNetwork) -> DividedGraph:
    """Return a graph in parts, with the names on which the engine relies.

    Requires:
        Neighbouring parts share one tensor, whose first axis is the images.

    Ensures:
        A part reads nothing but the tensor at its beginning and constants: calculated shapes are computed again in every part
        from the number of images in that tensor.
    """
    graph = network.graph
    readers = Counter(name for segment in network.parts.values() for name in {n for node in segment.nodes for n in node.input})
    nodes: list[NodeProto] = []
    constants: dict[str, TensorProto] = {}
    hints: dict[str, onnx.ValueInfoProto] = {}
    norms: dict[str, str] = {}
    parts: list[PartEntry] = []
    border = "images"
    for part, segment in network.parts.items():
        end = "logits" if part == HEAD else f"{part}:out"
        writer = _PartWriter(graph, part, segment, {segment.entry: border, segment.exit: end}, readers)
        writer.write()
        nodes += writer.nodes
        constants |= writer.constants
        hints |= writer.hints
        norms |= writer.norms
        parts.append(PartEntry(name=part, input=border, output=end))
        border = end
    sizes = {"images": graph.image_shape, "logits": graph.shapes[graph.output] or ()}
    images, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *rest]) for name, rest in sizes.items())
    model = helper.make_model(
        helper.make_graph(
            nodes,
            network.topology.network,
            [images],
            [logits],
            [constants[name] for name in sorted(constants)],
            value_info=[hints[name] for name in sorted(hints) if name not in sizes],
        ),
        opset_imports=list(graph.opsets),
        ir_version=IR_VERSION,
        producer_name="stimcore",
    )
    return DividedGraph(model=model, parts=parts, norms=norms)


@dataclass
class _PartWriter:
    """Writes the nodes of one part.

    Attributes:
        borders: Tensor of the file -> border, for the two ends of the part.
        readers: Constant of the file -> number of parts that read it.
    """

    graph: PlainGraph
    part: PartName
    segment: Segment
    borders: dict[str, str]
    readers: Counter[str]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    hints: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    norms: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        if not self.segment.nodes:  # nothing before the first block, or nothing behind the last one
            assert self.part in (STEM, HEAD)
            first, last = ("images", f"{self.part}:out") if self.part == STEM else (self.borders[self.segment.entry], "logits")
            self._add(helper.make_node("Identity", [first], [last]))
            return
        calculated = self._calculated()
        for name in calculated:
            self._make(name)
        for original in self.segment.nodes:
            node = NodeProto()
            node.CopyFrom(original)
            node.input[:] = [self._tensor(name) for name in node.input]
            node.output[:] = [self._tensor(name) for name in node.output]
            self._add(node)
            if node.op_type == "BatchNormalization":
                self._give_statistics(node, original)
            for name in original.output:
                if (rest := self.graph.shapes.get(name)) is not None:
                    info = helper.make_tensor_value_info(self._tensor(name), TensorProto.FLOAT, ["N", *rest])
                    self.hints[info.name] = info

    def _calculated(self) -> list[str]:
        """Return the calculated tensors that the part needs, each after those that it is made of."""
        needed: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in self.graph.remade and name not in needed:
                for inner in self.graph.remade[name].input:
                    visit(inner)
            if name in self.graph.remade or name in self.graph.lines:
                needed[name] = None

        for node in self.segment.nodes:
            for name in node.input:
                visit(name)
        return list(needed)

    def _make(self, name: str) -> None:
        if name in self.graph.lines:
            self._compute(name, self.graph.lines[name])
        elif self._tensor(name) not in {made for node in self.nodes for made in node.output}:
            node = NodeProto()
            node.CopyFrom(self.graph.remade[name])
            node.input[:] = [self._tensor(inner) for inner in node.input]
            node.output[:] = [self._tensor(inner) for inner in node.output]
            self._add(node)

    def _compute(self, name: str, line: Line) -> None:
        """Add the nodes that compute a line from the number of images in the part's input."""
        target, number = self._tensor(name), f"{self.part}/images"
        if not any(number in node.output for node in self.nodes):
            self._add(helper.make_node("Shape", [self.borders[self.segment.entry]], [number], start=0, end=1))
        # The number of images is a tensor of shape [1]. It broadcasts over a row and not over a scalar, so that the line is
        # computed as a row and gets its shape and kind at the end.
        for role, value in (("slope", line.slope), ("offset", line.offset)):
            flat = numpy_helper.from_array(value.astype(np.int64).reshape(-1), f"{target}.{role}")
            self.constants[flat.name] = flat
        shape = numpy_helper.from_array(np.array(line.slope.shape, np.int64), f"{target}.shape")
        self.constants[shape.name] = shape
        self._add(helper.make_node("Mul", [number, f"{target}.slope"], [f"{target}.scaled"]))
        self._add(helper.make_node("Add", [f"{target}.scaled", f"{target}.offset"], [f"{target}.flat"]))
        kind = helper.np_dtype_to_tensor_dtype(line.slope.dtype)
        self._add(helper.make_node("Reshape", [f"{target}.flat", shape.name], [f"{target}.long"]))
        self._add(helper.make_node("Cast", [f"{target}.long"], [target], to=kind))

    def _tensor(self, name: str) -> str:
        """Return the name of a tensor of the file in this part; a constant that is read is taken along."""
        if not name or name in self.borders:
            return self.borders.get(name, name)
        if name not in self.graph.constants:
            return f"{self.part}/{name}"
        # the engine takes .mean and .var for statistics, which the constants of a file may be called, too
        new = f"{self.part}/{name}" if self.readers[name] == 1 else f"shared/{name}"
        new = f"{new}_" if new.endswith(STATISTICS) else new
        if new not in self.constants:
            tensor = TensorProto()
            tensor.CopyFrom(self.graph.constants[name])
            tensor.name = new
            self.constants[new] = tensor
        return new

    def _add(self, node: NodeProto) -> None:
        node.name = f"{self.part}/{node.op_type}{len(self.nodes)}"
        self.nodes.append(node)

    def _give_statistics(self, node: NodeProto, original: NodeProto) -> None:
        """Give a batch norm statistics that only it reads."""
        self.norms[original.output[0]] = node.name
        for place, ending in zip((3, 4), STATISTICS, strict=True):
            values = numpy_helper.to_array(self.graph.constants[original.input[place]])
            self.constants[f"{node.name}{ending}"] = numpy_helper.from_array(values, f"{node.name}{ending}")
            node.input[place] = f"{node.name}{ending}"
