"""Random numbers: every draw has its own generator, derived from the seed of the run and the place in the run.

Under the hood, a place is a tuple such as `(seed, "augment", step)`. There is no generator that is carried along and drawn from
again and again, because its state would have to be stored in checkpoints, would depend on how many numbers every earlier step
drew, and would differ between a run with and one without evaluation, between one process and several, and between images in
memory and images read by worker processes. With derived generators, a resumed run, another rank and a worker process compute
the same draw from the same place, and what one part draws changes nothing for the others.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived(*place: object) -> int:
    """Return a seed below 2**63 that depends on every element of the place.

    A hash, because sums or products of seed and step would give neighbouring runs the same seeds.

    Example:
        >>> derived(0, "spec", 1) == derived(0, "spec", 1), derived(0, "spec", 1) == derived(1, "spec", 0)
        (True, False)
    """
    text = "/".join(map(str, place))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*place: object) -> torch.Generator:
    """Return a CPU generator for a place: on the CPU, so that every device and every rank draws the same numbers."""
    return torch.Generator().manual_seed(derived(*place))


def spec_rng(*place: object) -> random.Random:
    """Return a Python generator for a place, for draws of sub-networks."""
    return random.Random(derived(*place))


@contextmanager
def layers_seeded(*place: object) -> Iterator[None]:
    """Seed torch's global generators inside the block; on leaving it they are as before.

    This is for layers that can draw from nothing else (initialisation, dropout).
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived(*place))  # noqa: TID251  # the only place, and undone on leaving
        yield


@contextmanager
def cpu_seeded(*place: object) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block; on leaving it is as before.

    It is cheap enough for every image, and works in worker processes, which must not touch CUDA.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived(*place))
        yield
