"""Bytes and time of all ordered sub-networks: with one shared file of weights, and as stand-alone files.

Stand-alone files are written for a sample of sub-networks only; their bytes are scaled by parameters to the whole family.

With a run folder, its export is timed beside the ordered sweep of the bundle that it writes, in turns in one process and in
processor time, so that a busy machine slows both alike. The limit is twice the sweep and 0.2 s a file.
"""

import random
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stimcore.bench.bundles import random_bundle
from stimcore.bench.check import at_least
from stimcore.bundle import open_bundle
from stimcore.bundle.manifest import MAIN
from stimcore.engine.engine import Engine
from stimcore.engine.graph.external import externalise
from stimcore.export.graphs import network_graph
from stimcore.export.request import ExportRequest, prepare
from stimcore.nets.catalogue import build
from stimcore.nets.cost import Costs
from stimcore.runs.machine import describe
from stimcore.subnets.families import ordered
from stimcore.train.seeds import layers_seeded

SECONDS_A_FILE = 0.2
"""What a file may cost an export beside twice the ordered sweep."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    network: str
    pixels: int
    sample: int
    run: Path | None
    rounds: int


def run(settings: Settings) -> dict[str, Any]:
    """Measure, and return the report.

    Raises:
        UsageError: A number is out of range.
    """
    at_least(settings, pixels=1, sample=1, rounds=1)
    timed = {} if settings.run is None else _time_export(settings.run, settings.rounds)
    with layers_seeded("bench weights"):
        net = build(settings.network, input_shape=(3, settings.pixels, settings.pixels), num_classes=10).eval()
    specs = list(ordered(net.topology))
    costs = Costs(net)
    parameters = {spec: costs.of(spec).parameters for spec in specs}
    drawn = random.Random(0).sample(specs, min(settings.sample, len(specs)))
    with tempfile.TemporaryDirectory() as folder:
        bundle = random_bundle(Path(folder), net, images=8, calibration=64)
        model, _ = network_graph(net, "torchscript")
        inline = [t.name for t in model.graph.initializer if t.name.endswith((".mean", ".var"))]
        store = len(externalise(model, "weights.bin", inline))
        places = {t.name: t for t in model.graph.initializer if t.name not in inline}
        engine = Engine(bundle, device="cpu")
        statistics = engine.calibrated(drawn)
        graphs, alone = [], []
        for spec in drawn:
            graph = engine.network(spec, statistics, folded=False)
            for tensor in graph.graph.initializer:
                if tensor.name in places:
                    tensor.CopyFrom(places[tensor.name])
            graphs.append(graph.ByteSize())
            alone.append(len(engine.standalone(spec)))
    main = store + model.ByteSize()
    shared = store + sum(graphs) / len(graphs) * len(specs)
    standalone = sum(alone) / sum(parameters[spec] for spec in drawn) * sum(parameters.values())
    return {
        "bench": "export",
        "network": settings.network,
        "machine": describe(torch.device("cpu")),
        "n": len(drawn),
        "ratios": {"bytes_standalone": standalone / shared, "bytes_shared_over_main": shared / main, **timed.get("ratios", {})},
        "seconds": timed.get("seconds", {}),
        "run": timed.get("run", {}),
        "subnetworks": len(specs),
        "bytes_main": main,
        "bytes_shared": round(shared),
        "bytes_standalone": round(standalone),
        "bytes_of_one_graph": round(sum(graphs) / len(graphs)),
    }


def _time_export(run: Path, rounds: int) -> dict[str, Any]:
    """Return processor seconds of a run's export and of the ordered sweep of its bundle, medians of turns.

    Raises:
        StimcoreError: The run can't be exported.
    """
    exports, sweeps = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            exporter, specs = prepare(ExportRequest(run_dir=run, out=Path(folder) / "bench"))
            start = time.process_time()
            exporter.export(specs)
            exports.append(time.process_time() - start)
            # of the main network alone, so that the sweep measures all statistics itself, as the export does
            bundle = open_bundle(exporter.target)
            main_only = {MAIN: bundle.manifest.networks[MAIN]}
            bundle = replace(bundle, manifest=replace(bundle.manifest, networks=main_only))
            start = time.process_time()
            for _progress in Engine(bundle, device="cpu").evaluate(specs):
                pass
            sweeps.append(time.process_time() - start)
    export, sweep = statistics.median(exports), statistics.median(sweeps)
    limit = 2 * sweep + SECONDS_A_FILE * len(specs)
    return {
        "ratios": {"export_over_sweep": export / sweep, "export_over_limit": export / limit},
        "seconds": {"export": export, "sweep": sweep, "limit": limit},
        "run": {
            "network": exporter.trained.run.network,
            "n": rounds,
            "files": len(specs),
            "images": bundle.manifest.images,
            "checked_images": bundle.manifest.checked_images,
        },
    }
