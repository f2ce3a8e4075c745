"""Waiting times in the dashboard: the first estimate after a cold start, and the numbers after one edit.

A round opens the bundle anew, waits for the first estimate of all its listed sub-networks, evaluates the main network, and then
deletes each removable block by itself, always starting from the warm main network. Time is wall-clock time, since a visitor
waits in it. The ratio divides the time of an edit by that of a cold evaluation of the main network in the same round.
"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stimcore.bench.check import at_least
from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.engine import Engine
from stimcore.errors import UsageError
from stimcore.runs.machine import describe
from stimcore.subnets.families import without
from stimcore.subnets.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    bundle: Path
    rounds: int
    device: str


def run(settings: Settings) -> dict[str, Any]:
    """Measure, and return the report.

    Raises:
        UsageError: A number is out of range, or the network has no removable block.
        BundleError: The bundle is missing or broken.
    """
    at_least(settings, rounds=1)
    bundle = open_bundle(settings.bundle)
    topology = bundle.topology
    edits = {block: without(topology, [block]) for block in topology.removable}
    if not edits:
        raise UsageError(f"--bundle {settings.bundle}: no block can be deleted", allowed="a network with such blocks")
    cold: list[float] = []
    main: list[float] = []
    first: dict[int, list[float]] = {block: [] for block in edits}
    whole: dict[int, list[float]] = {block: [] for block in edits}
    for _ in range(settings.rounds):
        cold.append(_time_cold_start(bundle, settings.device))
        engine = Engine(bundle, device=settings.device)
        main.append(_time_evaluation(engine, topology.full)[1])
        for block, spec in edits.items():
            to_first, to_all = _time_evaluation(engine, spec)
            first[block].append(to_first)
            whole[block].append(to_all)
    starts, ends = ([statistics.median(values) for values in seconds.values()] for seconds in (first, whole))
    return {
        "bench": "edit",
        "network": f"{bundle.experiment.name}/{settings.bundle.name}",
        "machine": describe(torch.device("cpu")) | {"provider": engine.provider, "threads": engine.threads},
        "n": settings.rounds,
        "ratios": {
            "edit_over_main": statistics.median(ends) / statistics.median(main),
            "worst_edit_over_main": max(ends) / statistics.median(main),
            "edit_first_over_main": statistics.median(starts) / statistics.median(main),
            "worst_edit_first_over_main": max(starts) / statistics.median(main),
        },
        "seconds": {
            "first_of_all_cold": statistics.median(cold),
            "edit_first_median": statistics.median(starts),
            "edit_first_worst": max(starts),
            "edit_all_median": statistics.median(ends),
            "edit_all_worst": max(ends),
        },
        "images": len(bundle.experiment.evaluation[1]),
        "calibration_images": len(bundle.experiment.calibration),
        "listed": len(bundle.manifest.networks),
        "edit_first_by_block": {str(block): statistics.median(values) for block, values in first.items()},
        "edit_all_by_block": {str(block): statistics.median(values) for block, values in whole.items()},
    }


def _time_cold_start(bundle: Bundle, device: str) -> float:
    """Return the seconds from a fresh engine to the first estimate of all listed sub-networks."""
    listed = [bundle.topology.parse(entry.spec) for entry in bundle.manifest.networks.values()]
    start = time.perf_counter()
    for progress in Engine(bundle, device=device).evaluate(listed):
        if progress.phase == "evaluate":
            break
    return time.perf_counter() - start


def _time_evaluation(engine: Engine, spec: Spec) -> tuple[float, float]:
    """Return the seconds to the first estimate, and to the numbers of all images."""
    start = time.perf_counter()
    first = None
    for progress in engine.evaluate([spec]):
        if first is None and progress.phase == "evaluate":
            first = time.perf_counter() - start
    end = time.perf_counter() - start
    return end if first is None else first, end
