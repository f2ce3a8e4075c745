"""Brings the graph of any exporter into a plain form: every node computes activations, everything else is a constant.

Exporters write shapes as calculations (Shape, Gather, Concat, ...) that begin at the images and are read in every block, and
constants as nodes. Both hide the blocks: a block is what lies between two tensors through which everything passes. In the plain
form, the values of a calculated shape are known as a function of the number of images, so that every part of a network can
compute them from its own input.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from stimcore.engine.cuda import CPU
from stimcore.engine.graph.compose import IR_VERSION
from stimcore.engine.provider import session_options
from stimcore.errors import UsageError
from stimcore.surgery.reading import FATAL_ONLY, OnnxFile, in_short, node_name

PROBES = (2, 3, 5)
"""Numbers of images with which a graph runs once, to see what depends on the number of images: a straight line needs two."""
SHAPE_OPS = frozenset({"Shape", "Size"})
PASSED_ON = frozenset({"Identity", "Dropout"})
"""Operators that return their first input in evaluation mode."""
FUSED = "SkipLayerNormalization"
"""onnxruntime's fusion of the end of a residual block with the layer norm that follows."""


@dataclass(frozen=True)
class Line:
    """A calculated tensor: `slope * images + offset`, each an array of the tensor's shape and kind."""

    slope: NDArray[Any]
    offset: NDArray[Any]

    @property
    def constant(self) -> bool:
        """Whether the number of images plays no part."""
        return not self.slope.any()


@dataclass(frozen=True, kw_only=True)
class PlainGraph:
    """A graph in plain form.

    Attributes:
        input: Name of the images.
        output: Name of the logits.
        image_shape: `[C, H, W]`.
        nodes: The nodes that compute activations, in an order in which they can run.
        constants: Name -> constant.
        lines: Name -> calculated tensor that depends on the number of images.
        remade: Name -> the node that makes a tensor of calculated shape (a class token for every image, say); its inputs are
            constants, `lines` and other remade tensors.
        shapes: Activation -> sizes of one image, `[D1, D2, ...]`; None where its first axis is not the images.
        opsets: The operator sets of the graph.
    """

    input: str
    output: str
    image_shape: tuple[int, int, int]
    nodes: Sequence[NodeProto]
    constants: Mapping[str, TensorProto]
    lines: Mapping[str, Line]
    remade: Mapping[str, NodeProto]
    shapes: Mapping[str, tuple[int, ...] | None]
    opsets: Sequence[onnx.OperatorSetIdProto]

    def activations(self, node: NodeProto) -> list[str]:
        """Return the inputs of a node that are activations."""
        return [name for name in node.input if name in self.shapes]


def plain_graph(file: OnnxFile, image_shape: tuple[int, int, int]) -> PlainGraph:
    """Return the graph of a file in plain form.

    Args:
        file: The file.
        image_shape: `[C, H, W]` of its images.

    Raises:
        UsageError: The graph does not take any number of images, has branches that depend on values, or is random.
    """
    nodes, constants, aliases = _cleaned(file)
    output = aliases.get(file.output, file.output)
    work = _Work(file, image_shape, nodes, constants, output)
    work.fold_constants()
    work.probe()
    shapes = {
        name: work.image_sizes(name) for name in [file.input, *(name for node in work.data_nodes for name in node.output)]
    }
    if shapes[output] is None or len(shapes[output] or ()) != 1:
        sizes = "another number of axes" if shapes[output] is None else f"[N, {', '.join(map(str, shapes[output] or ()))}]"
        raise UsageError(f"the output of {file.path} is {sizes}", allowed="logits [N, classes]")
    if file.softmax is not None:
        entering = file.softmax.input[0]
        _check_classes(file, file.softmax, work.image_sizes(aliases.get(entering, entering)))
    return PlainGraph(
        input=file.input,
        output=output,
        image_shape=image_shape,
        nodes=work.data_nodes,
        constants=work.constants,
        lines=work.lines,
        remade=work.remade,
        shapes=shapes,
        opsets=list(file.model.opset_import),
    )


def _check_classes(file: OnnxFile, softmax: NodeProto, sizes: tuple[int, ...] | None) -> None:
    """Make sure that the Softmax which was taken out of a file goes over the classes, so that its input are the logits.

    Args:
        file: The file.
        softmax: The node, as it was.
        sizes: Sizes of one image in what enters it; None where the first axis is not the images.

    Raises:
        UsageError: It goes over something else.
    """
    axis = next((attribute.i for attribute in softmax.attribute if attribute.name == "axis"), -1)
    place = axis if axis >= 0 or sizes is None else axis + len(sizes) + 1
    # [N, classes], or the same with axes of size 1: [N, classes, 1, 1] in front of a Flatten
    if sizes is None or place < 1 or int(np.prod(sizes)) != sizes[place - 1]:
        shape = "something else than images" if sizes is None else f"[N, {', '.join(map(str, sizes))}]"
        raise UsageError(
            f"{file.path} ends in the {softmax.op_type} {node_name(softmax)} over axis {axis} of {shape}, which are not its "
            "classes: the logits can't be found",
            allowed="logits [N, classes], or a Softmax over their classes",
        )


def _cleaned(file: OnnxFile) -> tuple[list[NodeProto], dict[str, TensorProto], dict[str, str]]:
    """Return the nodes that lead to the output, without copies and fusions, the constants, and the tensors that were copies.

    The last maps the name of a copy to what it is a copy of.
    """
    graph = file.model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    aliases: dict[str, str] = {}
    nodes: list[NodeProto] = []
    for original in graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in original.attribute):
            raise UsageError(
                f"{file.path} has the node {original.name or original.op_type} with a graph of its own ({original.op_type})",
                allowed="graphs without branches and loops",
            )
        node = NodeProto()
        node.CopyFrom(original)
        node.input[:] = [aliases.get(name, name) for name in node.input]
        if node.op_type == "Constant" and not node.domain:
            constants[node.output[0]] = _constant(node)
        elif node.op_type in PASSED_ON and not node.domain:
            aliases[node.output[0]] = node.input[0]
        elif node.op_type == FUSED:
            nodes += _unfused(node)
        else:
            nodes.append(node)
    output = aliases.get(file.output, file.output)
    needed, kept = {output}, []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    kept.reverse()
    return kept, constants, aliases


def _constant(node: NodeProto) -> TensorProto:
    """Return the value of a Constant node as a stored constant."""
    name, attribute = node.output[0], node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        stored = TensorProto()
        stored.CopyFrom(value)
        stored.name = name
        return stored
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kinds:
        raise UsageError(f"the constant {name} is given by '{attribute.name}'", allowed="numbers")
    made: TensorProto = numpy_helper.from_array(np.array(value, kinds[attribute.name]), name)
    return made


def _unfused(node: NodeProto) -> list[NodeProto]:
    """Return the addition and the layer norm that onnxruntime's fused node stands for."""
    inputs = [*node.input, *[""] * (5 - len(node.input))]
    outputs = [*node.output, *[""] * (4 - len(node.output))]
    first, skip, scale, shift, bias = inputs[:5]
    total = outputs[3] or f"{node.output[0]}:sum"
    nodes = []
    if bias:
        nodes.append(helper.make_node("Add", [first, bias], [f"{total}:biased"]))
        first = f"{total}:biased"
    # onnxruntime's default, which is not ONNX's 1e-5
    epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-12)
    nodes.append(helper.make_node("Add", [first, skip], [total]))
    normed = [total, scale, shift] if shift else [total, scale]
    nodes.append(helper.make_node("LayerNormalization", normed, [outputs[0]], axis=-1, epsilon=epsilon))
    return nodes


@dataclass
class _Work:
    """The steps from cleaned nodes to the plain form.

    Attributes:
        data_nodes: Nodes that depend on the values of the images.
        free: Output -> node that depends at most on their number.
    """

    file: OnnxFile
    image_shape: tuple[int, int, int]
    nodes: list[NodeProto]
    constants: dict[str, TensorProto]
    output: str
    data_nodes: list[NodeProto] = field(default_factory=list)
    free: dict[str, NodeProto] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    remade: dict[str, NodeProto] = field(default_factory=dict)
    _sizes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)

    def fold_constants(self) -> None:
        """Compute the nodes that nothing of the images reaches, and divide the others.

        Two walks in one: `counted` is what the images reach in any way, `data` what they reach other than through their sizes.
        A node in the first and not in the second calculates with the number of images (or with image sizes, which are fixed).
        """
        counted, data = {self.file.input}, {self.file.input}
        fixed: list[NodeProto] = []
        for node in self.nodes:
            if not counted & set(node.input):
                fixed.append(node)
                continue
            counted |= set(node.output)
            if data & set(node.input) and node.op_type not in SHAPE_OPS:
                data |= set(node.output)
                self.data_nodes.append(node)
            else:
                self.free |= dict.fromkeys(node.output, node)
        if self.output not in data:
            raise UsageError(f"the output of {self.file.path} does not depend on the images", allowed="logits [N, classes]")
        if random := [node.op_type for node in self.nodes if node.op_type.startswith(("Random", "Bernoulli", "Multinomial"))]:
            raise UsageError(f"{self.file.path} has a random node ({random[0]})", allowed="graphs in evaluation mode")
        made = {name for node in fixed for name in node.output if name}
        read = {name for node in (*self.data_nodes, *self.free.values()) for name in node.input}
        if wanted := sorted(made & read):
            values = self._run(fixed, wanted, {})
            self.constants |= {name: numpy_helper.from_array(value, name) for name, value in zip(wanted, values, strict=True)}

    def probe(self) -> None:
        """Run the graph with several numbers of images, and see what depends on the number."""
        free = list({id(node): node for node in self.free.values()}.values())
        order = [node for node in self.nodes if any(node is other for other in (*self.data_nodes, *free))]
        wanted = [name for node in order for name in node.output if name]
        values: dict[str, list[NDArray[Any]]] = {}
        for number in PROBES:
            images = np.random.Generator(np.random.PCG64(number)).random((number, *self.image_shape), np.float32)
            try:
                outputs = self._run(order, wanted, {self.file.input: images})
            except Exception as reason:  # onnxruntime raises one type of error per status code
                raise UsageError(
                    f"{self.file.path} does not run with {number} images of {'x'.join(map(str, self.image_shape))} "
                    f"({in_short(reason)})",
                    todo="Was it exported for one fixed number or another size of images? Export it with a dynamic batch axis.",
                ) from reason
            for name, value in zip(wanted, outputs, strict=True):
                self._sizes.setdefault(name, []).append(value.shape)
                if name in self.free:
                    values.setdefault(name, []).append(value)
        self._sizes[self.file.input] = [(number, *self.image_shape) for number in PROBES]
        pending = [name for node in self.data_nodes for name in node.input if name in self.free]
        while pending:
            name = pending.pop()
            if name in self.lines or name in self.remade or name in self.constants:
                continue
            if (line := _line(values[name])) is None:
                self.remade[name] = self.free[name]
                pending += [inner for inner in self.free[name].input if inner in self.free]
            elif line.constant:
                self.constants[name] = numpy_helper.from_array(line.offset, name)
            else:
                self.lines[name] = line

    def image_sizes(self, name: str) -> tuple[int, ...] | None:
        """Return the sizes of one image in an activation; None where its first axis is not the images."""
        sizes = self._sizes.get(name)
        if not sizes or not all(shape and shape[0] == number for shape, number in zip(sizes, PROBES, strict=True)):
            return None
        rest = {shape[1:] for shape in sizes}
        return rest.pop() if len(rest) == 1 else None

    def _run(self, nodes: Sequence[NodeProto], wanted: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run nodes in onnxruntime and return tensors."""
        model = model_of_nodes(nodes, self.constants.values(), list(feeds), wanted, self.file.model.opset_import)
        options = session_options(1)
        # as written: what is measured here is put into other graphs
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = FATAL_ONLY
        outputs: list[NDArray[Any]] = ort.InferenceSession(model.SerializeToString(), options, providers=[CPU]).run(
            list(wanted), dict(feeds)
        )
        return outputs


def _line(values: Sequence[NDArray[Any]]) -> Line | None:
    """Return the straight line through the values for the numbers of images in `PROBES`; None where there is none."""
    if len({value.shape for value in values}) > 1:
        return None
    first, second, third = values
    if all(np.array_equal(first, value) for value in values):
        return Line(np.zeros_like(first), first)
    # sizes, axes and indices are whole numbers: for anything else a line through three points may be chance
    if not np.issubdtype(first.dtype, np.integer):
        return None
    a, b, c = PROBES
    slope = (second - first) // (b - a)
    line = Line(slope, first - slope * a)
    # the third point is the proof: a product of two numbers of images, say, is no line
    fits = np.array_equal(line.slope * b + line.offset, second) and np.array_equal(line.slope * c + line.offset, third)
    return line if fits else None


def model_of_nodes(
    nodes: Sequence[NodeProto],
    constants: Iterable[TensorProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> onnx.ModelProto:
    """Return nodes and the constants that they read as a model."""
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [tensor for tensor in constants if tensor.name in read],
    )
    return helper.make_model(graph, opset_imports=list(opsets), ir_version=IR_VERSION)
