"""Latencies of listed networks on the machine at hand: `latency.json`, the only file of a bundle that is measured in time."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

import numpy as np
import onnxruntime as ort

from stimcore import files
from stimcore.analysis.comparisons import Option, pareto_front
from stimcore.bundle import Bundle, open_bundle
from stimcore.bundle.bundle import LATENCY
from stimcore.bundle.fields import Fields
from stimcore.bundle.opening import bundle_folders
from stimcore.bundle.store import update_bundle
from stimcore.engine.cuda import CPU
from stimcore.engine.spotcheck import listed_session
from stimcore.errors import BundleError, UsageError
from stimcore.runs.machine import processor_name

TIMED_BATCHES = (1, 32)
"""Images per call that are timed."""
WARM_UP, ROUNDS = 5, 40
"""Calls that do not count, and calls that do, for each network and batch size."""


def measure(
    bundles: Sequence[Bundle],
    *,
    threads: int = 1,
    rounds: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Time every listed network of several bundles on the CPU.

    All networks take turns, so that a busy moment slows all of them alike: equal networks of two methods get equal times.

    Args:
        bundles: The bundles, whose images have the same shape.
        threads: Threads inside one operator.
        rounds: Calls that count, for each network and batch size; `ROUNDS` when None.
        report: Called after every round with the rounds done and their total.

    Returns:
        For each bundle `latency_ms` (file -> `batch1_p50`, `batch1_p95`, `batch32_p50`, `batch32_p95`), `latency_on`
        (`conditions` and the number of calls), `pareto` (the files on the front of accuracy and batch-1 median, fastest first).
    """
    rounds = ROUNDS if rounds is None else rounds
    shape = bundles[0].experiment.image_shape
    images = {batch: np.zeros((batch, *shape), np.float32) for batch in TIMED_BATCHES}
    sessions = {(i, name): listed_session(bundle, name, threads) for i, bundle in enumerate(bundles) for name in _names(bundle)}
    times: dict[tuple[int, str], dict[int, list[float]]] = {key: {batch: [] for batch in TIMED_BATCHES} for key in sessions}
    for session in sessions.values():
        for batch in TIMED_BATCHES:
            for _ in range(WARM_UP):
                session.run(None, {"images": images[batch]})
    for done in range(1, rounds + 1):
        for key, session in sessions.items():
            for batch in TIMED_BATCHES:
                start = time.perf_counter()
                session.run(None, {"images": images[batch]})
                times[key][batch].append(1e3 * (time.perf_counter() - start))
        if report is not None:
            report(done, rounds)
    on = {**conditions(threads), "calls": rounds}
    return [
        _measured(bundle, {name: times[i, name] for name in _names(bundle)}) | {"latency_on": on}
        for i, bundle in enumerate(bundles)
    ]


def _names(bundle: Bundle) -> list[str]:
    return list(bundle.manifest.networks)


def _measured(bundle: Bundle, times: Mapping[str, Mapping[int, Sequence[float]]]) -> dict[str, Any]:
    """Return the percentiles of a bundle's times, and its front."""
    latency = {
        name: {
            f"batch{batch}_p{percent}": round(_quantile(by_batch[batch], percent), 4)
            for batch in TIMED_BATCHES
            for percent in (50, 95)
        }
        for name, by_batch in times.items()
    }
    return {"latency_ms": latency, "pareto": [option.name for option in pareto_front(_options(bundle, latency))]}


def timed_beside(bundle: Bundle) -> list[Bundle]:
    """Return the bundles of the same experiment that have times: they are measured again together with this one.

    Raises:
        BundleError: One of them is broken.
    """
    folders = [path for path in bundle_folders(bundle.experiment.path, depth=1) if path != bundle.path]
    return [open_bundle(path, verify=False) for path in folders if (path / LATENCY).is_file()]


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


def rounded_up(value: float) -> str:
    """Return a number above 0 with four digits that is not below another: a limit that is offered has to suffice.

    Example:
        >>> rounded_up(0.69641), rounded_up(12345.6), rounded_up(2.0)
        ('0.6965', '12350', '2')
    """
    exact = Decimal(repr(value))
    number = exact.quantize(Decimal(1).scaleb(exact.adjusted() - 3), ROUND_CEILING)
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def write(bundle: Bundle, measured: Mapping[str, Any]) -> None:
    """Store what `measure` returned as `latency.json` in the bundle.

    Raises:
        BundleError: The bundle is broken.
    """
    update_bundle(bundle.path, lambda _: {LATENCY: files.json_text(measured).encode()})


def read(bundle: Bundle) -> dict[str, Any] | None:
    """Return what was measured before, None when nothing was or when it is of other files.

    Raises:
        BundleError: The file has changed since the bundle was opened, or holds something else than times.
    """
    try:
        if (value := bundle.latency()) is None:
            return None
        fields = Fields(value, LATENCY)
        times = fields.mapping("latency_ms")
        fields.mapping("latency_on", {})
        for name, by_batch in times.items():
            Fields(by_batch, name).number("batch1_p50")
    except (ValueError, RecursionError) as reason:
        raise BundleError(
            f"{bundle.path / LATENCY} does not hold the times of networks: {reason}",
            todo=f"'python -m stimcore.export {bundle.path} --latency' measures them again.",
        ) from reason
    return value if set(times) == set(bundle.manifest.networks) else None


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
            allowed=f"{rounded_up(fastest.cost)} ms and more, which {fastest.name} takes here",
        )
    return max(affordable, key=lambda option: (option.accuracy_pct, -option.cost)).name
