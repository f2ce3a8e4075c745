"""The division of the tree into units: every wanted node once, sources before what reads them, nothing needless."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.engine.prefix_tree import Node, cut_into_units, nodes_below, prefix_tree
from stimcore.subnets.part_name import HEAD, STEM, PartName, Route

routes = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=6).map(lambda blocks: (STEM, *map(PartName.block, blocks), HEAD)),
    min_size=1,
    max_size=12,
)


def run(root: Node, available: set[Route], wanted: set[Route], cost: float) -> None:
    units = cut_into_units(
        root,
        wanted=lambda node: node.route in wanted,
        available=lambda route: route in available,
        emitted=lambda node: node.route in wanted,
        cost=lambda _: cost,
    )
    known = set(available) | {()}
    done: set[Route] = set()
    for unit in units:
        assert unit.source in known
        inside: set[Route] = set()
        for step in unit.steps:
            assert step[:-1] == unit.source or step[:-1] in inside
            assert step not in done
            inside.add(step)
            done.add(step)
        assert set(unit.outputs) <= inside
        assert len(unit.steps) <= max(1, int(1 / cost + 1e-9))
        known |= set(unit.outputs)
    assert wanted <= done
    for step in done - wanted:  # only what a wanted node needs runs besides
        assert any(w[: len(step)] == step and not any(w[:i] in available for i in range(len(step), len(w))) for w in wanted)


@settings(deadline=None)
@given(routes=routes, data=st.data(), cost=st.sampled_from([1.0, 0.5, 0.25, 0.01]))
def test_units_cover_what_is_wanted(routes: list[Route], data: st.DataObject, cost: float) -> None:
    root = prefix_tree(routes)
    everything = [node.route for node in nodes_below(root)]
    wanted = set(data.draw(st.lists(st.sampled_from(everything), max_size=8)))
    available = set(data.draw(st.lists(st.sampled_from(everything), max_size=4)))
    run(root, available, wanted, cost)


def test_the_tree_has_every_prefix_once_and_parents_first() -> None:
    a, b = PartName.block(1), PartName.block(2)
    root = prefix_tree([(STEM, a, HEAD), (STEM, a, b, HEAD)])
    order = [node.route for node in nodes_below(root)]
    assert order[:2] == [(STEM,), (STEM, a)]
    assert len(order) == 5
    assert set(order) == {(STEM,), (STEM, a), (STEM, a, HEAD), (STEM, a, b), (STEM, a, b, HEAD)}


def test_a_path_as_long_as_resnet_1202_is_no_problem() -> None:
    route = (STEM, *map(PartName.block, range(1, 601)), HEAD)
    run(prefix_tree([route]), set(), {route}, 1 / 64)
