"""The tree of prefixes of a set of sub-networks, and its division into units that run as one ONNX graph each.

Two sub-networks that begin with the same parts compute the same up to where they differ, activations and re-calibrated
statistics alike. In the tree every such prefix is one node, so that a walk over the tree computes each of them once.

    specs 1-2, 1-3, 1-2-3:      stem - block1 - block2 - head
                                              |        `- block3 - head
                                              `- block3 - head

One session per node would be the simplest way to run the tree, and a slow one: onnxruntime fuses operators, chooses memory
layouts and plans memory within one graph. One graph for the whole tree would hold all activations at once, and could not be
cached for the next tree. Units are in between. This module knows the names of parts; it knows neither ONNX nor images.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from stimcore.subnets.part_name import PartName, Route


@dataclass
class Node:
    """A prefix.

    Attributes:
        route: Names of its parts.
        children: Name of the next part -> the longer prefix.
        leaf: Whether a sub-network ends here.
    """

    route: Route
    children: dict[PartName, "Node"] = field(default_factory=dict)
    leaf: bool = False


def prefix_tree(routes: Iterable[Route]) -> Node:
    """Return the root of the tree whose leaves are `routes`. The root is the empty prefix: the images.

    Example:
        >>> stem, head = PartName("stem"), PartName("head")
        >>> root = prefix_tree([(stem, PartName.block(1), head), (stem, PartName.block(2), head)])
        >>> [" ".join(map(str, node.route)) for node in nodes_below(root)]
        ['stem', 'stem block1', 'stem block1 head', 'stem block2', 'stem block2 head']
    """
    root = Node(())
    for route in routes:
        node = root
        for i, name in enumerate(route):
            node = node.children.setdefault(name, Node(route[: i + 1]))
        node.leaf = True
    return root


def nodes_below(root: Node) -> list[Node]:
    """Return all nodes below the root depth first: parents before children, every subtree in one piece."""
    below: list[Node] = []
    # a loop: the tree of a ResNet-1202 is deeper than Python's recursion limit
    pending = list(reversed(root.children.values()))
    while pending:
        node = pending.pop()
        below.append(node)
        pending.extend(reversed(node.children.values()))
    return below


@dataclass(frozen=True)
class Unit:
    """Steps that run as one graph.

    Attributes:
        source: The prefix whose output is the input of the graph.
        steps: Prefixes whose last part runs, parents first; each continues the source or an earlier step.
        outputs: Steps whose outputs leave the graph.
    """

    source: Route
    steps: tuple[Route, ...]
    outputs: tuple[Route, ...]

    @classmethod
    def whole(cls, route: Route) -> "Unit":
        """Return the unit that runs a whole route, from the images to the last part."""
        return cls((), tuple(route[: i + 1] for i in range(len(route))), (route,))


def cut_into_units(
    root: Node,
    *,
    wanted: Callable[[Node], bool],
    available: Callable[[Route], bool],
    emitted: Callable[[Node], bool],
    cost: Callable[[Node], float],
) -> list[Unit]:
    """Divide what has to run into units, sources before the units that read them.

    Requires:
        Costs are in (0, 1].

    Ensures:
        Every wanted node is a step of exactly one unit. The source of a unit is the images, available, or an output of an
        earlier unit. The costs of a unit's nodes sum to at most 1. Nothing runs that no wanted node needs.

    Args:
        root: The tree.
        wanted: Returns whether a node's last part must run.
        available: Returns whether the output of a prefix is known already, so that nothing before it has to run for its sake.
        emitted: Returns whether the output of a node is needed outside, if the node runs.
        cost: Returns the share of a unit that a node takes.
    """
    order = nodes_below(root)
    # a node runs when it is wanted, or when a child runs and reads an output that is not available; from the leaves up
    runs: dict[Route, bool] = {}
    for node in reversed(order):
        child_runs = any(runs[child.route] for child in node.children.values())
        runs[node.route] = wanted(node) or (child_runs and not available(node.route))
    cut = _cuts(root, order, runs, available, cost)
    units: list[Unit] = []
    for node in [root, *order]:
        children = [child for child in node.children.values() if runs[child.route]]
        # each subtree that was cut off is a unit of its own; the others go on inside their parent's unit, unless the parent
        # does not run in any: then they share one that starts from its known output
        groups = [[child] for child in children if child.route in cut]
        if node is root or available(node.route):
            groups.append([child for child in children if child.route not in cut])
        units += [_unit(node.route, group, runs, cut, available, emitted) for group in groups if group]
    # a unit's source is an ancestor of its first step, so that the order of first steps puts sources first
    place = {node.route: i for i, node in enumerate(order)}
    return sorted(units, key=lambda unit: place[unit.steps[0]])


def _cuts(
    root: Node, order: list[Node], runs: dict[Route, bool], available: Callable[[Route], bool], cost: Callable[[Node], float]
) -> set[Route]:
    """Return the nodes that begin a unit of their own because their parent's would exceed a cost of 1.

    From the leaves up, every node gathers what is left of its children's subtrees and cuts off the costliest ones until the
    rest fits. Costly subtrees make full units by themselves; the small ones that stay fill up the unit of their parent. Few
    and full units mean few activations that are written out and read again.

    Source: Kundu & Misra 1977, "A linear tree partitioning algorithm": to cut off the costliest children from the leaves up
    gives the fewest pieces of bounded cost. The known outputs, where units begin anyway, are our addition.
    """
    total: dict[Route, float] = {}  # cost of a node with what is left of its subtree
    cut: set[Route] = set()
    for node in [*reversed(order), root]:
        kept = sorted((child for child in node.children.values() if runs[child.route]), key=lambda child: total[child.route])
        starts_anew = node is root or available(node.route)
        own = 0.0 if starts_anew else cost(node)
        # one child may always stay where the node itself is in no unit: a single part is a legal unit whatever it costs
        while kept and own + sum(total[child.route] for child in kept) > 1 and (own or len(kept) > 1):
            cut.add(kept.pop().route)
        # What is left of the subtree adds to the cost of the parent's unit. Behind a known output nothing is left: a node that
        # runs although its output is known (its statistics are wanted, say) is a leaf of its parent's unit, and its children
        # read the known output in a unit of theirs.
        total[node.route] = cost(node) if starts_anew and node is not root else own + sum(total[child.route] for child in kept)
    return cut


def _unit(
    source: Route,
    first: list[Node],
    runs: dict[Route, bool],
    cut: set[Route],
    available: Callable[[Route], bool],
    emitted: Callable[[Node], bool],
) -> Unit:
    """Return the unit that continues a source with some of its children, down to where subtrees were cut off."""
    steps: list[Route] = []
    outputs: list[Route] = []
    pending = list(reversed(first))
    while pending:
        node = pending.pop()
        steps.append(node.route)
        # behind an available output begin other units: they read the known output instead of this one
        running = [] if available(node.route) else [child for child in node.children.values() if runs[child.route]]
        inside = [child for child in running if child.route not in cut]
        if emitted(node) or len(inside) < len(running):
            outputs.append(node.route)
        pending.extend(reversed(inside))
    return Unit(source, tuple(steps), tuple(outputs))
