"""All ordered sub-networks: one by one in torch and in onnxruntime, the tree of prefixes, and its floor.

The tree is timed whole. One by one is timed on a few sub-networks, drawn anew in every round, and scaled to the whole family
by multiply-accumulates. The floor is what the tree's parts would take (each once per prefix, calibration images included) at
the speed at which the main network alone, folded, runs in onnxruntime. All take turns in one process; the unit is processor
time (on a GPU time on the clock), so that a busy machine slows all of them alike.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stimcore.bench.bundles import random_bundle
from stimcore.bundle import Bundle
from stimcore.data.images import Images
from stimcore.engine.engine import Engine
from stimcore.engine.inference import Budget
from stimcore.engine.prefix_tree import nodes, prefix_tree
from stimcore.errors import UsageError
from stimcore.nets.catalogue import build
from stimcore.nets.cost import Costs
from stimcore.nets.staged import StagedNet
from stimcore.reference.evaluate import evaluate
from stimcore.runs.machine import describe
from stimcore.subnets.families import ordered
from stimcore.subnets.topology import Spec
from stimcore.train.seeds import layers_seeded


def add_arguments(line: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    line.add_argument("--network", default="resnet32", help="a name of the catalogue (default: %(default)s)")
    line.add_argument("--pixels", type=int, default=32, help="side of the images (default: %(default)s)")
    line.add_argument("--images", type=int, default=2000, help="evaluation images (default: %(default)s)")
    line.add_argument("--calibration", type=int, default=512, help="calibration images (default: %(default)s)")
    line.add_argument("--rounds", type=int, default=3, help="turns (default: %(default)s)")
    line.add_argument("--sample", type=int, default=3, help="sub-networks one by one in every turn (default: %(default)s)")
    line.add_argument("--threads", type=int, default=1, help="on the CPU (default: %(default)s)")
    line.add_argument("--unit-steps", type=int, default=Budget().unit_steps, help="parts in one graph (default: %(default)s)")
    line.add_argument("--device", default="cpu", help="of onnxruntime: auto, cpu, cuda or cuda:N (default: %(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures; returns the report.

    Raises:
        UsageError: A number that is out of range.
    """
    for name in ("pixels", "images", "calibration", "rounds", "sample", "threads", "unit_steps"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}", allowed="1 and more")
    torch.set_num_threads(options.threads)
    with layers_seeded("bench weights"):
        net = build(options.network, input_shape=(3, options.pixels, options.pixels), num_classes=10).eval()
    specs = list(ordered(net.topology))
    costs = Costs(net)
    macs = {spec: costs.of(spec).macs for spec in specs}
    with tempfile.TemporaryDirectory() as folder:
        bundle = random_bundle(Path(folder), net, images=options.images, calibration=options.calibration)
        budget = Budget(unit_steps=options.unit_steps)
        clock = time.perf_counter if options.device != "cpu" else time.process_time

        def engine() -> Engine:
            return Engine(bundle, device=options.device, threads=options.threads, budget=budget)

        own = engine()
        share = _tree_macs(own, specs, costs) / macs[net.topology.full]
        rng = random.Random(0)
        seconds: dict[str, list[float]] = {name: [] for name in ("tree", "torch_one_by_one", "onnxruntime_one_by_one", "floor")}
        for _ in range(options.rounds):
            drawn = rng.sample(specs, min(options.sample, len(specs)))
            scale = sum(macs.values()) / sum(macs[spec] for spec in drawn)
            seconds["torch_one_by_one"].append(scale * _sum_timed(clock, drawn, lambda spec: _in_torch(net, bundle, spec)))
            seconds["tree"].append(_timed(clock, lambda: _whole(engine(), specs)))
            seconds["onnxruntime_one_by_one"].append(
                scale * _sum_timed(clock, drawn, lambda spec: _alone(engine(), bundle, spec))
            )
            seconds["floor"].append(share * (options.images + options.calibration) * _main_speed(own, bundle, clock))
    pairs = {
        "torch_one_by_one": ("torch_one_by_one", "tree"),
        "onnxruntime_one_by_one": ("onnxruntime_one_by_one", "tree"),
        "floor": ("tree", "floor"),
    }
    return {
        "bench": "sweep",
        "network": options.network,
        "machine": describe(torch.device("cpu")) | {"provider": own.provider, "threads": options.threads},
        "n": options.rounds,
        "ratios": {
            name: statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))
            for name, (over, under) in pairs.items()
        },
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "subnetworks": len(specs),
        "images": options.images,
        "calibration_images": options.calibration,
        "sample": options.sample,
        "tree_over_main_macs": share,
    }


def _timed(clock: Callable[[], float], work: Callable[[], object]) -> float:
    start = clock()
    work()
    return clock() - start


def _sum_timed(clock: Callable[[], float], specs: Sequence[Spec], work: Callable[[Spec], object]) -> float:
    return sum(_timed(clock, partial(work, spec)) for spec in specs)


def _whole(engine: Engine, specs: list[Spec]) -> None:
    for _ in engine.evaluate(specs):
        pass


def _in_torch(net: StagedNet, bundle: Bundle, spec: Spec) -> None:
    experiment = bundle.experiment
    pixels, labels = experiment.evaluation
    calibration = Images(pixels=experiment.calibration, labels=np.zeros(len(experiment.calibration), np.int64))
    evaluate(
        net,
        spec,
        Images(pixels=pixels, labels=labels),
        mean=experiment.mean,
        std=experiment.std,
        calibration=calibration,
        batch_size=250,
    )


def _alone(engine: Engine, bundle: Bundle, spec: Spec) -> None:
    """One sub-network by itself: its own calibration, then one session for the whole of it."""
    pixels, _ = bundle.experiment.evaluation
    for start in range(0, len(pixels), 125):
        engine.logits(spec, bundle.experiment.normalise(pixels[start : start + 125]))


def _main_speed(engine: Engine, bundle: Bundle, clock: Callable[[], float]) -> float:
    """Seconds an image of the main network, its session ready."""
    pixels, _ = bundle.experiment.evaluation
    images = bundle.experiment.normalise(pixels[:125])
    main = engine.bundle.topology.full
    engine.logits(main, images)
    times = [_timed(clock, lambda: engine.logits(main, images)) for _ in range(8)]
    return statistics.median(times) / len(images)


def _tree_macs(engine: Engine, specs: list[Spec], costs: Costs) -> int:
    """Multiply-accumulates for one image of every prefix once."""
    macs = {name: cost.macs for spec in specs for name, cost in costs.parts(spec).items()}
    return sum(macs[node.route[-1]] for node in nodes(prefix_tree(engine.route(spec) for spec in specs)))
