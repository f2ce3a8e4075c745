"""The tree of prefixes of any set of sub-networks, and its division into units that run as one ONNX graph each.

Knows part names only: neither ONNX nor images.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from stimcore.subnets.part_name import PartName, Route


@dataclass
class Node:
    """A prefix: its route, the routes that go on from it, and whether a sub-network ends here."""

    route: Route
    children: dict[PartName, "Node"] = field(default_factory=dict)
    leaf: bool = False


def prefix_tree(routes: Iterable[Route]) -> Node:
    """The tree whose leaves are `routes`."""
    root = Node(())
    for route in routes:
        node = root
        for i, name in enumerate(route):
            node = node.children.setdefault(name, Node(route[: i + 1]))
        node.leaf = True
    return root


def nodes(root: Node) -> list[Node]:
    """All nodes below the root, parents before children, each subtree in one piece."""
    found: list[Node] = []
    pending = list(reversed(root.children.values()))
    while pending:
        node = pending.pop()
        found.append(node)
        pending.extend(reversed(node.children.values()))
    return found


@dataclass(frozen=True)
class Unit:
    """Steps that run as one graph.

    Attributes:
        source: The prefix whose output goes in.
        steps: Prefixes whose last part runs, parents first; each goes on from the source or from an earlier step.
        outputs: Steps whose outputs are wanted outside.
    """

    source: Route
    steps: tuple[Route, ...]
    outputs: tuple[Route, ...]


def plan(
    root: Node,
    *,
    wanted: Callable[[Node], bool],
    available: Callable[[Route], bool],
    emitted: Callable[[Node], bool],
    cost: Callable[[Node], float],
) -> list[Unit]:
    """Divides what has to run into units, sources before what reads them.

    Args:
        root: The tree.
        wanted: Nodes whose last part must run.
        available: Prefixes whose outputs are known already; nothing before them runs on their account.
        emitted: Nodes whose outputs are wanted as such, where they run.
        cost: Of a node, in (0, 1]; the nodes of a unit cost at most 1 together (one node may always be a unit).

    Ensures:
        Every wanted node is a step of exactly one unit; every unit's source is available or an output of an earlier unit.
    """
    order = nodes(root)
    runs: dict[Route, bool] = {}
    feeds: dict[Route, bool] = {}  # whether any child runs, so that the node's output is needed
    for node in reversed(order):
        feeds[node.route] = any(runs[child.route] for child in node.children.values())
        runs[node.route] = wanted(node) or (feeds[node.route] and not available(node.route))
    # from the leaves up, subtrees are cut off where a unit would get too costly
    total: dict[Route, float] = {}
    cut: set[Route] = set()
    for node in [*reversed(order), root]:
        kept = sorted((child for child in node.children.values() if runs[child.route]), key=lambda child: total[child.route])
        starts_anew = node is root or available(node.route)
        own = 0.0 if starts_anew else cost(node)
        while kept and own + sum(total[child.route] for child in kept) > 1 and (own or len(kept) > 1):
            cut.add(kept.pop().route)
        total[node.route] = cost(node) if starts_anew and node is not root else own + sum(total[child.route] for child in kept)
    units: list[Unit] = []
    for node in [root, *order]:
        children = [child for child in node.children.values() if runs[child.route]]
        groups = [[child] for child in children if child.route in cut]
        if node is root or available(node.route):
            groups.append([child for child in children if child.route not in cut])
        units += [_unit(node.route, group, runs, cut, available, emitted) for group in groups if group]
    place = {node.route: i for i, node in enumerate(order)}
    return sorted(units, key=lambda unit: place[unit.steps[0]])


def _unit(
    source: Route,
    first: list[Node],
    runs: dict[Route, bool],
    cut: set[Route],
    available: Callable[[Route], bool],
    emitted: Callable[[Node], bool],
) -> Unit:
    """The unit that goes on from a source with some of its children, down to where it was cut."""
    steps: list[Route] = []
    outputs: list[Route] = []
    pending = list(reversed(first))
    while pending:
        node = pending.pop()
        steps.append(node.route)
        going = [] if available(node.route) else [child for child in node.children.values() if runs[child.route]]
        inside = [child for child in going if child.route not in cut]
        if emitted(node) or len(inside) < len(going):
            outputs.append(node.route)
        pending.extend(reversed(inside))
    return Unit(source, tuple(steps), tuple(outputs))
