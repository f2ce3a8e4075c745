"""The parts that need torch alone: training on the GPU is right, and how fast it is."""

import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from stimcore.bench import step
from stimcore.bench.curves import loss_curve, striped_dataset, striped_images
from stimcore.bench.gpu.part import Outcome, Sizes
from stimcore.data.images import Dataset
from stimcore.methods.table import make
from stimcore.nets.catalogue import build
from stimcore.recipes.recipe import REDUCED, Recipe
from stimcore.runs import checkpoint
from stimcore.train.seeds import layers_seeded
from stimcore.train.settings import Settings
from stimcore.train.trainer import Trainer

CURVE_TOLERANCE = 1e-6
"""Largest relative difference of a loss in 20 steps in double precision; rounding grows by about ten per step."""
RESUME_TOLERANCE = 5e-3
"""Largest relative difference of a loss after a resumption: kernels of a GPU may add in another order in every run."""
CPU = torch.device("cpu")


def golden_curves(device: torch.device, sizes: Sizes) -> Outcome:
    """Train 20 steps of every method on the device and on the processor, and compare the losses."""
    worst: dict[str, float] = {}
    for method in sizes.methods:
        ours, theirs = loss_curve(method, {}, device), loss_curve(method, {}, CPU)
        worst[method] = max(
            abs(row[key] - expected[key]) / max(1e-3, abs(expected[key]))
            for row, expected in zip(ours, theirs, strict=True)
            for key in expected
        )
    return Outcome(
        max(worst.values()) <= CURVE_TOLERANCE,
        {f"largest relative difference, {method}": value for method, value in worst.items()},
        f"20 steps of each method in double precision; allowed: {CURVE_TOLERANCE:g}",
    )


def resume(device: torch.device, _: Sizes) -> Outcome:
    """Train three epochs in one go, and again with a break after the first; compare the losses."""
    recipe = _recipe(epochs=3, batch_size=16)
    data = striped_dataset(96, 24)
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder, "whole"), Path(folder, "broken")
        for path in (whole, broken):
            path.mkdir()
        expected = list(_trainer(recipe, data, device).run(whole))
        running = _trainer(recipe, data, device).run(broken)
        rows = [next(running)]
        running.close()
        newest = checkpoint.newest(broken)
        assert newest is not None, "the first epoch left a checkpoint"
        path, state, _problems = newest
        later = _trainer(recipe, data, device)
        later.resume(state, str(path))
        rows += list(later.run(broken))
    differences = [abs(a["losses"]["loss"] / b["losses"]["loss"] - 1) for a, b in zip(rows, expected, strict=True)]
    return Outcome(
        max(differences) <= RESUME_TOLERANCE,
        {"largest relative difference": max(differences)},
        f"stimulative training, 3 epochs with a break after the first; allowed: {RESUME_TOLERANCE:g}",
    )


def steps(device: torch.device, sizes: Sizes) -> Outcome:
    """Time a stimulative step over a common one, with a shared prefix and with two separate forwards."""
    figures: dict[str, float] = {}
    for network, pixels in sizes.networks.items():
        report = step.run(
            step.Settings(
                network=network,
                batch_size=sizes.batch_size,
                pixels=pixels,
                classes=100,
                rounds=sizes.rounds,
                memory_rounds=min(4, sizes.rounds),
                precision="bf16" if device.type == "cuda" else "fp32",
                device=str(device),
                every_method=False,
            )
        )
        figures |= {f"{network}, {name.replace('_', ' ')} over common": value for name, value in report["ratios"].items()}
        figures[f"{network}, common step in s"] = report["seconds"]["common"]
    return Outcome(None, figures, f"batch {sizes.batch_size}, n = {sizes.rounds}; times by CUDA events on a GPU")


def throughput(device: torch.device, sizes: Sizes) -> Outcome:
    """Train one epoch of ResNet-20 and the same in a plain loop of torch; images per second of both, in turns."""
    precision = "bf16" if device.type == "cuda" else "fp32"
    side = 32 if device.type == "cuda" else 12
    train = striped_images(sizes.epoch_images, channels=3, side=side, classes=3)
    data = Dataset(name="stripes", train=train, test=train, classes=("a", "b", "c"), mean=(0.3,) * 3, std=(0.25,) * 3)
    recipe = _recipe(epochs=8, batch_size=min(128, sizes.epoch_images // 2), precision=precision)
    trainer, plain = _trainer(recipe, data, device, "common"), _PlainLoop(data, recipe, device)
    seconds: dict[str, list[float]] = {"stimcore": [], "plain": []}
    for turn in range(3):
        for name, epoch in (("stimcore", trainer.train_epoch), ("plain", plain.epoch)):
            start = time.perf_counter()
            epoch()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:  # the first turn picks kernels
                seconds[name].append(time.perf_counter() - start)
    images = trainer.steps_per_epoch * recipe.batch_size
    best = {name: images / min(values) for name, values in seconds.items()}
    return Outcome(
        None,
        {
            "images per second": best["stimcore"],
            "images per second, plain loop": best["plain"],
            "over the plain loop": best["stimcore"] / best["plain"],
        },
        f"common training of ResNet-20, {side} px, batch {recipe.batch_size}, {precision}, best of 2 epochs",
    )


class _PlainLoop:
    """Common training as a tutorial of torch writes it, with the data on the device, `channels_last` and autocast."""

    def __init__(self, data: Dataset, recipe: Recipe, device: torch.device) -> None:
        with layers_seeded(0, "weights"):
            self.net = build(recipe.network, input_shape=data.image_shape, num_classes=len(data.classes)).module.to(device)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.images = torch.from_numpy(data.train.pixels).to(device)
        self.labels = torch.from_numpy(data.train.labels).to(device)
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=device.type == "cuda"
        )
        self.size, self.bf16, self.device = recipe.batch_size, recipe.precision == "bf16", device

    def epoch(self) -> None:
        """Make one pass over the images, with flips and crops of whole batches."""
        self.net.train()
        order = torch.randperm(len(self.images), device=self.device)
        for start in range(0, len(order) - self.size + 1, self.size):
            index = order[start : start + self.size]
            x = self.images[index].float().div_(255).sub_(0.3).div_(0.25)
            x = F.pad(x, (4, 4, 4, 4))[:, :, 2 : 2 + x.shape[2], 3 : 3 + x.shape[3]].flip(3)
            x = x.contiguous(memory_format=torch.channels_last)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss = nn.functional.cross_entropy(self.net(x), self.labels[index])
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation there
            self.optimizer.step()


def _recipe(*, epochs: int, batch_size: int, precision: str = "fp32") -> Recipe:
    return Recipe(
        name="gpu",
        label=REDUCED,
        experiment="gpu",
        network="resnet20",
        dataset="gpu",
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=0.01,
        precision=precision,
        evaluate_every=epochs,
    )


def _trainer(recipe: Recipe, data: Dataset, device: torch.device, method: str = "stimulative") -> Trainer:
    with layers_seeded(0, "weights"):
        net = build(recipe.network, input_shape=data.image_shape, num_classes=len(data.classes))
    return Trainer(net, make(method, {}), recipe, data, Settings(device=device, progress=False))
