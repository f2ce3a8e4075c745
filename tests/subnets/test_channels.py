"""Networks whose blocks concatenate: names of narrowed parts, and the channels that they keep."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.errors import SpecError
from stimcore.subnets.channels import Channels
from stimcore.subnets.part_name import HEAD, PartName
from stimcore.subnets.sampling import draw_ordered
from stimcore.subnets.topology import Topology

DENSE = Topology.of("dense", (2, 3, 2), ordered_only=True, channels=Channels(stem=8, growth=4))


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    channels = Channels(stem=draw(st.integers(1, 70)), growth=draw(st.integers(1, 33)))
    return Topology.of("dense", sizes, ordered_only=True, channels=channels)


def test_route_of_blocks_that_concatenate() -> None:
    """Stem 8, growth 4: the stages get 8, (8 + 2*4)/2 = 8, (8 + 3*4)/2 = 10 channels; one block less gives 6 and 9."""
    assert tuple(map(str, DENSE.route(DENSE.full))) == (
        *("stem", "block1", "block2", "transition1", "block3", "block4", "block5", "transition2", "block6", "block7", "head"),
    )
    assert tuple(map(str, DENSE.route(DENSE.ordered((1, 3, 2))))) == (
        *("stem", "block1", "transition1@8+1", "block3@6", "block4@6", "block5@6", "transition2@6+3"),
        *("block6@9", "block7@9", "head@9+2"),
    )
    assert tuple(map(str, DENSE.route(DENSE.ordered((2, 3, 1)))[-2:])) == ("block6", "head@10+1")
    assert DENSE.kept_channels(PartName.parse("block7")) is None
    block, between, head = (DENSE.kept_channels(PartName.parse(name)) for name in ("block5@6", "transition2@6+3", "head@9+2"))
    assert block
    assert between
    assert head
    # block 5 reads 6 of the 8 channels that enter its stage, then what blocks 3 and 4 added: channels 8 to 15
    assert (block.part, block.reads, block.writes) == (PartName.block(5), ((0, 6), (8, 16)), ())
    assert (between.part, between.reads, between.writes) == (PartName.transition(2), ((0, 6), (8, 20)), ((0, 9),))
    assert (head.part, head.reads) == (HEAD, ((0, 9), (10, 18)))
    with pytest.raises(SpecError, match="no part 'block5@x'"):
        DENSE.kept_channels(PartName.parse("block5@x"))


@settings(deadline=None)
@given(st.data())
def test_names_determine_widths(data: st.DataObject) -> None:
    """What each part of any route reads is exactly what the parts before it return; equal names keep equal channels."""
    topology = data.draw(topologies())
    channels = topology.channels
    assert channels is not None
    depths = topology.depths(draw_ordered(topology, random.Random(data.draw(st.integers(0, 999)))))
    assert depths is not None
    width = channels.stem
    whole = {name: w for name, w in _widths(topology)}
    for name in topology.route(topology.ordered(depths))[1:]:
        kept = topology.kept_channels(name)
        reads = whole[name] if kept is None else sum(stop - start for start, stop in kept.reads)
        assert reads == width
        if kept is not None:
            assert kept.reads[-1][1] <= whole[kept.part]
        if name.kind == "block":
            width += channels.growth
        elif name.kind == "transition":
            width //= 2
            if kept is not None:
                assert kept.writes == ((0, width),)


def _widths(topology: Topology) -> list[tuple[PartName, int]]:
    """Channels that every part of the main network reads, counted by hand."""
    assert topology.channels is not None
    width, widths = topology.channels.stem, []
    for name in topology.route(topology.full)[1:]:
        widths.append((name, width))
        width = width + topology.channels.growth if name.kind == "block" else width // 2
    return widths
