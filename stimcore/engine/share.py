"""One process's share of a sweep: an importable function of plain values, and the engine it keeps between shares."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from stimcore.analysis.result import Result
from stimcore.bundle import open_bundle
from stimcore.engine.engine import Engine
from stimcore.subnets.spec import Spec


@lru_cache(maxsize=1)
def _engine(path: Path, device: str, threads: int | None) -> Engine:
    return Engine(open_bundle(path, verify=False), device=device, threads=threads)


def evaluate_share(path: Path, specs: Sequence[str], device: str, threads: int | None) -> list[dict[str, Any]]:
    """Results of a share of specs, the main network among them, each with the `provider` that ran it.

    Args:
        path: Folder of a bundle that was verified.
        specs: Long forms.
        device: As for `Engine`.
        threads: As for `Engine`.
    """
    engine = _engine(path, device, threads)
    topology = engine.bundle.topology
    results: Mapping[Spec, Result] = {}
    for report in engine.evaluate([topology.parse(text) for text in specs], chunk_images=2000):
        results = report.results
    return [{**result.to_dict(), "provider": engine.provider} for result in results.values()]
