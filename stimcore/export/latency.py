"""How long listed networks take where they run: `latency.json`, the only file of a bundle that is measured in time."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from stimcore import files
from stimcore.analysis.comparisons import Option, pareto_front
from stimcore.bundle import Bundle
from stimcore.engine.provider import file_session
from stimcore.errors import UsageError

BATCHES = (1, 32)
WARM_UP, ROUNDS = 5, 40
"""Calls that do not count, and calls that do, per network and batch size."""


def measure(
    bundle: Bundle, *, threads: int = 1, rounds: int = ROUNDS, tell: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Times every listed network on the CPU; the networks take turns, so that a busy moment hits all alike.

    Returns:
        `latency_ms` (file -> `batch1_p50`, `batch1_p95`, `batch32_p50`, `batch32_p95`), `latency_on` (provider, threads,
        machine, versions, calls), `pareto` (files that no other one beats in both accuracy and batch-1 median, fastest first).
    """
    names = list(bundle.manifest.networks)
    shape = bundle.experiment.image_shape
    images = {batch: np.zeros((batch, *shape), np.float32) for batch in BATCHES}
    times: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in names}
    sessions = {}
    for name in names:
        sessions[name] = file_session(bundle.path / name, threads)
        for batch in BATCHES:
            for _ in range(WARM_UP):
                sessions[name].run(None, {"images": images[batch]})
    for done in range(rounds):
        for name in names:
            for batch in BATCHES:
                start = time.perf_counter()
                sessions[name].run(None, {"images": images[batch]})
                times[name][batch].append(1e3 * (time.perf_counter() - start))
        tell(done + 1, rounds)
    latency = {
        name: {f"batch{batch}_p{q}": round(_quantile(times[name][batch], q / 100), 4) for batch in BATCHES for q in (50, 95)}
        for name in names
    }
    return {
        "latency_ms": latency,
        "latency_on": {
            "provider": "CPUExecutionProvider",
            "threads": threads,
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "onnxruntime": ort.__version__,
            "calls": rounds,
        },
        "pareto": pareto(bundle, latency),
    }


def _quantile(values: Sequence[float], share: float) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(100 * share) - 1]


def pareto(bundle: Bundle, latency_ms: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Files that no other one beats in both accuracy and batch-1 median, fastest first."""
    networks = bundle.manifest.networks
    options = [Option(name, networks[name].accuracy_pct, times["batch1_p50"]) for name, times in latency_ms.items()]
    return [option.name for option in pareto_front(options)]


def write(bundle: Bundle, measured: Mapping[str, Any]) -> None:
    """Puts `latency.json` into the bundle."""
    files.write_json(bundle.path / "latency.json", measured)


def read(bundle: Bundle) -> dict[str, Any] | None:
    """What was measured before, None when nothing was or when it is of other files."""
    path: Path = bundle.path / "latency.json"
    if not path.exists():
        return None
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value if set(value["latency_ms"]) == set(bundle.manifest.networks) else None


def best_under(bundle: Bundle, measured: Mapping[str, Any], budget_ms: float) -> str:
    """The most accurate listed file whose batch-1 median is within a budget.

    Raises:
        UsageError: None is; says which the fastest one is.
    """
    latency = measured["latency_ms"]
    fits = [name for name in latency if latency[name]["batch1_p50"] <= budget_ms]
    if not fits:
        fastest = min(latency, key=lambda name: latency[name]["batch1_p50"])
        raise UsageError(
            f"no listed network answers within {budget_ms:g} ms",
            allowed=f"{latency[fastest]['batch1_p50']:.3g} ms and more, which {fastest} takes here",
        )
    best: str = max(fits, key=lambda name: (bundle.manifest.networks[name].correct, -latency[name]["batch1_p50"]))
    return best
