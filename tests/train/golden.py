"""Golden loss curves: 20 steps of every method on a fixed small problem.

`make golden` writes them anew; review the difference. A change of the code that is meant to change no numbers must leave them
alone.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch

from stimcore.data.images import Dataset
from stimcore.methods.base import StepContext
from stimcore.methods.table import METHODS, make
from stimcore.nets.catalogue import build
from stimcore.recipes.recipe import REDUCED, Recipe
from stimcore.train.seeds import generator, layers_seeded
from stimcore.train.settings import Settings
from stimcore.train.trainer import Trainer
from tests.train.conftest import pictures

FOLDER = Path(__file__).parent / "golden"
STEPS = 20
CASES: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, {}) for name in METHODS},
    "stimulative-kl-minus": ("stimulative", {"amplitude": 4.0, "normalised_ce": True, "subnets": 2}),
    "stimulative-sample-space": ("stimulative", {"max_skipped": (0, 1, 2), "weight": 5.0}),
    "stimulative-deletions": ("stimulative", {"sample": "deletions"}),
    "stimulative-permutations": ("stimulative", {"sample": "deletions+permutations"}),
    "stimulative-labels": ("stimulative", {"target": "labels"}),
    "stimulative-sandwich": ("stimulative", {"sandwich": True}),
    "self_distillation-image": ("self_distillation", {"feature": "image"}),
}
"""Name of a curve -> method and its options."""


def curve(name: str) -> list[dict[str, float]]:
    """The named losses of every step.

    In double precision: in single, rounding alone grows to percents within 20 steps, and so would differ between processors.
    """
    method, options = CASES[name]
    data = Dataset(
        name="golden", train=pictures(160), test=pictures(12, seed=1), classes=("a", "b", "c"), mean=(0.3,), std=(0.25,)
    )
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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with layers_seeded(0, "weights"):
            net = build(recipe.network, input_shape=data.image_shape, num_classes=3).double()
        trainer = Trainer(net, make(method, options), recipe, data, Settings(progress=False))
        if trainer.auxiliary is not None:
            trainer.auxiliary.double()
        numbers = np.random.Generator(np.random.PCG64(0))  # torch's normal draws differ in the last bit between processors
        for parameter in trainer.parameters:
            if parameter.ndim > 1:
                spread = (2 / parameter[0].numel()) ** 0.5
                parameter.data = torch.from_numpy(numbers.standard_normal(parameter.shape)) * spread
        order = torch.randperm(len(data.train), generator=generator(0, "golden order"))
        batches = [*torch.split(order, recipe.batch_size), *torch.split(order.flip(0), recipe.batch_size)]
        trainer.net.train()
        rows = [
            {key: float(value) for key, value in trainer.train_step(_double(context), step).items()}
            for step, context in enumerate(trainer.loader.epoch(batches, 0))
        ]
    finally:
        torch.set_num_threads(threads)
    return rows


def _double(context: StepContext) -> StepContext:
    """Return the images in double precision, rounded to where the normalisation of all processors agrees."""
    return dataclasses.replace(context, images=(context.images.double() * 1000).round() / 1000, smaller=())


def write(name: str) -> None:
    """Write the committed curve anew."""
    rows = [{key: round(value, 8) for key, value in row.items()} for row in curve(name)]
    lines = ",\n".join(" " + json.dumps(row) for row in rows)
    (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
