"""Where randomness comes from: every draw has a generator derived from the run's seed and where in the run it is."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived(*parts: object) -> int:
    """A 63-bit seed that depends on all parts."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by all parts."""
    return torch.Generator().manual_seed(derived(*parts))


def spec_rng(*parts: object) -> random.Random:
    """A generator for specs, seeded by all parts."""
    return random.Random(derived(*parts))


@contextmanager
def layers_seeded(*parts: object) -> Iterator[None]:
    """Inside, layers that can only draw from torch's own generator (initialisation, dropout) draw seeded numbers.

    The generators outside are left as they were.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived(*parts))  # noqa: TID251  # the one place, and undone on leaving
        yield


@contextmanager
def cpu_seeded(*parts: object) -> Iterator[None]:
    """Like `layers_seeded` for draws on the CPU alone: cheap enough for every image, and works in a loader's processes."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived(*parts))
        yield
