"""Arrangements of every kind of network: texts, presets and words."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stimcore.analysis.contrast import Contrast
from stimcore.analysis.spreads import first_blocks
from stimcore.errors import SpecError
from stimcore.subnets.families import count_operations
from stimcore.subnets.sampling import sample
from stimcore.subnets.topology import Topology
from stimcore.web import arrangement
from tests.app.networks import DENSENET, EVERY_NETWORK, MOBILENET, RESNET20, RESNET110, SINGLE


@pytest.mark.parametrize("topology", EVERY_NETWORK, ids=lambda t: t.network)
def test_full_network_round_trip(topology: Topology) -> None:
    whole = arrangement.full(topology)
    assert whole.spec == topology.full
    assert arrangement.read(topology, str(whole)) == whole == arrangement.read(topology, "main")
    assert arrangement.summarise(topology, whole) == "Nothing is gone yet."


@pytest.mark.parametrize("topology", EVERY_NETWORK, ids=lambda t: t.network)
def test_presets_are_sub_networks(topology: Topology) -> None:
    edits = arrangement.presets(topology).edits
    for edit in edits:
        topology.check(edit.arrangement.spec)
        assert arrangement.read(topology, str(edit.arrangement)) == edit.arrangement != arrangement.full(topology)
    assert len({edit.label() for edit in edits}) == len(edits)


def test_presets_by_network() -> None:
    assert [e.label() for e in arrangement.presets(RESNET20).edits] == [
        "Delete block 5",
        "Swap 2 and 3",
        "Half of every stage",
        "One per stage",
    ]
    assert str(arrangement.presets(RESNET20).edits[1].arrangement) == "1-3-2.4-5-6.7-8-9"
    assert [e.label() for e in arrangement.presets(DENSENET).edits] == ["Half of every stage", "One per stage"]
    assert arrangement.presets(SINGLE).edits == []


def contrast(text: str, points: float) -> Contrast:
    spec = RESNET20.parse(text)
    return Contrast(spec, RESNET20.num_blocks - len(spec.blocks), count_operations(spec), points)


def test_presets_are_chosen_by_what_is_stored() -> None:
    stored = [
        contrast("1-2.4-5-6.7-8-9", 2.4),
        contrast("1-2-3.4-5-6.7-8", 1.8),
        contrast("1-3-2.4-5-6.7-8-9", 1.0),
        contrast("1-2-3.4-5-6.7-9-8", 1.5),
        contrast("1-2.4-5.7", 61.0),
    ]
    assert [e.label() for e in arrangement.presets(RESNET20, stored).edits] == [
        "Delete block 3",
        "Swap 8 and 9",
        "Half of every stage",
        "One per stage",
    ]


@pytest.mark.parametrize("topology", EVERY_NETWORK, ids=lambda t: t.network)
def test_presets_leave_first_blocks_alone(topology: Topology) -> None:
    for edit in arrangement.presets(topology).edits:
        assert arrangement.caution(topology, edit.arrangement) == ""


def test_first_blocks() -> None:
    assert [first_blocks(t) for t in EVERY_NETWORK] == [(1,), (), (1,), (), ()]


@pytest.mark.parametrize("topology", [RESNET20, MOBILENET, RESNET110, DENSENET], ids=lambda t: t.network)
@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_every_sub_network_round_trips(topology: Topology, seed: int) -> None:
    kinds = ["ordered"] if topology.ordered_only else ["ordered", "delete", "permute"]
    for kind in kinds:
        spec = sample(topology, kind, 1, random.Random(seed))[0]
        shown = arrangement.read(topology, str(spec))
        assert shown.spec == spec
        assert arrangement.read(topology, str(shown)) == shown
        assert sorted(b for stage in shown.stages for b in stage) == list(topology.full.blocks)


@pytest.mark.parametrize(
    ("topology", "text", "shown"),
    [
        (RESNET20, "1-3.4-6.7-8-9", "1-x2-3.4-x5-6.7-8-9"),
        (RESNET20, "3-x1-2.4-5-6.7-8-9", "3-x1-2.4-5-6.7-8-9"),
        (RESNET20, "d1-2-3", "1-x2-x3.4-5-x6.7-8-9"),
        (RESNET20, "x1-x2-x3.4-5-6.7-8-9", "x1-x2-x3.4-5-6.7-8-9"),
    ],
)
def test_deleted_blocks_keep_their_places(topology: Topology, text: str, shown: str) -> None:
    assert str(arrangement.read(topology, text)) == shown


def test_deleted_blocks_of_a_large_network_keep_their_places() -> None:
    text = str(arrangement.read(DENSENET, "d6-12-64-1"))
    assert text.endswith(".83-" + "-".join(f"x{b}" for b in range(84, 131)))


@pytest.mark.parametrize(
    "text", ["", "x", "1-2", "9-8-7", "1-2-3.x4-5-6.7-8-9", "1-2-3.5-4-6.7-8-9", "<img src=x>", "d4-1-1", "1-2-3.4-5-6.7-8-9\0"]
)
def test_nonsense_becomes_the_full_network_and_a_reason(text: str) -> None:
    shown, reason = arrangement.read_or_full(RESNET20, text)
    assert shown == arrangement.full(RESNET20)
    assert reason.endswith((".", "..."))
    assert len(reason) < 400
    with pytest.raises(SpecError):
        arrangement.read(RESNET20, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1-2-3.4-x5-6.7-8-9", "Block 5 is gone."),
        ("1-x2-x3.4-5-6.7-8-9", "2 of 9 blocks are gone."),
        ("1-3-2.4-5-6.7-8-9", "Blocks 2 and 3 have changed places."),
        ("1-3-2.4-x5-6.7-8-9", "Block 5 is gone, and blocks 2 and 3 have changed places."),
        ("1-3-2.4-5-6.7-9-8", "4 blocks stand in another order."),
        ("x1-x2-x3.4-x5-x6.7-x8-x9", "7 of 9 blocks are gone."),
    ],
)
def test_summarise(text: str, words: str) -> None:
    assert arrangement.summarise(RESNET20, arrangement.read(RESNET20, text)) == words


def test_caution_where_the_first_block_of_a_stage_is_missing_or_moved() -> None:
    assert arrangement.caution(RESNET20, arrangement.read(RESNET20, "d1-1-1")) == ""
    assert "block 1" in arrangement.caution(RESNET20, arrangement.read(RESNET20, "x1-2-3.4-5-6.7-8-9"))
    assert arrangement.caution(RESNET20, arrangement.read(RESNET20, "2-1-3.4-5-6.7-8-9")) != ""


@pytest.mark.parametrize("seed", range(5))
def test_random_ordered_is_ordered(seed: int) -> None:
    shown = arrangement.random_ordered(MOBILENET, random.Random(seed))
    assert MOBILENET.depths(shown.spec) is not None
