"""Hits and the picture wall: packed, stored, read back, chosen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stimcore.bundle import Answers, Bundle, Hits, Wall
from stimcore.bundle.hits import stored_specs
from stimcore.bundle.wall import DIFFERENT_IMAGES, MOST_STATES, WALL_IMAGES, choose_images, shown_specs
from stimcore.errors import StimcoreError
from stimcore.subnets.families import deletions, ordered, permutations
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

ONE, OTHER = Spec.from_text("1"), Spec.from_text("2")


@given(st.lists(st.lists(st.booleans(), min_size=13, max_size=13), max_size=4))
def test_hits_read_back(rows: list[list[bool]]) -> None:
    given_rows = {Spec(((number,),)): np.array(row) for number, row in enumerate(rows, 1)}
    hits = Hits.from_bytes(Hits(13, {}).with_rows(given_rows).to_bytes())
    assert set(hits.packed) == set(given_rows)
    assert hits.images == 13
    for spec, row in given_rows.items():
        stored = hits.of(spec)
        assert stored is not None
        assert stored.tolist() == row.tolist()


def test_the_order_of_adding_does_not_change_the_bytes() -> None:
    rows = {ONE: np.array([True, False]), OTHER: np.array([False, True])}
    backwards = dict(reversed(list(rows.items())))
    assert Hits(2, {}).with_rows(rows).to_bytes() == Hits(2, {}).with_rows(backwards).to_bytes()


def test_hits_of_another_number_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="not on 3"):
        Hits(3, {}).with_rows({ONE: np.array([True])})


@pytest.mark.parametrize("content", [b"", b"PK", b"{}", b'{"images": [1.5], "states": {}}', b"[" * 100_000])
def test_other_bytes_are_refused(content: bytes) -> None:
    for read in (Hits.from_bytes, Wall.from_bytes):
        with pytest.raises((ValueError, StimcoreError)):
            read(content)


def test_which_hits_are_stored() -> None:
    topology = Topology.of("toy", [2, 3], {3: "it changes the resolution"})
    specs = [topology.full, *ordered(topology), *deletions(topology), *permutations(topology)]
    stored = set(stored_specs(topology, specs))
    assert set(ordered(topology)) | set(deletions(topology, 1)) == stored


def test_a_large_family_is_not_on_the_wall() -> None:
    small, large = Topology.of("small", [3, 3]), Topology.of("large", [30, 30])
    for topology, ordered_too in ((small, True), (large, False)):
        specs = [topology.ordered([1, 2]), next(deletions(topology, 1)), next(deletions(topology, 2))]
        assert shown_specs(topology, specs) == (specs if ordered_too else specs[1:2])


def test_the_states_that_break_it_shows_first_are_on_the_wall() -> None:
    """Whatever the sweeps of a small network say is clearest, and in larger ones the blocks that are swapped."""
    small, large = Topology.of("resnet20", [3, 3, 3], {4: "no skip path", 7: "no skip path"}), Topology.of("vit", [3, 3, 3, 3])
    specs = [*ordered(small), *deletions(small), *permutations(small)]
    assert small.parse("1-3.4-5-6.7") in specs
    assert shown_specs(small, specs) == specs
    swap, more = large.parse("1-3-2.4-5-6.7-8-9.10-11-12"), large.parse("3-1-2.4-5-6.7-8-9.10-11-12")
    assert shown_specs(large, [swap, more, large.parse("1-3.4-6.7-8-9.10-11-12")]) == [swap]


def test_a_bundle_stores_the_hits_and_answers_of_its_networks(small: list[Bundle]) -> None:
    labels = small[0].experiment.evaluation[1]
    for bundle in small:
        assert bundle.wall is not None
        assert bundle.wall.images == choose_images(labels)
        for entry in bundle.manifest.networks.values():
            spec = bundle.topology.parse(entry.spec)
            hits = bundle.hits(spec)
            assert hits is not None
            assert hits.sum() == entry.correct
            answers = bundle.wall.states[spec]
            right = np.array(answers.classes) == labels[list(bundle.wall.images)]
            assert right.tolist() == hits[list(bundle.wall.images)].tolist()
            assert all(1 / len(bundle.experiment.classes) <= value <= 1 for value in answers.confidence)
        assert bundle.hits(bundle.topology.parse("1-3.4-5-6.7-8-9")) is None


def test_answers_are_softmax() -> None:
    answers = Answers.of(np.array([[0.0, np.log(3.0)], [900.0, 0.0]], np.float32))
    assert answers == Answers((1, 0), (0.75, 1.0))


def test_a_wall_reads_back_and_is_bounded() -> None:
    answers = Answers((1, 0), (0.5, 0.25))
    wall = Wall((3, 7), {ONE: answers, OTHER: answers})
    assert Wall.from_bytes(wall.to_bytes()) == wall
    many = {Spec(((number,),)): answers for number in range(1, MOST_STATES + 10)}
    assert len(Wall((3, 7), {}).with_states(many).states) == MOST_STATES


def test_the_images_of_the_wall_are_stratified_and_stable() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 1000)
    images = choose_images(labels)
    assert len(set(images)) == WALL_IMAGES
    assert images == choose_images(labels)
    assert list(images) == sorted(images)
    counts = np.bincount(labels[list(images)], minlength=10)
    assert set(counts.tolist()) == {2, 3}
    assert choose_images(np.array([0, 1, 1])) == (0, 1, 2)


def test_images_on_which_two_methods_differ_are_on_the_wall() -> None:
    labels = np.random.default_rng(1).integers(0, 10, 1000)
    plain = choose_images(labels)

    def hits(*wrong: int) -> Hits:
        row: NDArray[np.bool_] = np.ones(1000, np.bool_)
        row[list(wrong)] = False
        return Hits(1000, {}).with_rows({ONE: row})

    # they differ on enough images that are on it already: nothing changes
    assert choose_images(labels, hits(), hits(*plain[:DIFFERENT_IMAGES])) == plain
    elsewhere = [image for image in range(1000) if image not in plain][:100]
    chosen = choose_images(labels, hits(), hits(*elsewhere))
    assert len(set(chosen) & set(elsewhere)) == DIFFERENT_IMAGES
    assert len(set(chosen)) == WALL_IMAGES
    assert sorted(labels[list(chosen)]) == sorted(labels[list(plain)])
    # no images differ: none can be chosen
    assert choose_images(labels, hits(), hits()) == plain
