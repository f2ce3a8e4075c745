"""One process's share of a sweep: a function of plain values that worker processes can import, and the engine it keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stimcore.analysis.result import Result
from stimcore.bundle import open_bundle
from stimcore.engine.engine import Engine
from stimcore.subnets.spec import Spec

CHUNK_IMAGES = 2000
"""Images between two reports. Nobody reads a share's reports: large chunks have less overhead, small ones use less memory."""


@dataclass(frozen=True)
class Measured:
    """A result and where it was measured.

    Attributes:
        result: Counts of one sub-network.
        provider: onnxruntime's name of the provider that ran it.
    """

    result: Result
    provider: str


@lru_cache(maxsize=1)
def _engine(path: Path, device: str, threads: int | None) -> Engine:
    """Return the engine of a bundle; the next share in this process continues with its caches."""
    return Engine(open_bundle(path, verify=False), device=device, threads=threads)


def evaluate_share(path: Path, specs: Sequence[Spec], device: str, threads: int | None) -> list[Measured]:
    """Return the results of a share of specs, the main network included.

    Args:
        path: Folder of a bundle that was verified.
        specs: Sub-networks of the bundle.
        device: Device of the `Engine`.
        threads: Threads of the `Engine`.
    """
    engine = _engine(path, device, threads)
    results: Mapping[Spec, Result] = {}
    for progress in engine.evaluate(specs, chunk_images=CHUNK_IMAGES):
        results = progress.results
    return [Measured(result, engine.provider) for result in results.values()]
