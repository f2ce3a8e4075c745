"""Latencies of listed networks on the machine at hand: `latency.json`, the only file of a bundle that is measured in time."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from stimcore import files
from stimcore.analysis.comparisons import Option, pareto_front
from stimcore.bundle import Bundle
from stimcore.bundle.bundle import LATENCY
from stimcore.bundle.store import update_bundle
from stimcore.engine.cuda import CPU
from stimcore.engine.spotcheck import listed_session
from stimcore.errors import UsageError
from stimcore.runs.machine import processor_name

TIMED_BATCHES = (1, 32)
"""Images per call that are timed."""
WARM_UP, ROUNDS = 5, 40
"""Calls that do not count, and calls that do, for each network and batch size."""


def measure(
    bundle: Bundle,
    *,
    threads: int = 1,
    rounds: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Time every listed network on the CPU. The networks take turns, so that a busy moment slows all of them alike.

    Args:
        bundle: The bundle.
        threads: Threads inside one operator.
        rounds: Calls that count, for each network and batch size; `ROUNDS` when None.
        report: Called after every round with the rounds done and their total.

    Returns:
        `latency_ms` (file -> `batch1_p50`, `batch1_p95`, `batch32_p50`, `batch32_p95`), `latency_on` (`conditions` and the
        number of calls), `pareto` (the files on the front of accuracy and batch-1 median, fastest first).
    """
    rounds = ROUNDS if rounds is None else rounds
    names = list(bundle.manifest.networks)
    images = {batch: np.zeros((batch, *bundle.experiment.image_shape), np.float32) for batch in TIMED_BATCHES}
    times: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in TIMED_BATCHES} for name in names}
    sessions = {}
    for name in names:
        sessions[name] = listed_session(bundle, name, threads)
        for batch in TIMED_BATCHES:
            for _ in range(WARM_UP):
                sessions[name].run(None, {"images": images[batch]})
    for done in range(1, rounds + 1):
        for name in names:
            for batch in TIMED_BATCHES:
                start = time.perf_counter()
                sessions[name].run(None, {"images": images[batch]})
                times[name][batch].append(1e3 * (time.perf_counter() - start))
        if report is not None:
            report(done, rounds)
    latency = {
        name: {
            f"batch{batch}_p{percent}": round(_quantile(times[name][batch], percent), 4)
            for batch in TIMED_BATCHES
            for percent in (50, 95)
        }
        for name in names
    }
    return {
        "latency_ms": latency,
        "latency_on": {**conditions(threads), "calls": rounds},
        "pareto": [option.name for option in pareto_front(_options(bundle, latency))],
    }


def conditions(threads: int) -> dict[str, Any]:
    """Return what times depend on: provider, threads, processor, cores and version of onnxruntime.

    Args:
        threads: Threads inside one operator.
    """
    return {
        "provider": CPU,
        "threads": threads,
        "machine": processor_name(),
        "cores": os.cpu_count(),
        "onnxruntime": ort.__version__,
    }


def in_words(measured_on: Mapping[str, Any]) -> str:
    """Return in words where times were measured.

    Example:
        >>> in_words({"machine": "AMD EPYC", "threads": 2, "provider": "CPUExecutionProvider", "onnxruntime": "1.30.0"})
        'AMD EPYC, threads 2, CPUExecutionProvider, onnxruntime 1.30.0'
    """
    on = {key: measured_on.get(key, "unknown") for key in ("machine", "threads", "provider", "onnxruntime")}
    return f"{on['machine']}, threads {on['threads']}, {on['provider']}, onnxruntime {on['onnxruntime']}"


def why_other(measured: Mapping[str, Any], threads: int) -> str | None:
    """Return why stored times say nothing about this machine and this number of threads; None when they do.

    Args:
        measured: What `measure` returned, here or elsewhere.
        threads: Threads inside one operator that are asked for.
    """
    stored, here = measured.get("latency_on", {}), conditions(threads)
    words = [f"{key} was {stored.get(key, 'not stored')}, is now {now}" for key, now in here.items() if stored.get(key) != now]
    return "; ".join(words) or None


def _quantile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _options(bundle: Bundle, latency_ms: Mapping[str, Mapping[str, float]]) -> list[Option]:
    """Return the timed networks with accuracy and batch-1 median."""
    networks = bundle.manifest.networks
    return [Option(name, networks[name].accuracy_pct, times["batch1_p50"]) for name, times in latency_ms.items()]


def write(bundle: Bundle, measured: Mapping[str, Any]) -> None:
    """Store what `measure` returned as `latency.json` in the bundle.

    Raises:
        BundleError: The bundle is broken.
    """
    update_bundle(bundle.path, lambda _: {LATENCY: files.json_text(measured).encode()})


def read(bundle: Bundle) -> dict[str, Any] | None:
    """Return what was measured before, None when nothing was or when it is of other files.

    Raises:
        BundleError: The file has changed since the bundle was opened.
    """
    value = bundle.latency()
    return value if value is not None and set(value["latency_ms"]) == set(bundle.manifest.networks) else None


def best_under(bundle: Bundle, measured: Mapping[str, Any], budget_ms: float) -> str:
    """Return the most accurate listed file whose batch-1 median is within a budget, the fastest among equals.

    Args:
        bundle: The bundle.
        measured: What `measure` returned.
        budget_ms: Milliseconds for one image.

    Raises:
        UsageError: No file is within the budget; the message names the fastest one.
    """
    options = _options(bundle, measured["latency_ms"])
    affordable = [option for option in options if option.cost <= budget_ms]
    if not affordable:
        fastest = min(options, key=lambda option: option.cost)
        raise UsageError(
            f"no listed network answers within {budget_ms:g} ms",
            allowed=f"{fastest.cost:.3g} ms and more, which {fastest.name} takes here",
        )
    return max(affordable, key=lambda option: (option.accuracy_pct, -option.cost)).name
