"""Graph surgery: any set of sub-networks out of `main.onnx`, with batch norms measuring, fixed or folded.

Works on `onnx` protos. Every batch norm owns its two statistics inputs, named `NODE.mean` and `NODE.var`. A part that occurs
several times in one graph (behind different prefixes) has its names marked `~2`, `~3`, ...; its weights are stored once.
A narrowed part (`block7@96`, see `stimcore.subnets.channels`) is its whole part with constants sliced; those are named `NAME@96`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from stimcore.bundle import PartEntry
from stimcore.errors import BundleError
from stimcore.subnets.channels import Ranges
from stimcore.subnets.part_name import PartName, Route
from stimcore.subnets.topology import Topology

Statistics = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Batch norm's node name -> mean and variance, float32 `[C]`."""
IR_VERSION = 10
INPUT = "in"


@dataclass(frozen=True)
class Measuring:
    """A graph whose batch norms run on batch statistics.

    Attributes:
        model: Its outputs are `outputs`, then mean and population variance of every norm in `norms`.
        outputs: Wanted step -> tensor.
        norms: `(step, batch norm)` in the order of the outputs.
    """

    model: onnx.ModelProto
    outputs: dict[Route, str]
    norms: list[tuple[Route, str]]


@dataclass(frozen=True)
class _Step:
    """One part of a graph under construction: its copied nodes, and what marks its names."""

    route: Route
    mark: str
    output: str
    nodes: list[NodeProto]

    @property
    def suffix(self) -> str:
        """What the part was narrowed to, with its `@`; empty for a whole part."""
        return self.route[-1].suffix


class Graph:
    """The parts of a main network.

    Args:
        model: The main network, weights loaded.
        parts: Its parts in order; a node belongs to the part whose name its own begins with.
        topology: The network's; needed where parts are narrowed.
    """

    def __init__(self, model: onnx.ModelProto, parts: Sequence[PartEntry], topology: Topology | None = None) -> None:
        self.parts = {part.name: part for part in parts}
        self.topology = topology
        self.opset = next(item.version for item in model.opset_import if item.domain == "")
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.nodes: dict[PartName, list[NodeProto]] = {name: [] for name in self.parts}
        for node in model.graph.node:
            self.nodes[PartName.parse(node.name.split("/", 1)[0])].append(node)
        self._norms = {
            name: [node for node in nodes if node.op_type == "BatchNormalization"] for name, nodes in self.nodes.items()
        }
        self._shapes = _shapes(model)

    @classmethod
    def load(cls, path: Path, parts: Sequence[PartEntry], topology: Topology | None = None) -> "Graph":
        """Reads `main.onnx` and the weights beside it.

        Raises:
            BundleError: onnx refuses the files, such as weights that are linked instead of copied.
        """
        try:
            model = onnx.load(str(path))
        except onnx.checker.ValidationError as reason:
            raise BundleError(
                f"{path} can't be loaded ({reason})", todo="If its folder was copied with hard links (cp -l), copy the files."
            ) from reason
        return cls(model, parts, topology)

    def norms(self, part: PartName) -> list[str]:
        """Names of a part's batch norms."""
        return [node.name for node in self._norms[part.whole]]

    def positions(self, part: PartName) -> dict[str, int]:
        """Batch norm -> values per channel and image (height times width)."""
        shapes = {node.name: self._shapes[node.input[0]] for node in self._norms[part.whole]}
        return {name: int(np.prod(shape[2:], dtype=np.int64)) for name, shape in shapes.items()}

    def image_bytes(self, part: PartName) -> int:
        """Bytes of a part's output for one image, as float32; for a narrowed part those of the whole."""
        return 4 * int(np.prod(self._shapes[self.parts[part.whole].output][1:], dtype=np.int64))

    def largest_image_bytes(self) -> int:
        """Bytes of the largest tensor between any two nodes for one image, as float32."""
        return 4 * max(int(np.prod(shape[1:], dtype=np.int64)) for shape in self._shapes.values() if shape[:1] == (0,))

    def weight_bytes(self, part: PartName) -> int:
        """Bytes of a part's constants; for a narrowed part those of the whole."""
        used = {name for node in self.nodes[part.whole] for name in node.input if name in self.weights}
        return sum(4 * int(np.prod(self.weights[name].dims, dtype=np.int64)) for name in used)

    def measuring(
        self, source: Route, steps: Sequence[Route], outputs: Sequence[Route], *, decompose: bool = False
    ) -> Measuring:
        """Parts with batch norms on batch statistics.

        Args:
            source: The prefix whose output is the graph's input `in`.
            steps: Prefixes whose last part is in the graph, parents first.
            outputs: Steps whose outputs are wanted.
            decompose: Write batch norms as reductions, for providers without `training_mode`.
        """
        nodes: list[NodeProto] = []
        found: dict[Route, str] = {}
        norms: list[tuple[Route, str]] = []
        extra: list[str] = []
        for step in self._steps(source, steps, {}):
            found[step.route] = step.output
            for node in step.nodes:
                if node.op_type != "BatchNormalization":
                    nodes.append(node)
                    continue
                for place in (3, 4):  # they are not read on batch statistics, so one constant does for all occurrences
                    name = node.input[place].removesuffix(step.mark)
                    node.input[place] = self._sliced(name, step)
                own = [f"{node.name}:mean", f"{node.name}:var"]
                nodes += _decomposed(node, own) if decompose else [_training(node, own)]
                norms.append((step.route, node.name.removesuffix(step.mark)))
                extra += own
        wanted = {route: found[route] for route in outputs}
        return Measuring(self._model(nodes, INPUT, [*wanted.values(), *extra], {}), wanted, norms)

    def fixed(
        self,
        source: Route,
        steps: Sequence[Route],
        outputs: Sequence[Route],
        statistics: Mapping[Route, Statistics],
        *,
        names: tuple[str, str] | None = None,
        folded: bool = True,
    ) -> tuple[onnx.ModelProto, dict[Route, str]]:
        """Parts with fixed statistics.

        Args:
            source: The prefix whose output is the graph's input.
            steps: Prefixes whose last part is in the graph, parents first.
            outputs: Steps whose outputs are wanted.
            statistics: Step -> statistics of its batch norms.
            names: Of the input, and of the only output.
            folded: Scale every convolution by the batch norm that alone reads it, and leave the batch norm out. Otherwise all
                constants stay as they are stored, and the graph itself slices those of narrowed parts.

        Returns:
            The model, and wanted step -> tensor.
        """
        nodes: list[NodeProto] = []
        constants: dict[str, TensorProto] = {}
        found: dict[Route, str] = {}
        fixed_names = {} if names is None else {outputs[0]: names[1]}
        entry = INPUT if names is None else names[0]
        for step in self._steps(source, steps, fixed_names, entry):
            found[step.route] = step.output
            if folded:
                nodes += self._folded(step, statistics[step.route], constants)
                continue
            for node in step.nodes:
                if node.op_type == "BatchNormalization":
                    own = statistics[step.route][node.name.removesuffix(step.mark)]
                    for place, value in zip((3, 4), own, strict=True):
                        constants[node.input[place]] = numpy_helper.from_array(value, node.input[place])
                nodes.append(node)
        if not folded:
            nodes = [*self._slicing(nodes, constants), *nodes]
        wanted = {route: found[route] for route in outputs}
        return self._model(nodes, entry, list(wanted.values()), constants), wanted

    def _steps(self, source: Route, steps: Sequence[Route], names: Mapping[Route, str], entry: str = INPUT) -> Iterator[_Step]:
        """Copies of the parts' nodes, border tensors joined, names of a part's later occurrences marked."""
        borders = {source: entry}
        times: Counter[PartName] = Counter()
        for route in steps:
            part = self.parts[route[-1].whole]
            times[part.name] += 1
            mark = "" if times[part.name] == 1 else f"~{times[part.name]}"
            borders[route] = names.get(route, part.output + mark)
            rename = {part.input: borders[route[:-1]], part.output: borders[route]}
            copies: list[NodeProto] = []
            step = _Step(route, mark, borders[route], copies)
            for original in self.nodes[part.name]:
                node = NodeProto()
                node.CopyFrom(original)
                node.name += mark
                for place, tensor in enumerate(original.input):
                    shared = tensor in self.weights and not tensor.endswith((".mean", ".var"))
                    own = self._sliced(tensor, step) if shared or not tensor else tensor + mark
                    node.input[place] = rename.get(tensor, own)
                for place, tensor in enumerate(original.output):
                    node.output[place] = rename.get(tensor, tensor + mark if tensor else "")
                copies.append(node)
            yield step

    def _sliced(self, tensor: str, step: _Step) -> str:
        """The name under which a step reads a constant: with its suffix where the step's part has it narrower."""
        return tensor + step.suffix if tensor in self.parts[step.route[-1].whole].axes else tensor

    def _ranges(self, name: str) -> list[Ranges]:
        """Per leading axis what a narrowed constant keeps of the stored one; empty where it keeps all."""
        tensor, _, suffix = name.partition("@")
        part = self.parts[PartName.parse(tensor.split("/", 1)[0])]
        kept = self.topology.kept(PartName.parse(f"{part.name}@{suffix}")) if self.topology and suffix else None
        return [] if kept is None else [kept.along(axis) for axis in part.axes.get(tensor, ())]

    def narrowed(self, name: str, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a narrowed constant `NAME@SUFFIX` keeps of the values stored under `NAME`."""
        for axis, ranges in enumerate(self._ranges(name)):
            if ranges:
                stored = stored.take(np.concatenate([np.arange(*span) for span in ranges]), axis)
        return stored

    def _slicing(self, nodes: Sequence[NodeProto], constants: dict[str, TensorProto]) -> list[NodeProto]:
        """Nodes that slice the stored constants for narrowed parts, so that a graph needs no copy of any."""
        found: list[NodeProto] = []
        for name in dict.fromkeys(name for node in nodes for name in node.input if "@" in name and name not in constants):
            pieces = _pieces(name, self._ranges(name))
            constants.update({tensor.name: tensor for _, tensors in pieces for tensor in tensors})
            found += [node for node, _ in pieces]
        return found

    def _constant(self, name: str) -> TensorProto | None:
        """A stored constant, or the slice of one that its name speaks of; None for no constant."""
        if "@" not in name:
            return self.weights.get(name)
        stored = self.weights.get(name.partition("@")[0])
        return None if stored is None else numpy_helper.from_array(self.narrowed(name, numpy_helper.to_array(stored)), name)

    def _folded(self, step: _Step, statistics: Statistics, constants: dict[str, TensorProto]) -> list[NodeProto]:
        """A step's nodes with batch norms gone into the convolutions before them, in float64 and rounded once."""
        producer = {name: node for node in step.nodes for name in node.output}
        readers = Counter(name for node in step.nodes for name in node.input)
        kept: list[NodeProto] = []
        for node in step.nodes:
            if node.op_type != "BatchNormalization":
                kept.append(node)
                continue
            own = statistics[node.name.removesuffix(step.mark)]
            before = producer.get(node.input[0])
            if before is None or before.op_type != "Conv" or readers[node.input[0]] > 1:
                for place, value in zip((3, 4), own, strict=True):
                    constants[node.input[place]] = numpy_helper.from_array(value, node.input[place])
                kept.append(node)
                continue
            scale, shift = self._array(node.input[1]), self._array(node.input[2])
            mean, var = (value.astype(np.float64) for value in own)
            factor = scale / np.sqrt(var + _epsilon(node))
            weight = self._array(before.input[1])
            bias = self._array(before.input[2]) if len(before.input) > 2 else 0.0
            names = [f"{before.name}.weight", f"{before.name}.bias"]
            folded = weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * factor + shift
            for name, exact in zip(names, folded, strict=True):
                constants[name] = numpy_helper.from_array(exact.astype(np.float32), name)
            before.input[:] = [before.input[0], *names]
            before.output[0] = node.output[0]
        return kept

    def _array(self, name: str) -> NDArray[np.float64]:
        constant = self._constant(name)
        assert constant is not None
        return numpy_helper.to_array(constant).astype(np.float64)

    def _model(
        self, nodes: Sequence[NodeProto], source: str, outputs: Sequence[str], constants: Mapping[str, TensorProto]
    ) -> onnx.ModelProto:
        made = {name for node in nodes for name in node.output}
        used = {name for node in nodes for name in node.input} - made
        stored = {name: self._constant(name) for name in used - set(constants)}
        held = {**{name: tensor for name, tensor in stored.items() if tensor is not None}, **constants}
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info(source, TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [held[name] for name in sorted(used & set(held))],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Tensor -> shape, 0 where it depends on the batch; from ONNX's own shape inference, weights left out."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    graph = onnx.shape_inference.infer_shapes(bare).graph
    found = {}
    for info in [*graph.value_info, *graph.input, *graph.output]:
        dims = info.type.tensor_type.shape.dim
        found[info.name] = tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims)
    return found


def _pieces(name: str, axes: Sequence[Ranges]) -> list[tuple[NodeProto, list[TensorProto]]]:
    """Nodes that slice `NAME` into `NAME@SUFFIX` axis by axis, each with the constants that it reads."""
    found: list[tuple[NodeProto, list[TensorProto]]] = []
    source = name.partition("@")[0]
    wanted = [(axis, ranges) for axis, ranges in enumerate(axes) if ranges]
    for axis, ranges in wanted:
        target = name if (axis, ranges) == wanted[-1] else f"{name}:{axis}"
        outputs = [target] if len(ranges) == 1 else [f"{name}:{axis}:{i}" for i in range(len(ranges))]
        for output, (start, stop) in zip(outputs, ranges, strict=True):
            values = [("start", start), ("stop", stop), ("axis", axis)]
            held = [numpy_helper.from_array(np.array([value], np.int64), f"{output}:{what}") for what, value in values]
            names = [source, *(tensor.name for tensor in held)]
            found.append((helper.make_node("Slice", names, [output], name=f"{output}:Slice"), held))
        if len(ranges) > 1:
            found.append((helper.make_node("Concat", outputs, [target], name=f"{target}:Concat", axis=axis), []))
        source = target
    return found


def _epsilon(node: NodeProto) -> float:
    return float(next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5))


def _training(node: NodeProto, outputs: Sequence[str]) -> NodeProto:
    """A batch norm on batch statistics, with batch mean and population variance as further outputs (momentum 0)."""
    node.output.extend(outputs)
    epsilon = _epsilon(node)
    del node.attribute[:]
    for name, value in (("epsilon", epsilon), ("training_mode", 1), ("momentum", 0.0)):
        node.attribute.append(helper.make_attribute(name, value))
    return node


def _decomposed(node: NodeProto, outputs: Sequence[str]) -> list[NodeProto]:
    """The same as `_training` for `[B, C, H, W]`, written as reductions."""
    x, scale, shift = node.input[:3]
    name, mean, var = node.name, *outputs

    def tensor(part: str) -> str:
        return f"{name}:{part}"

    def constant(part: str, value: NDArray) -> NodeProto:
        return helper.make_node("Constant", [], [tensor(part)], name=tensor(part), value=numpy_helper.from_array(value))

    def op(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
        return helper.make_node(kind, inputs, [output], name=f"{name}:{kind}:{output}", **attributes)

    axes = np.array([0, 2, 3], np.int64)
    return [
        constant("axes", axes),
        constant("spread", np.array([1, 2], np.int64)),
        constant("epsilon", np.array(_epsilon(node), np.float32)),
        op("ReduceMean", [x, tensor("axes")], tensor("mean4"), keepdims=1),
        op("Sub", [x, tensor("mean4")], tensor("centred")),
        op("Mul", [tensor("centred"), tensor("centred")], tensor("squared")),
        op("ReduceMean", [tensor("squared"), tensor("axes")], tensor("var4"), keepdims=1),
        op("ReduceMean", [x, tensor("axes")], mean, keepdims=0),
        op("ReduceMean", [tensor("squared"), tensor("axes")], var, keepdims=0),
        op("Add", [tensor("var4"), tensor("epsilon")], tensor("safe")),
        op("Sqrt", [tensor("safe")], tensor("deviation")),
        op("Div", [tensor("centred"), tensor("deviation")], tensor("unit")),
        op("Unsqueeze", [scale, tensor("spread")], tensor("scale3")),
        op("Unsqueeze", [shift, tensor("spread")], tensor("shift3")),
        op("Mul", [tensor("unit"), tensor("scale3")], tensor("scaled")),
        op("Add", [tensor("scaled"), tensor("shift3")], node.output[0]),
    ]


def check_shapes(graph: Graph) -> None:
    """Makes sure that shape inference got through to every batch norm and border.

    Raises:
        BundleError: Names the first part where it did not.
    """
    for name in graph.parts:
        if not all(graph.positions(name).values()) or not graph.image_bytes(name):
            raise BundleError(f"the shapes inside part {name} of main.onnx can't be inferred", todo="Export the run again.")
