"""Recipes learn: their rate, batch size and lambda together, in 200 steps on real images."""

import dataclasses
import math

import pytest
import torch

from stimcore.bench import __main__ as bench
from stimcore.bench.curves import striped_images
from stimcore.errors import TrainingFailed
from stimcore.methods.table import METHODS
from stimcore.recipes.catalogue import RECIPES, recipe
from stimcore.recipes.recipe import Recipe
from stimcore.train.smoke import LEARNED_FRAC, SHAPES, SmokeRun, smoke_run, smoke_table

SMALL = ("resnet20-fashion", "resnet20-cifar10", "resnet20-cifar10-full")
"""Recipes whose smoke runs take minutes; those of all recipes are run by hand."""


def test_every_recipe_has_the_shape_of_its_images() -> None:
    for name in RECIPES:
        assert recipe(name).dataset.partition("@")[0] in SHAPES


def test_a_run_of_a_few_steps_has_the_rate_and_batch_of_the_recipe() -> None:
    run = smoke_run(recipe("resnet20-cifar10-full"), "common", steps=3, images=striped_images(400, side=28, classes=10))
    assert (run.batch_size, run.learning_rate, run.steps, run.scaled) == (128, 0.1, 3, False)
    assert not run.learned
    assert "| resnet20-cifar10-full | common | 128 | 0.1 | 3 |" in smoke_table([run])


def test_slow_steps_get_a_small_batch_and_a_rate_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stimcore.train.smoke.PATIENCE_S", 0.0)
    run = smoke_run(recipe("resnet20-cifar10-full"), "stimulative", steps=2, images=striped_images(300, side=28, classes=10))
    assert (run.batch_size, run.scaled) == (16, True)
    assert run.learning_rate == pytest.approx(0.0125)
    assert "16 (scaled)" in smoke_table([run])


def test_a_rate_that_is_far_too_high_is_named() -> None:
    plan = dataclasses.replace(recipe("resnet20-fashion"), learning_rate=1e9, schedule="step")
    with pytest.raises(TrainingFailed, match="resnet20-fashion, common: the loss was"):
        smoke_run(plan, "common", steps=8, images=striped_images(1100, side=28, classes=10))


def test_learned_is_clearly_below_guessing() -> None:
    made = SmokeRun("r", "common", 1, 0.1, 200, LEARNED_FRAC * math.log(10) + 1e-9, 0.1, scaled=False)
    assert not made.learned
    assert dataclasses.replace(made, cross_entropy=made.cross_entropy - 1e-6).learned


def test_the_command_lists_runs_and_fails_where_one_has_not_learned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {"common": 1.0, "stimulative": 2.2}

    def made(plan: Recipe, method: str, *, steps: int) -> SmokeRun:
        return SmokeRun(plan.name, method, plan.batch_size, plan.learning_rate, steps, losses[method], 0.1, scaled=False)

    monkeypatch.setattr("stimcore.bench.smoke.smoke_run", made)
    assert bench.main(["smoke", "--recipes", "resnet20-fashion", "--methods", "common", "--steps", "3"]) == 0
    assert "| resnet20-fashion | common | 128 | 0.1 | 3 | 1.00 | yes | 0.10 |" in capsys.readouterr().out
    assert bench.main(["smoke", "--recipes", "resnet20-fashion", "resnet44-fashion"]) == 1
    assert "| resnet44-fashion | stimulative | 128 | 0.1 | 200 | 2.20 | **no** | 0.10 |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SMALL)
def test_small_recipes_learn(name: str, method: str) -> None:
    torch.set_num_threads(2)
    run = smoke_run(recipe(name), method)
    assert run.learned, run
