"""All ordered sub-networks: one by one in torch and in onnxruntime, the tree of prefixes, and its floor.

The tree is timed as a whole. Evaluation one by one is timed on a few sub-networks, drawn anew in every round, and scaled to the
whole family by multiply-accumulates. The floor is the time that the parts of the tree would take (each once per prefix,
calibration images included) at the speed of the folded main network alone in onnxruntime. All variants take turns in one
process and are measured in processor time (on a GPU in wall-clock time), so that a busy machine slows all of them alike.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stimcore.bench.bundles import random_bundle
from stimcore.bench.check import at_least
from stimcore.bundle import Bundle
from stimcore.data.images import Images
from stimcore.data.normalise import Normalisation
from stimcore.engine.budget import Budget
from stimcore.engine.cpus import check_threads
from stimcore.engine.engine import Engine
from stimcore.engine.prefix_tree import nodes_below, prefix_tree
from stimcore.nets.catalogue import build
from stimcore.nets.cost import Costs
from stimcore.nets.staged import StagedNet
from stimcore.reference.evaluate import evaluate
from stimcore.runs.machine import describe
from stimcore.subnets.families import ordered
from stimcore.subnets.spec import Spec
from stimcore.train.seeds import layers_seeded

TORCH_IMAGES, ENGINE_IMAGES = 250, 125
"""Images per batch, in torch and in onnxruntime: each near the fastest for a small network on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    network: str
    pixels: int
    images: int
    calibration: int
    rounds: int
    sample: int
    threads: int
    unit_steps: int
    device: str


def run(settings: Settings) -> dict[str, Any]:
    """Measure, and return the report.

    Raises:
        UsageError: A number is out of range.
    """
    at_least(settings, pixels=1, images=1, calibration=1, rounds=1, sample=1, unit_steps=1)
    check_threads(settings.threads)
    torch.set_num_threads(settings.threads)
    with layers_seeded("bench weights"):
        net = build(settings.network, input_shape=(3, settings.pixels, settings.pixels), num_classes=10).eval()
    specs = list(ordered(net.topology))
    costs = Costs(net)
    macs = {spec: costs.of(spec).macs for spec in specs}
    with tempfile.TemporaryDirectory() as folder:
        bundle = random_bundle(Path(folder), net, images=settings.images, calibration=settings.calibration)
        budget = Budget(unit_steps=settings.unit_steps)
        clock = time.perf_counter if settings.device != "cpu" else time.process_time

        def engine() -> Engine:
            return Engine(bundle, device=settings.device, threads=settings.threads, budget=budget)

        warm = engine()
        share = _tree_macs(warm, specs, costs) / macs[net.topology.full]
        rng = random.Random(0)
        seconds: dict[str, list[float]] = {name: [] for name in ("tree", "torch_one_by_one", "onnxruntime_one_by_one", "floor")}
        for _ in range(settings.rounds):
            drawn = rng.sample(specs, min(settings.sample, len(specs)))
            scale = sum(macs.values()) / sum(macs[spec] for spec in drawn)
            seconds["torch_one_by_one"].append(
                scale * _sum_timed(clock, drawn, lambda spec: _evaluate_in_torch(net, bundle, spec))
            )
            seconds["tree"].append(_timed(clock, lambda: _evaluate_tree(engine(), specs)))
            seconds["onnxruntime_one_by_one"].append(
                scale * _sum_timed(clock, drawn, lambda spec: evaluate_alone(engine(), bundle, spec))
            )
            seconds["floor"].append(share * (settings.images + settings.calibration) * _time_main_image(warm, bundle, clock))
    pairs = {
        "torch_one_by_one": ("torch_one_by_one", "tree"),
        "onnxruntime_one_by_one": ("onnxruntime_one_by_one", "tree"),
        "floor": ("tree", "floor"),
    }
    return {
        "bench": "sweep",
        "network": settings.network,
        "machine": describe(torch.device("cpu")) | {"provider": warm.provider, "threads": settings.threads},
        "n": settings.rounds,
        "ratios": {
            name: statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))
            for name, (over, under) in pairs.items()
        },
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "subnetworks": len(specs),
        "images": settings.images,
        "calibration_images": settings.calibration,
        "sample": settings.sample,
        "tree_over_main_macs": share,
    }


def _timed(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """Return the seconds that a call takes by a clock."""
    start = clock()
    work()
    return clock() - start


def _sum_timed(clock: Callable[[], float], specs: Sequence[Spec], work: Callable[[Spec], object]) -> float:
    return sum(_timed(clock, partial(work, spec)) for spec in specs)


def _evaluate_tree(engine: Engine, specs: list[Spec]) -> None:
    for _ in engine.evaluate(specs):
        pass


def _evaluate_in_torch(net: StagedNet, bundle: Bundle, spec: Spec) -> None:
    experiment = bundle.experiment
    pixels, labels = experiment.evaluation
    calibration = Images(pixels=experiment.calibration, labels=np.zeros(len(experiment.calibration), np.int64))
    evaluate(
        net,
        spec,
        Images(pixels=pixels, labels=labels),
        Normalisation(experiment.mean, experiment.std),
        calibration=calibration,
        batch_size=TORCH_IMAGES,
    )


def evaluate_alone(engine: Engine, bundle: Bundle, spec: Spec) -> None:
    """Evaluate one sub-network without sharing: calibrate it, then run it as one session."""
    pixels, _ = bundle.experiment.evaluation
    for start in range(0, len(pixels), ENGINE_IMAGES):
        engine.logits(spec, bundle.experiment.normalise(pixels[start : start + ENGINE_IMAGES]))


def _time_main_image(engine: Engine, bundle: Bundle, clock: Callable[[], float]) -> float:
    """Return the seconds per image of the main network with its session ready."""
    pixels, _ = bundle.experiment.evaluation
    images = bundle.experiment.normalise(pixels[:ENGINE_IMAGES])
    main = engine.bundle.topology.full
    engine.logits(main, images)
    times = [_timed(clock, lambda: engine.logits(main, images)) for _ in range(8)]
    return statistics.median(times) / len(images)


def _tree_macs(engine: Engine, specs: list[Spec], costs: Costs) -> int:
    """Return the multiply-accumulates for one image when every prefix runs once."""
    macs = {name: cost.macs for spec in specs for name, cost in costs.parts(spec).items()}
    return sum(macs[node.route[-1]] for node in nodes_below(prefix_tree(engine.route(spec) for spec in specs)))
