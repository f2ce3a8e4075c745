"""What a visitor of the dashboard waits for: the first estimate after a cold start, and the numbers after one edit.

A round opens the bundle anew, waits for the first estimate of all its listed sub-networks, evaluates the main network, and then
deletes every block that can be deleted, one at a time, each time from the warm main network. The unit is the clock's second,
as a visitor's is; the ratio sets every edit against an evaluation of the main network from nothing, in the same round.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.engine import Engine
from stimcore.errors import UsageError
from stimcore.runs.machine import describe
from stimcore.subnets.families import without
from stimcore.subnets.spec import Spec


def add_arguments(line: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    line.add_argument(
        "--bundle",
        type=Path,
        default=Path("exported/resnet20-fashion/common"),
        metavar="DIR",
        help="exported/EXPERIMENT/METHOD (default: %(default)s)",
    )
    line.add_argument("--rounds", type=int, default=3, help="turns (default: %(default)s)")
    line.add_argument("--device", default="auto", help="of onnxruntime: auto, cpu, cuda or cuda:N (default: %(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures; returns the report.

    Raises:
        UsageError: A number that is out of range, or a network none of whose blocks can be deleted.
        BundleError: There is no bundle, or a broken one.
    """
    if options.rounds < 1:
        raise UsageError(f"--rounds {options.rounds}", allowed="1 and more")
    bundle = open_bundle(options.bundle)
    topology = bundle.topology
    edits = {block: without(topology, [block]) for block in topology.removable}
    if not edits:
        raise UsageError(f"--bundle {options.bundle}: no block can be deleted", allowed="a network with such blocks")
    cold: list[float] = []
    main: list[float] = []
    first: dict[int, list[float]] = {block: [] for block in edits}
    whole: dict[int, list[float]] = {block: [] for block in edits}
    for _ in range(options.rounds):
        cold.append(_cold(bundle, options.device))
        engine = Engine(bundle, device=options.device)
        main.append(_waits(engine, topology.full)[1])
        for block, spec in edits.items():
            soon, all_images = _waits(engine, spec)
            first[block].append(soon)
            whole[block].append(all_images)
    starts, ends = ([statistics.median(values) for values in found.values()] for found in (first, whole))
    return {
        "bench": "edit",
        "network": f"{bundle.experiment.name}/{options.bundle.name}",
        "machine": describe(torch.device("cpu")) | {"provider": engine.provider, "threads": engine.threads},
        "n": options.rounds,
        "ratios": {
            "edit_over_main": statistics.median(ends) / statistics.median(main),
            "worst_edit_over_main": max(ends) / statistics.median(main),
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


def _cold(bundle: Bundle, device: str) -> float:
    """Seconds from a fresh engine to the first estimate of all listed sub-networks."""
    listed = [bundle.topology.parse(entry.spec) for entry in bundle.manifest.networks.values()]
    start = time.perf_counter()
    for progress in Engine(bundle, device=device).evaluate(listed):
        if progress.phase == "evaluate":
            break
    return time.perf_counter() - start


def _waits(engine: Engine, spec: Spec) -> tuple[float, float]:
    """Seconds to the first estimate, and to all images."""
    start = time.perf_counter()
    first = None
    for progress in engine.evaluate([spec]):
        if first is None and progress.phase == "evaluate":
            first = time.perf_counter() - start
    end = time.perf_counter() - start
    return end if first is None else first, end
