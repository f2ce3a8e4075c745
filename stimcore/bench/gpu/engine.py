"""The parts that need onnxruntime: the engine on the GPU counts what the processor counts, and how fast it is."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from stimcore.bench import edit, serve, sweep
from stimcore.bench.bundles import random_bundle
from stimcore.bench.gpu.part import Outcome, Sizes
from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.cuda import CPU, CUDA
from stimcore.engine.engine import Engine
from stimcore.engine.inference import Floats
from stimcore.engine.provider import CUDA_OPTIONS, session_options
from stimcore.nets.catalogue import build
from stimcore.subnets.families import deletions, ordered
from stimcore.subnets.spec import Spec
from stimcore.train.seeds import layers_seeded

CLOSE_LOGITS = 1e-3
"""Images whose two largest logits differ by less may be classified either way; they are counted apart."""
FILE_TOLERANCE = 1e-3
"""Largest difference of logits between providers, over the largest logit: sums in another order, TF32 off."""


def engine_counts(device: torch.device, sizes: Sizes) -> Outcome:
    """Compare which images sub-networks of every committed experiment classify correctly, on the device and the processor."""
    figures: dict[str, float] = {}
    wrong = close = compared = 0
    for bundle in _bundles(sizes):
        specs = spread(bundle, sizes.specs)
        ours, theirs = (_hits(bundle, specs, name, sizes.images) for name in (str(device), "cpu"))
        reference = Engine(bundle, device="cpu")
        images = bundle.experiment.normalise(bundle.experiment.evaluation[0][: sizes.images])
        for spec in specs:
            compared += len(theirs[spec])
            differing = np.flatnonzero(ours[spec] != theirs[spec])
            if len(differing):
                tied = _margins(reference.logits(spec, images[differing])) < CLOSE_LOGITS
                close += int(tied.sum())
                wrong += int((~tied).sum())
        figures[f"{bundle.experiment.name}, sub-networks"] = len(specs)
    return Outcome(
        wrong == 0,
        {**figures, "answers compared": compared, "that differ": wrong, "that differ with close logits": close},
        f"close: the two largest logits differ by less than {CLOSE_LOGITS:g}",
    )


def exported_files(device: torch.device, sizes: Sizes) -> Outcome:
    """Run listed files of every committed experiment in plain sessions on both devices, and compare the logits."""
    worst: dict[str, float] = {}
    for bundle in _bundles(sizes):
        names = list(bundle.manifest.networks)[:3]
        images = bundle.experiment.normalise(bundle.experiment.evaluation[0][: min(500, sizes.images)])
        for name in names:
            ours, theirs = (_run_file(bundle.path / name, images, provider) for provider in (str(device), "cpu"))
            error = float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max()))
            worst[bundle.experiment.name] = max(worst.get(bundle.experiment.name, 0.0), error)
    return Outcome(
        max(worst.values()) <= FILE_TOLERANCE,
        {f"largest difference, {name}": value for name, value in worst.items()},
        f"over the largest logit; allowed: {FILE_TOLERANCE:g}",
    )


def sweeps(device: torch.device, sizes: Sizes) -> Outcome:
    """Time the sweep of all ordered sub-networks beside one by one, in onnxruntime, torch and compiled torch."""
    pixels = next(iter(sizes.networks.values()))
    with tempfile.TemporaryDirectory() as folder:
        with layers_seeded("bench weights"):
            net = build("resnet20", input_shape=(3, pixels, pixels), num_classes=10).eval()
        bundle = random_bundle(Path(folder), net, images=sizes.sweep_images, calibration=min(512, sizes.sweep_images))
        specs = list(ordered(bundle.topology))
        seconds = {"tree": [], "onnxruntime": [], "torch": [], "compiled torch": []}  # type: dict[str, list[float]]
        on_device = net.to(device)
        images = torch.from_numpy(bundle.experiment.normalise(bundle.experiment.evaluation[0])).to(device)
        for turn in range(3):
            engine = Engine(bundle, device=str(device))
            start = time.perf_counter()
            for _ in engine.evaluate(specs):
                pass
            times = {"tree": time.perf_counter() - start}
            few = specs[:: max(1, len(specs) // 3)][:3]
            times["onnxruntime"] = len(specs) * _mean_seconds(
                lambda spec: sweep.evaluate_alone(Engine(bundle, device=str(device)), bundle, spec), few
            )
            times["torch"] = len(specs) * _mean_seconds(lambda spec: _forward(on_device, spec, images, device), few)
            for name, value in times.items():
                if turn:
                    seconds[name].append(value)
        for spec in specs[: sizes.compiled]:
            compiled = torch.compile(lambda x, spec=spec: on_device(x, spec))
            _through(compiled, images, device)  # compiles
            start = time.perf_counter()
            _through(compiled, images, device)
            seconds["compiled torch"].append(len(specs) * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in seconds.items() if values}
    return Outcome(
        None,
        {
            **{f"{name}, s": value for name, value in medians.items()},
            **{f"{name} over the tree": value / medians["tree"] for name, value in medians.items() if name != "tree"},
        },
        f"ResNet-20, {pixels} px, {len(specs)} sub-networks, {sizes.sweep_images} images; tree and onnxruntime re-calibrate, "
        "torch only runs forwards (compilation not counted); one by one from three sub-networks",
    )


def edits(device: torch.device, sizes: Sizes) -> Outcome:
    """Time from an edit of a network to its first number, and to that on all images."""
    bundle = _bundles(sizes)[-1]
    report = edit.run(edit.Settings(bundle=bundle.path, rounds=1, device=str(device)))
    return Outcome(
        None, {f"{name.replace('_', ' ')}, s": value for name, value in report["seconds"].items()}, report["network"]
    )


def inference(device: torch.device, sizes: Sizes) -> Outcome:
    """Time an inference through HTTP beside a call of onnxruntime in the same process."""
    report = serve.run(
        serve.Settings(
            network="resnet20",
            pixels=next(iter(sizes.networks.values())),
            rounds=1,
            requests=sizes.requests,
            connections=2,
            device=str(device),
        )
    )
    return Outcome(
        None,
        {f"{name.replace('_', ' ')}, s": value for name, value in report["seconds"].items()},
        "ResNet-20; both on the same device",
    )


def spread(bundle: Bundle, count: int) -> list[Spec]:
    """Return sub-networks of a bundle, evenly spread over the ordered ones and the deletions of one block."""
    specs = list(ordered(bundle.topology))
    if not bundle.topology.ordered_only:
        specs += deletions(bundle.topology, 1)
    return specs[:: max(1, len(specs) // count)][:count]


def _bundles(sizes: Sizes) -> list[Bundle]:
    """Return one bundle of every experiment: common training, or the first one."""
    bundles = []
    for folder in map(Path, sizes.experiments):
        methods = sorted(path.parent for path in folder.glob("*/manifest.json"))
        methods.sort(key=lambda path: path.name != "common")
        if methods:
            bundles.append(open_bundle(methods[0]))
    if not bundles:
        raise FileNotFoundError("no committed experiment in exported/")
    return sorted(bundles, key=lambda bundle: bundle.experiment.name)


def _hits(bundle: Bundle, specs: Sequence[Spec], device: str, images: int) -> dict[Spec, np.ndarray]:
    *_, report = Engine(bundle, device=device).evaluate(specs, max_images=images, collect_hits=True)
    return {spec: np.asarray(report.hits[spec]) for spec in specs}


def _margins(logits: Floats) -> np.ndarray:
    """Return the difference of the two largest logits of every image."""
    largest = np.sort(logits, axis=1)
    return np.asarray(largest[:, -1] - largest[:, -2])


def _run_file(path: Path, images: Floats, device: str) -> Floats:
    options = session_options(0)
    providers = [CPU] if device == "cpu" else [(CUDA, {**CUDA_OPTIONS, "device_id": torch.device(device).index or 0}), CPU]
    logits: Floats = ort.InferenceSession(path, options, providers=providers).run(None, {"images": images})[0]
    return logits


def _mean_seconds(work: object, specs: Sequence[Spec]) -> float:
    assert callable(work)
    start = time.perf_counter()
    for spec in specs:
        work(spec)
    return (time.perf_counter() - start) / len(specs)


def _forward(net: torch.nn.Module, spec: Spec, images: torch.Tensor, device: torch.device) -> None:
    _through(lambda x: net(x, spec), images, device)


def _through(forward: object, images: torch.Tensor, device: torch.device) -> None:
    assert callable(forward)
    with torch.inference_mode():
        for start in range(0, len(images), 250):
            forward(images[start : start + 250])
    if device.type == "cuda":
        torch.cuda.synchronize(device)
