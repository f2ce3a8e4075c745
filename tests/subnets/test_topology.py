"""Specs and topologies: what is read, what is refused, and what names the parts of a route."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.errors import SpecError
from stimcore.subnets.channels import Channels
from stimcore.subnets.families import KINDS, count
from stimcore.subnets.part_name import PartName
from stimcore.subnets.sampling import sample
from stimcore.subnets.spec import MAX_SPEC_CHARS, Spec
from stimcore.subnets.topology import Topology

RES = "it changes the resolution, so there is no skip path around it"
MOBILENET = Topology.of("mobilenetv3", (2, 3, 4, 2, 3), dict.fromkeys((1, 3, 6, 10, 12), RES))
DENSE = Topology.of("dense", (2, 3, 2), ordered_only=True, channels=Channels(stem=8, growth=4))


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    if draw(st.booleans()):
        channels = Channels(stem=draw(st.integers(1, 70)), growth=draw(st.integers(1, 33)))
        return Topology.of("dense", sizes, ordered_only=True, channels=channels)
    fixed = draw(st.sets(st.integers(1, sum(sizes))))
    return Topology.of("any", sizes, dict.fromkeys(fixed, RES))


@st.composite
def specs(draw: st.DrawFn, topology: Topology) -> Spec:
    rng = random.Random(draw(st.integers(0, 2**32)))
    kinds = [kind for kind in KINDS if count(topology, kind)]
    return draw(st.sampled_from(sample(topology, draw(st.sampled_from(kinds)), 3, rng)))


@settings(deadline=None)
@given(st.data())
def test_every_spec_reads_back(data: st.DataObject) -> None:
    topology = data.draw(topologies())
    spec = data.draw(specs(topology))
    assert topology.parse(str(spec)) == spec
    assert topology.parse(topology.short(spec)) == spec
    assert topology.parse(f"  {spec} ") == spec
    assert sorted(set(spec.blocks)) == sorted(spec.blocks)


@settings(deadline=None)
@given(topologies())
def test_topology_reads_back_from_json(topology: Topology) -> None:
    assert Topology.from_dict(json.loads(json.dumps(topology.to_dict()))) == topology


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    refusal = ""
    try:
        spec = MOBILENET.parse(text)
    except SpecError as reason:
        refusal, spec = str(reason), MOBILENET.full
    assert refusal == "" or refusal.endswith(".")
    assert MOBILENET.parse(str(spec)) == spec


def test_deleted_blocks_may_be_marked() -> None:
    assert MOBILENET.parse("1-x2.3-x4-5.6-7-8-9.10-11.12-13-x14") == MOBILENET.parse("1.3-5.6-7-8-9.10-11.12-13")
    assert MOBILENET.parse("main") == MOBILENET.parse("full") == MOBILENET.parse("d2-3-4-2-3") == MOBILENET.full


@pytest.mark.parametrize("text", ["1-x99-3.4.7", "1-x4.4.7", "x9.4.7"])
def test_a_block_that_is_marked_as_deleted_exists(text: str) -> None:
    with pytest.raises(SpecError, match=r"stage 1 has no block \d+ to delete"):
        Topology.of("net", [3, 3, 3]).parse(text)


def test_a_stage_without_blocks_prints_as_x() -> None:
    topology = Topology.of("two", (2, 2), {1: RES})
    spec = topology.parse("1-2.x")
    assert spec == Spec(((1, 2), ()))
    assert str(spec) == "1-2.x"
    assert topology.parse(str(spec)) == spec
    assert topology.depths(spec) is None
    assert topology.kind(spec) == "delete"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1-2", "1 stage was given; allowed: 5 for mobilenetv3"),
        ("1-2.3-4-5.6-7-8-9.10-11.12-13-15", "mobilenetv3 has no block 15; allowed: 1 to 14"),
        ("1-2.3-4-5.6-7-8-9.10-11.12-13-0", "'0' in stage 5 is no block"),
        ("2-1.3-4-5.6-7-8-9.10-11.12-13-14", f"block 1 in stage 1 can't be moved: {RES}"),
        ("2.3-4-5.6-7-8-9.10-11.12-13-14", f"block 1 can't be deleted: {RES}"),
        ("1-2-3.4-5.6-7-8-9.10-11.12-13-14", "block 3 belongs to stage 2, not to stage 1"),
        ("1-2-2.3-4-5.6-7-8-9.10-11.12-13-14", "block 2 runs twice"),
        ("1-2-x2.3-4-5.6-7-8-9.10-11.12-13-14", "block 2 is both deleted and running"),
        ("1-2.3-4-5.6-7-8-9.10-11.12-13-1４", "'1４' in stage 5 is no block"),
        ("d2-3-4-2", "d2-3-4-2 is no ordered sub-network of mobilenetv3; allowed: 5 depths, each from 1 up to 2-3-4-2-3"),
        ("d2-3-4-2-4", "is no ordered sub-network"),
        ("d0-3-4-2-3", "is no block"),
        ("1-2.3", "2 stages were given; allowed: 5 for mobilenetv3"),
        ("", "stage 1 is empty; allowed: numbers such as 4"),
        ("1-2.3-4-5.6-7-8-9.10-11.12-13-14.", "stage 6 is empty; allowed: numbers such as 4"),
        ("1-2. .6-7-8-9.10-11.12-13-14", "stage 2 is empty; allowed: numbers such as 4"),
        ("1-2-.3-4-5.6-7-8-9.10-11.12-13-14", "a block is missing in stage 1; allowed: numbers such as 4"),
        ("1" * (MAX_SPEC_CHARS + 1), "a spec of 16,385 characters"),
    ],
)
def test_illegal_specs_are_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        MOBILENET.parse(text)
    assert message in str(caught.value)


def test_concatenating_networks_are_ordered_only() -> None:
    with pytest.raises(SpecError, match=r"1\.3-4-6\.7 is not an ordered sub-network"):
        Topology.of("dense", (2, 4, 2), ordered_only=True, channels=Channels(stem=8, growth=4)).parse("1.3-4-6.7")
    with pytest.raises(SpecError, match="ordered"):
        Topology.of("dense", (2, 2), channels=Channels(stem=8, growth=4))
    assert DENSE.removable == ()


@pytest.mark.parametrize(("stages", "fixed"), [(((1, 3),), {}), (((1,), ()), {}), (((1, 2),), {3: "why"})])
def test_a_topology_that_is_none_is_refused(stages: tuple[tuple[int, ...], ...], fixed: dict[int, str]) -> None:
    with pytest.raises(SpecError):
        Topology(network="odd", stages=stages, fixed=fixed)


@pytest.mark.parametrize("topology", [MOBILENET, DENSE], ids=["mobilenet", "dense"])
def test_unknown_keys_are_ignored_and_required_ones_asked_for(topology: Topology) -> None:
    value = topology.to_dict()
    extended = {**value, "colour": 1}
    if "channels" in value:
        extended["channels"] = {**value["channels"], "colour": 1}
    assert Topology.from_dict(extended) == topology
    for key in set(value) - {"channels"}:
        with pytest.raises(SpecError, match="with the keys"):
            Topology.from_dict({name: value[name] for name in value if name != key})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("main", "main"),
        ("d1-1-1-1-1", "ordered"),
        ("1-2.3-5.6-7-8-9.10-11.12-13-14", "delete"),
        ("1-2.3-5-4.6-7-8-9.10-11.12-13-14", "permute"),
        ("1-2.3-5-4.6-7-8.10-11.12-13-14", "delete+permute"),
    ],
)
def test_kind(text: str, kind: str) -> None:
    assert MOBILENET.kind(MOBILENET.parse(text)) == kind


def test_route_of_blocks_that_add_up() -> None:
    route = MOBILENET.route(MOBILENET.parse("d1-1-1-1-2"))
    assert tuple(map(str, route)) == ("stem", "block1", "block3", "block6", "block10", "block12", "block13", "head")
    assert MOBILENET.kept_channels(PartName.parse("block3")) is None
    with pytest.raises(SpecError, match="can't be deleted"):
        MOBILENET.route(Spec(((2,), *MOBILENET.stages[1:])))
