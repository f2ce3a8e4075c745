"""Loss curves on a small fixed problem: the same numbers on every machine and device, up to rounding."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

from stimcore.data.images import Dataset, Images
from stimcore.methods.base import StepContext
from stimcore.methods.table import make
from stimcore.nets.catalogue import build
from stimcore.recipes.recipe import REDUCED, Recipe
from stimcore.train.seeds import generator, layers_seeded
from stimcore.train.settings import Settings
from stimcore.train.trainer import Trainer


def striped_images(count: int, *, channels: int = 1, side: int = 10, classes: int = 3, seed: int = 0) -> Images:
    """Return noise with a bright stripe whose place is the class; uint8 `[count, channels, side, side]`."""
    numbers = np.random.Generator(np.random.PCG64(seed))
    pixels = numbers.integers(0, 100, (count, channels, side, side), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % classes
    for image, label in zip(pixels, labels, strict=True):
        image[:, :, 3 * label : 3 * label + 2] += 150
    return Images(pixels=pixels, labels=labels)


def striped_dataset(num_train: int, num_test: int) -> Dataset:
    """Return striped images in three classes."""
    return Dataset(
        name="stripes",
        train=striped_images(num_train),
        test=striped_images(num_test, seed=1),
        classes=("a", "b", "c"),
        mean=(0.3,),
        std=(0.25,),
    )


def loss_curve(method: str, options: Mapping[str, object], device: torch.device) -> list[dict[str, float]]:
    """Train ResNet-20 for 20 steps on striped images and return the named losses of every step.

    In double precision: in single, rounding alone grows to percents within 20 steps, and so would differ between devices.

    Args:
        method: Name of the training method.
        options: Its options.
        device: Where the steps run.
    """
    with single_threaded():
        trainer, contexts = golden_problem(method, options, device)
        return [
            {key: float(value) for key, value in trainer.train_step(context, step).items()}
            for step, context in enumerate(contexts)
        ]


@contextmanager
def single_threaded() -> Iterator[None]:
    """Have torch compute in one thread inside the block, so that sums have the same order on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def golden_problem(method: str, options: Mapping[str, object], device: torch.device) -> tuple[Trainer, Iterator[StepContext]]:
    """Return the trainer of the curves, with ResNet-20 in double precision, and its 20 batches; arguments as `loss_curve`."""
    data = striped_dataset(160, 12)
    recipe = Recipe(
        name="golden",
        label=REDUCED,
        experiment="golden",
        network="resnet20",
        dataset="golden",
        epochs=2,
        batch_size=16,
        learning_rate=0.01,
        warmup_epochs=0.5,
    )
    with layers_seeded(0, "weights"):
        net = build(recipe.network, input_shape=data.image_shape, num_classes=3).double()
    trainer = Trainer(net, make(method, options), recipe, data, Settings(progress=False, device=device))
    if trainer.auxiliary is not None:
        trainer.auxiliary.double()
    numbers = np.random.Generator(np.random.PCG64(0))  # torch's normal draws differ in the last bit between processors
    for parameter in trainer.parameters:
        if parameter.ndim > 1:
            spread = (2 / parameter[0].numel()) ** 0.5
            values = torch.from_numpy(numbers.standard_normal(parameter.shape)) * spread
            parameter.data = values.to(device)
    order = torch.randperm(len(data.train), generator=generator(0, "golden order"))
    batches = [*torch.split(order, recipe.batch_size), *torch.split(order.flip(0), recipe.batch_size)]
    trainer.net.train()
    return trainer, map(_double, trainer.loader.epoch(batches, 0))


def _double(context: StepContext) -> StepContext:
    """Return the images in double precision, rounded to where the normalisation of all processors agrees."""
    return dataclasses.replace(context, images=(context.images.double() * 1000).round() / 1000, smaller=())
