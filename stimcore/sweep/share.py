"""One process's share of a sweep: a function of plain values that worker processes can import, and the engine it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stimcore.analysis.result import Result
from stimcore.bundle import Answers, open_bundle
from stimcore.bundle.hits import stored_specs
from stimcore.bundle.wall import shown_specs
from stimcore.engine.engine import Engine
from stimcore.engine.walls import engine_answers
from stimcore.subnets.spec import Spec

CHUNK_IMAGES = 2000
"""Images between two reports. Nobody reads a share's reports: large chunks have less overhead, small ones use less memory."""


@dataclass(frozen=True)
class Measured:
    """A result and where it was measured.

    Attributes:
        result: Counts of one sub-network.
        provider: onnxruntime's name of the provider that ran it.
        hits: Bool `[images]`, set for images that were classified correctly; None for sub-networks whose hits no bundle stores.
        answers: Answers on the images of the bundle's picture wall; None where it stores none of this sub-network.
    """

    result: Result
    provider: str
    hits: NDArray[np.bool_] | None = None
    answers: Answers | None = None


@lru_cache(maxsize=1)
def _engine(path: Path, device: str, threads: int | None) -> Engine:
    """Return the engine of a bundle; the next share in this process continues with its caches."""
    return Engine(open_bundle(path, verify=False), device=device, threads=threads)


def evaluate_share(
    path: Path, specs: Sequence[Spec], device: str, threads: int | None, recalibrate: bool = True
) -> list[Measured]:
    """Return the results of a share of specs, the main network included.

    Args:
        path: Folder of a bundle that was verified.
        specs: Sub-networks of the bundle.
        device: Device of the `Engine`.
        threads: Threads of the `Engine`.
        recalibrate: Whether batch norms are re-calibrated. Without it there are neither hits nor answers: what a bundle stores
            of these is of re-calibrated networks.
    """
    engine = _engine(path, device, threads)
    bundle = engine.bundle
    *_, last = engine.evaluate(specs, recalibrate=recalibrate, chunk_images=CHUNK_IMAGES, collect_hits=recalibrate)
    if not recalibrate:
        return [Measured(result, last.provider or engine.provider) for result in last.results.values()]
    stored = stored_specs(bundle.topology, last.results) if bundle.manifest.version > 1 else []
    hits = {spec: last.hits[spec] for spec in stored}
    shown = shown_specs(bundle.topology, last.results)
    answers = {} if bundle.wall is None else engine_answers(engine, bundle.wall.images, shown)
    return [
        Measured(result, last.provider or engine.provider, hits.get(spec), answers.get(spec))
        for spec, result in last.results.items()
    ]
