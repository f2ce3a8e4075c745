"""`wall.json`: the answers of many sub-networks on the same few evaluation images, for the dashboard's picture wall."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stimcore.bundle.fields import Fields
from stimcore.bundle.hits import Hits, stored_specs
from stimcore.subnets.families import KINDS, count, count_operations, count_ordered
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

FILE = "wall.json"
WALL_IMAGES = 24
DIFFERENT_IMAGES = 4
"""Images at least that two methods answer differently in one of the stored states."""
MOST_STATES = 500
"""Sub-networks whose answers are stored at most; about 200 bytes each."""
SEED = 0


@dataclass(frozen=True)
class Answers:
    """What one sub-network answers.

    Attributes:
        classes: For each image the index of the class with the largest logit.
        confidence: For each image the softmax probability of that class, in [0, 1], to three decimal places.
    """

    classes: tuple[int, ...]
    confidence: tuple[float, ...]

    @classmethod
    def of(cls, logits: NDArray[np.float32]) -> "Answers":
        """Return the answers that logits `[N, K]` stand for."""
        shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        largest = (shifted / shifted.sum(1, keepdims=True)).max(1)
        return cls(tuple(map(int, logits.argmax(1))), tuple(round(float(value), 3) for value in largest))


@dataclass(frozen=True)
class Wall:
    """The answers of sub-networks on the images of the picture wall.

    Attributes:
        images: Indices of the evaluation images.
        states: Sub-network -> its answers, in the order of `images`.
    """

    images: tuple[int, ...]
    states: Mapping[Spec, Answers]

    def with_states(self, states: Mapping[Spec, Answers]) -> "Wall":
        """Return this wall with further states, as many as fit `MOST_STATES`; they replace older ones of the same spec."""
        merged = {**self.states, **states}
        return Wall(self.images, dict(list(merged.items())[:MOST_STATES]))

    def to_bytes(self) -> bytes:
        """Return the content of `wall.json`, one state a line."""
        lines = [
            f" {json.dumps(str(spec))}: {json.dumps({'classes': answers.classes, 'confidence': answers.confidence})}"
            for spec, answers in sorted(self.states.items())
        ]
        body = ",\n".join(lines)
        return f'{{"images": {json.dumps(self.images)},\n"states": {{\n{body}\n}}}}\n'.encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Wall":
        """Return the wall that `to_bytes` wrote.

        Raises:
            ValueError: The content is something else.
            SpecError: A state is not a sub-network.
        """
        try:
            fields = Fields(json.loads(content), FILE)
        except RecursionError as reason:
            raise ValueError(f"{FILE} is nested too deeply") from reason
        images = _wholes(fields.items("images"))
        states = {Spec.from_text(text): _answers(value, len(images)) for text, value in fields.mapping("states").items()}
        return cls(images, states)


def shown_specs(topology: Topology, specs: Iterable[Spec]) -> list[Spec]:
    """Return the specs whose answers a bundle stores, so that a visitor does not wait for them.

    All of them where the network has few: Break it opens on any state of a stored sweep. In other networks those whose hits are
    stored, without large families of ordered ones, and two blocks swapped, which the lesson and the ready-made edits show too.
    Every state costs a session of the whole sub-network, and nobody looks at thousands of them.
    """
    if sum(count(topology, kind) for kind in KINDS) <= MOST_STATES:
        return list(specs)
    few = count_ordered(topology) <= MOST_STATES
    wanted = list(specs)
    hits = {spec for spec in stored_specs(topology, wanted) if few or topology.depths(spec) is None}
    return [spec for spec in wanted if spec in hits or _is_swap(topology, spec)]


def _is_swap(topology: Topology, spec: Spec) -> bool:
    """Return whether a spec is the full network with two blocks of one stage swapped."""
    return len(spec.blocks) == topology.num_blocks and count_operations(spec) == 1


def choose_images(labels: NDArray[np.int64], first: Hits | None = None, second: Hits | None = None) -> tuple[int, ...]:
    """Return the evaluation images of the picture wall: the same share of every class, drawn with a fixed seed.

    When two methods answer fewer than `DIFFERENT_IMAGES` of them differently in every state that both have stored, some are
    replaced by images of the same class on which they differ in the state where they differ most.

    Args:
        labels: int64 `[N]` of all evaluation images.
        first: Hits of common training, where there are any.
        second: Hits of stimulative training, where there are any.
    """
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(labels))
    chosen = _stratified(labels[order], min(WALL_IMAGES, len(labels)))
    images = order[chosen]
    if first is not None and second is not None:
        images = _with_differences(images, labels, first, second)
    return tuple(sorted(map(int, images)))


def _stratified(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return places of `count` labels that take turns over the classes, the first of every class first."""
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        rank[places] = np.arange(len(places))
    return np.argsort(rank, kind="stable")[:count]


def _with_differences(images: NDArray[np.int64], labels: NDArray[np.int64], first: Hits, second: Hits) -> NDArray[np.int64]:
    differing = {}
    for spec in sorted(set(first.packed) & set(second.packed)):
        one, other = first.of(spec), second.of(spec)
        if one is not None and other is not None:
            differing[spec] = one != other
    if not differing or max(row[images].sum() for row in differing.values()) >= DIFFERENT_IMAGES:
        return images
    row = max(differing.values(), key=lambda row: int(row.sum()))
    result = images.copy()
    for place, image in enumerate(images):
        if row[result].sum() >= DIFFERENT_IMAGES:
            break
        if not row[image]:
            same_class = np.flatnonzero(row & (labels == labels[image]))
            free = same_class[~np.isin(same_class, result)]
            if len(free):
                result[place] = free[0]
    return result


def _wholes(values: Sequence[Any]) -> tuple[int, ...]:
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"{FILE} holds something else than whole numbers")
    return tuple(values)


def _answers(value: Any, count: int) -> Answers:
    fields = Fields(value, f"a state of {FILE}")
    classes, confidence = _wholes(fields.items("classes")), tuple(fields.items("confidence"))
    if not len(classes) == len(confidence) == count or not all(isinstance(number, int | float) for number in confidence):
        raise ValueError(f"a state of {FILE} has not one class and one confidence for each of {count} images")
    return Answers(classes, tuple(map(float, confidence)))
