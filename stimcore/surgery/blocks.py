"""Finds the residual blocks in a plain graph.

A tensor through which everything passes on its way from the images to the logits is a *border*. Between two neighbouring
borders lies a segment, and a segment is a residual block when it ends with an addition one operand of which is the border
at its beginning, with the same shape. What follows the addition belongs to the block where it is an activation function,
or, after blocks that begin behind a layer norm, the layer norm. Bypassing such a block leaves its input as it is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto

from stimcore.errors import UsageError
from stimcore.subnets.part_name import HEAD, STEM, PartName
from stimcore.subnets.topology import Topology
from stimcore.surgery.plain import PlainGraph

ADDITIONS = frozenset({"Add", "Sum"})
ELEMENTWISE = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Celu", "Selu", "Gelu", "Mish", "HardSwish", "HardSigmoid", "Sigmoid"}
    | {"Tanh", "Softplus", "Erf", "Mul", "Add", "Div", "Sub", "Swish", "QuickGelu", "FastGelu"}
)
"""Operators of which activation functions are made."""
NORMS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
LOOKED_FOR = (
    "an Add of two tensors of equal shape, one of which is the only tensor that enters everything between it and the Add"
)


@dataclass(frozen=True)
class Segment:
    """What lies between two borders.

    Attributes:
        entry: The border at its beginning.
        nodes: Its nodes.
        exit: The border at its end.
    """

    entry: str
    nodes: tuple[NodeProto, ...]
    exit: str


@dataclass(frozen=True, kw_only=True)
class FoundNetwork:
    """A graph divided into stem, blocks and head.

    Attributes:
        graph: The graph.
        topology: Stages, and the blocks that can't be removed.
        parts: Part -> what it computes, in order.
    """

    graph: PlainGraph
    topology: Topology
    parts: dict[PartName, Segment]


def find_blocks(graph: PlainGraph, name: str) -> FoundNetwork:
    """Return a graph divided into stem, blocks and head.

    A stage is a run of residual blocks of equal shape. What lies between two runs (a change of the resolution, say) is a block
    that can't be removed, the first of its stage; what lies before the first run is the stem, and what lies behind the last one
    is the head.

    Args:
        graph: The graph.
        name: Name of the network.

    Raises:
        UsageError: There is no residual block; the message says what was looked for.

    Example:
        >>> from pathlib import Path
        >>> from stimcore.surgery.plain import plain_graph
        >>> from stimcore.surgery.reading import read_onnx
        >>> file = read_onnx(Path("exported/resnet20-fashion/common/main.onnx"))
        >>> topology = find_blocks(plain_graph(file, file.image_shape()), "found").topology
        >>> topology.sizes, topology.fixed
        ((3, 3, 3), {4: 'it changes the shape', 7: 'it changes the shape'})
    """
    segments = _with_activations(graph, _segments(graph))
    residual = [_is_residual(graph, segment) for segment in segments]
    if not any(residual):
        raise UsageError(f"there is no residual block in {name}: no node is {LOOKED_FOR}", allowed="residual networks")
    first, last = residual.index(True), len(residual) - 1 - residual[::-1].index(True)
    parts = {STEM: _joined(segments[:first], graph.input)}
    sizes: list[int] = [0]
    fixed: dict[int, str] = {}
    place = first
    # Between the first residual block and the last one every segment becomes part of a block: a stage begins at whatever lies
    # between two runs, as one block, however many segments it has. `residual[last]` ends the inner loop.
    while place <= last:
        end = place + 1
        number = sum(sizes) + 1
        if not residual[place]:
            while not residual[end]:
                end += 1
            sizes.append(0)
            segment = _joined(segments[place:end], segments[place].entry)
            same = graph.shapes[segment.entry] == graph.shapes[segment.exit]
            fixed[number] = "no shortcut leads around it" if same else "it changes the shape"
        parts[PartName.block(number)] = _joined(segments[place:end], segments[place].entry)
        sizes[-1] += 1
        place = end
    parts[HEAD] = _joined(segments[last + 1 :], segments[last].exit)
    return FoundNetwork(graph=graph, topology=Topology.of(name, sizes, fixed), parts=parts)


def _segments(graph: PlainGraph) -> list[Segment]:
    """Return the segments between neighbouring borders whose first axis is the images.

    In any order in which the nodes can run, everything that has run when a border is computed leads to it. A tensor is
    therefore a border exactly when it is the only one that is still to be read: one walk over the nodes with a count of the
    readers finds all of them, where dominators of the graph would be a larger machine for the same answer.
    """
    left = Counter(name for node in graph.nodes for name in graph.activations(node))
    left[graph.output] += 1
    unread = {graph.input}
    segments: list[Segment] = []
    nodes: list[NodeProto] = []
    entry = graph.input
    for node in graph.nodes:
        nodes.append(node)
        for name in graph.activations(node):
            left[name] -= 1
            if not left[name]:
                unread.discard(name)
        unread |= {name for name in node.output if left[name]}
        # `in node.output`: the border at the beginning is alone again where a node computes nothing that is read
        if len(unread) == 1 and graph.shapes[border := next(iter(unread))] is not None and border in node.output:
            segments.append(Segment(entry, tuple(nodes), border))
            entry, nodes = border, []
    assert not nodes, "the logits are a border"
    return segments


def _is_residual(graph: PlainGraph, segment: Segment) -> bool:
    """Return whether a segment, with or without an activation at its end, adds what enters it to what it computes."""
    if graph.shapes[segment.entry] != graph.shapes[segment.exit]:
        return False
    for node in segment.nodes:
        if node.op_type in ADDITIONS and not node.domain and len(node.input) == 2 and segment.entry in node.input:
            # None for x + x, which is no shortcut; a constant is no activation and has no place in `shapes`
            other = next((name for name in node.input if name != segment.entry), None)
            # the sum itself has to be a border: an addition deeper inside is part of what the block computes
            if other in graph.shapes and _passes(graph, segment, node):
                return True
    return False


def _passes(graph: PlainGraph, segment: Segment, addition: NodeProto) -> bool:
    """Return whether everything that a segment computes passes through an addition in it."""
    after = segment.nodes[[node is addition for node in segment.nodes].index(True) + 1 :]
    inside = {addition.output[0]}
    for node in after:
        if not set(graph.activations(node)) <= inside:
            return False
        inside |= set(node.output)
    return True


def _with_activations(graph: PlainGraph, segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments after what follows an addition has become part of the block."""
    producers = {name: node for node in graph.nodes for name in node.output}
    joined: list[Segment] = []
    for segment in segments:
        before = joined[-1] if joined else None
        if before is not None and _is_residual(graph, before) and _belongs(graph, before, segment, producers):
            joined[-1] = _joined([before, segment], before.entry)
        else:
            joined.append(segment)
    return joined


def _belongs(graph: PlainGraph, block: Segment, segment: Segment, producers: dict[str, NodeProto]) -> bool:
    if graph.shapes[segment.entry] != graph.shapes[segment.exit] or _is_residual(graph, segment):
        return False
    if len(segment.nodes) == 1 and segment.nodes[0].op_type in NORMS:
        entered = producers.get(block.entry)  # post-norm: the block before ended with a layer norm, too
        return entered is not None and entered.op_type in NORMS
    # an activation function has no weights: its constants are single numbers
    weights = (name for node in segment.nodes for name in node.input if name in graph.constants)
    plain = all(len(graph.constants[name].dims) == 0 or list(graph.constants[name].dims) == [1] for name in weights)
    return plain and all(node.op_type in ELEMENTWISE for node in segment.nodes)


def _joined(segments: Sequence[Segment], entry: str) -> Segment:
    """Return neighbouring segments as one; nothing at all is the segment that ends where it begins."""
    nodes = tuple(node for segment in segments for node in segment.nodes)
    return Segment(entry, nodes, segments[-1].exit if segments else entry)
