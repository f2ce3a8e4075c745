"""What the URL carries: arrangements of every kind of network."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import arrangement as state
from app.diagram import payload
from app.lesson import plan
from stimcore.errors import SpecError
from stimcore.subnets.families import sample
from stimcore.subnets.topology import Topology

SKIP = "it changes the resolution, so there is no skip path around it"
RESNET20 = Topology.of("resnet20", [3, 3, 3], {4: SKIP, 7: SKIP})
MOBILENET = Topology.of("mobilenetv3", [2, 3, 4, 2, 3], dict.fromkeys((1, 3, 6, 10, 12), SKIP))
RESNET110 = Topology.of("resnet110", [18, 18, 18], {19: SKIP, 37: SKIP})
DENSENET = Topology.of("densenet264", [6, 12, 64, 48], ordered_only=True)
ONE = Topology.of("one", [1], {1: SKIP})
ALL = [RESNET20, MOBILENET, RESNET110, DENSENET, ONE]


@pytest.mark.parametrize("topology", ALL, ids=lambda t: t.network)
def test_full_network_round_trip(topology: Topology) -> None:
    whole = state.full(topology)
    assert whole.spec == topology.full
    assert state.read(topology, str(whole)) == whole == state.read(topology, "main")
    assert state.in_words(topology, whole) == "the full network"


@pytest.mark.parametrize("topology", ALL, ids=lambda t: t.network)
def test_presets_and_lesson_are_sub_networks(topology: Topology) -> None:
    texts = [*state.presets(topology).values(), *(step.spec for step in plan(topology))]
    for text in texts:
        arrangement = state.read(topology, text)
        topology.check(arrangement.spec)
        assert str(arrangement) == text
    assert len(plan(topology)) == 5
    assert len(set(state.presets(topology))) == len(state.presets(topology))


@pytest.mark.parametrize("topology", [RESNET20, MOBILENET, RESNET110, DENSENET], ids=lambda t: t.network)
@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_every_sub_network_round_trips(topology: Topology, seed: int) -> None:
    kinds = ["ordered"] if topology.ordered_only else ["ordered", "delete", "permute"]
    for kind in kinds:
        spec = sample(topology, kind, 1, random.Random(seed))[0]
        arrangement = state.read(topology, str(spec))
        assert arrangement.spec == spec
        assert state.read(topology, str(arrangement)) == arrangement
        shown = sorted(b for stage in arrangement.stages for b in stage)
        assert shown == list(topology.full.blocks)


def test_deleted_blocks_keep_their_places() -> None:
    assert str(state.read(RESNET20, "1-3.4-6.7-8-9")) == "1-x2-3.4-x5-6.7-8-9"
    assert str(state.read(RESNET20, "3-x1-2.4-5-6.7-8-9")) == "3-x1-2.4-5-6.7-8-9"
    assert str(state.read(RESNET20, "d1-2-3")) == "1-x2-x3.4-5-x6.7-8-9"
    assert str(state.read(RESNET20, "x1-x2-x3.4-5-6.7-8-9")) == "x1-x2-x3.4-5-6.7-8-9"
    assert str(state.read(DENSENET, "d6-12-64-1")).endswith(".83-" + "-".join(f"x{b}" for b in range(84, 131)))


@pytest.mark.parametrize(
    "text", ["", "x", "1-2", "9-8-7", "1-2-3.x4-5-6.7-8-9", "1-2-3.5-4-6.7-8-9", "<img src=x>", "d4-1-1", "1-2-3.4-5-6.7-8-9\0"]
)
def test_nonsense_becomes_the_full_network_and_a_sentence(text: str) -> None:
    arrangement, why = state.explain(RESNET20, text)
    assert arrangement == state.full(RESNET20)
    assert why.endswith((".", "...")) and len(why) < 400
    with pytest.raises(SpecError):
        state.read(RESNET20, text)


def test_words() -> None:
    def words(text: str) -> str:
        return state.in_words(RESNET20, state.read(RESNET20, text))

    assert words("1-2-3.4-x5-6.7-8-9") == "without block 5"
    assert words("1-x2-x3.4-5-6.7-8-9") == "without blocks 2 and 3"
    assert words("1-3-2.4-5-6.7-8-9") == "with blocks 2, 3 re-ordered"
    assert words("1-3-2.4-x5-6.7-8-9") == "without block 5 and with blocks 2, 3 re-ordered"


def test_says_what_nobody_practised() -> None:
    assert state.unpractised(RESNET20, state.read(RESNET20, "d1-1-1")) == ""
    assert "block 1" in state.unpractised(RESNET20, state.read(RESNET20, "x1-2-3.4-5-6.7-8-9"))
    assert state.unpractised(RESNET20, state.read(RESNET20, "2-1-3.4-5-6.7-8-9")) != ""


def test_what_the_picture_is_told() -> None:
    told = payload(RESNET20, state.full(RESNET20), revision=3, large=True)
    assert told["locked"] == {"4": SKIP, "7": SKIP} and told["movable"] and not told["tail"] and told["revision"] == 3
    dense = payload(DENSENET, state.full(DENSENET), revision=0, large=False)
    assert dense["tail"] and not dense["movable"] and set(dense["locked"]) == {"1", "7", "19", "83"}
