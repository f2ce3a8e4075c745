"""Smoke runs: whether a recipe learns with a method at all, in 200 steps on real images of the right shape.

The images are Fashion-MNIST's, which is on every machine that runs the tests, enlarged to the recipe's size and with its number
of channels. The head has the recipe's width, but only ten classes occur, so that guessing costs log 10 nats for every recipe.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from stimcore.data.images import Dataset, Images
from stimcore.data.sources import load
from stimcore.errors import TrainingFailed
from stimcore.methods.base import Method
from stimcore.methods.table import make
from stimcore.nets.catalogue import build
from stimcore.recipes.recipe import Recipe
from stimcore.train.choices import SMOKE_STEPS
from stimcore.train.loader import CROPPED
from stimcore.train.precision import computes_in_bf16
from stimcore.train.seeds import generator, layers_seeded
from stimcore.train.settings import Settings
from stimcore.train.trainer import Trainer

LAST_STEPS = 20
"""Steps at the end over which the cross entropy is averaged."""
LEARNED_FRAC = 0.75
"""A run has learned when its cross entropy is at most this share of guessing."""
PATIENCE_S = 5.0
"""Longest step, in seconds, at the recipe's own batch size; where one takes longer, batches of `SMALL_BATCH` run instead."""
SMALL_BATCH = 16
DOUBT = 2.0
"""How many times too long a step has to be, as a small batch foretells it, to be ruled out without having been tried."""
CLASSES = 10
SHAPES: Mapping[str, tuple[tuple[int, int, int], int]] = {
    "fashion-mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "imagenet": ((3, 224, 224), 1000),
}
"""Data set -> shape of its images and number of its classes."""


@dataclass(frozen=True)
class SmokeRun:
    """What a smoke run showed.

    Attributes:
        recipe: Name of the recipe.
        method: Training method.
        batch_size: Images per step.
        learning_rate: Peak learning rate.
        steps: Steps that were made.
        cross_entropy: Mean of the main network's cross entropy over the last steps, in nats.
        seconds: Median time of a step.
        scaled: Whether batch and rate are smaller than the recipe's, the rate in proportion.
        precision: Number format: the recipe's, or `fp32` where this machine would only emulate it.
    """

    recipe: str
    method: str
    batch_size: int
    learning_rate: float
    steps: int
    cross_entropy: float
    seconds: float
    scaled: bool
    precision: str = "fp32"

    @property
    def conditions(self) -> str:
        """Batch size, and what differs from a step at the recipe's own size in fp32, in words."""
        said = ", ".join(["scaled"] * self.scaled + [self.precision] * (self.precision != "fp32"))
        return f"{self.batch_size} ({said})" if said else str(self.batch_size)

    @property
    def learned(self) -> bool:
        """Whether the cross entropy is clearly below guessing."""
        return self.cross_entropy <= LEARNED_FRAC * math.log(CLASSES)


def smoke_run(recipe: Recipe, method: str, *, steps: int = SMOKE_STEPS, images: Images | None = None) -> SmokeRun:
    """Train a recipe with a method for some steps at its peak rate and batch size.

    A recipe whose rate rises at first (a warm-up, or one cycle) rises over the first quarter of the steps; then the peak rate
    stays. It trains on the processor, and in fp32 unless the recipe says bf16 and the processor computes in that.

    Args:
        recipe: The recipe.
        method: Name of the training method; its options are the recipe's.
        steps: Number of steps.
        images: Grey images in ten classes, uint8 `[N, 1, H, W]`; Fashion-MNIST's training images when None.

    Raises:
        TrainingFailed: A loss was not finite.
    """
    chosen = make(method, recipe.options.get(method, {}))
    images = images or load("fashion-mnist").train
    native = recipe.precision == "bf16" and computes_in_bf16(torch.device("cpu"))
    recipe = dataclasses.replace(recipe, precision="bf16" if native else "fp32")
    scaled = _too_slow(recipe, chosen, images)
    if scaled:
        recipe = _in_small_batches(recipe)
    trainer, context = _trainer(recipe, chosen, steps, images)
    losses, seconds = [], []
    for number, batch in enumerate(trainer.loader.epoch(context, 0)):
        start = time.perf_counter()
        losses.append(float(trainer.train_step(batch, number)["main_ce"]))
        seconds.append(time.perf_counter() - start)
        if not math.isfinite(losses[-1]):
            raise TrainingFailed(f"{recipe.name}, {method}: the loss was {losses[-1]} in step {number + 1}")
    return SmokeRun(
        recipe=recipe.name,
        method=method,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        steps=len(losses),
        cross_entropy=statistics.mean(losses[-LAST_STEPS:]),
        seconds=statistics.median(seconds),
        scaled=scaled,
        precision=recipe.precision,
    )


def _too_slow(recipe: Recipe, method: Method, images: Images) -> bool:
    """Whether a step of the recipe's own batch size takes longer than `PATIENCE_S`.

    A small batch is timed first. One of the recipe's size is tried only where that leaves a doubt: a batch of 512 large images
    takes more memory than most machines have.
    """
    if recipe.batch_size <= SMALL_BATCH:
        return False
    expected_s = _second_step_s(_in_small_batches(recipe), method, images) * recipe.batch_size / SMALL_BATCH
    return expected_s > DOUBT * PATIENCE_S or _second_step_s(recipe, method, images) > PATIENCE_S


def _second_step_s(recipe: Recipe, method: Method, images: Images) -> float:
    """Return the seconds of a step; of the second, because the first also allocates memory and chooses kernels."""
    trainer, batches = _trainer(recipe, method, 2, images)
    for number, batch in enumerate(trainer.loader.epoch(batches, 0)):
        start = time.perf_counter()
        trainer.train_step(batch, number)
    return time.perf_counter() - start


def _in_small_batches(recipe: Recipe) -> Recipe:
    """Return the recipe with batches of `SMALL_BATCH` images and a rate that is smaller in proportion."""
    rate = recipe.learning_rate * SMALL_BATCH / recipe.batch_size
    return dataclasses.replace(recipe, batch_size=SMALL_BATCH, learning_rate=rate, accumulate=1)


def _trainer(recipe: Recipe, method: Method, steps: int, images: Images) -> tuple[Trainer, list[torch.Tensor]]:
    """Return a trainer whose first epoch is the smoke run, and the indices of every batch."""
    name, _, side = recipe.dataset.partition("@")
    shape, num_classes = SHAPES[name]
    if side:
        shape = (shape[0], int(side), int(side))
    size = recipe.batch_size
    count = min(len(images), steps * size)
    pixels = torch.from_numpy(images.pixels[:count])
    if shape[1:] != tuple(pixels.shape[2:]):
        # nearest: the images stay uint8 and real, and enlarging 60,000 of them takes no memory for floats
        pixels = torch.nn.functional.interpolate(pixels, size=shape[1:], mode="nearest")
    train = Images(pixels=pixels.expand(-1, shape[0], -1, -1).contiguous().numpy(), labels=images.labels[:count])
    dataset = Dataset(
        name="smoke",
        train=train,
        test=Images(pixels=train.pixels[:size], labels=train.labels[:size]),
        classes=tuple(map(str, range(num_classes))),
        mean=(0.2860,) * shape[0],
        std=(0.3530,) * shape[0],
    )
    rises = recipe.warmup_epochs > 0 or recipe.schedule == "one_cycle"
    steps_per_epoch = count // size
    short = dataclasses.replace(
        recipe,
        schedule="step",
        milestones=(),
        warmup_epochs=0.25 * steps / steps_per_epoch if rises else 0.0,
        epochs=max(1, math.ceil(steps / steps_per_epoch)),
        watch=(),
        augmentation="flip_crop" if recipe.augmentation in CROPPED else recipe.augmentation,
    )
    with layers_seeded(0, "weights"):
        net = build(recipe.network, input_shape=shape, num_classes=num_classes)
    trainer = Trainer(net, method, short, dataset, Settings(progress=False))
    trainer.net.train()
    orders = [torch.randperm(count, generator=generator(0, "smoke order", epoch)) for epoch in range(short.epochs)]
    batches = [batch for order in orders for batch in torch.split(order, size) if len(batch) == size]
    return trainer, batches[:steps]


def smoke_table(runs: Sequence[SmokeRun]) -> str:
    """Return smoke runs as a table in Markdown."""
    rows = [
        f"| {run.recipe} | {run.method.replace('_', ' ')} | {run.conditions} | "
        f"{run.learning_rate:g} | {run.steps} | {run.cross_entropy:.2f} | "
        f"{'yes' if run.learned else '**no**'} | {run.seconds:.2f} |"
        for run in runs
    ]
    head = ["| recipe | method | batch | rate | steps | main CE, nats | learned | s per step |", "| --- " * 8 + "|"]
    return "\n".join([*head, *rows]) + "\n"
