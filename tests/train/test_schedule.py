"""Learning rates, number formats and seeds."""

import dataclasses
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from stimcore.errors import UsageError
from stimcore.recipes.recipe import Recipe
from stimcore.train.precision import Precision
from stimcore.train.schedule import learning_rate
from stimcore.train.seeds import cpu_seeded, derived, generator, layers_seeded, spec_rng


def _rates(recipe: Recipe, steps: int, **changes: Any) -> list[float]:
    plan = dataclasses.replace(recipe, learning_rate=0.1, **changes)
    return [learning_rate(plan, step, steps) for step in range(plan.epochs * steps)]


def test_cosine_falls_from_the_peak_to_nearly_nothing(recipe: Recipe) -> None:
    rates = _rates(recipe, 10, epochs=10, schedule="cosine")
    assert rates[0] == 0.1
    assert rates[50] == pytest.approx(0.05)
    assert 0 < rates[-1] < 0.001
    assert rates == sorted(rates, reverse=True)


def test_steps_are_taken_after_their_epochs(recipe: Recipe) -> None:
    rates = _rates(recipe, 2, epochs=5, schedule="step", milestones=(2, 4), decay=0.2)
    assert rates == pytest.approx([0.1] * 4 + [0.02] * 4 + [0.004] * 2)


def test_one_cycle_goes_up_for_thirty_percent_and_down_to_nothing(recipe: Recipe) -> None:
    rates = _rates(recipe, 10, epochs=10, schedule="one_cycle")
    assert rates[0] == 0
    assert max(rates) == rates[30] == pytest.approx(0.1)
    assert rates[65] == pytest.approx(0.05)
    assert 0 < rates[-1] < 0.002


def test_warm_up_is_linear_and_the_schedule_begins_behind_it(recipe: Recipe) -> None:
    rates = _rates(recipe, 4, epochs=10, schedule="cosine", warmup_epochs=1.0)
    assert rates[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


def test_nothing_is_slow_to_arrive_when_an_epoch_has_one_step(recipe: Recipe) -> None:
    for schedule in ("cosine", "one_cycle", "step"):
        assert all(rate >= 0 for rate in _rates(recipe, 1, epochs=1, schedule=schedule))


def test_fp16_is_refused_where_it_can_not_be_scaled() -> None:
    with pytest.raises(UsageError, match="fp16 needs a CUDA device"):
        Precision("fp16", torch.device("cpu"))


@pytest.mark.gpu
def test_fp16_scales_and_takes_the_scale_out_again() -> None:
    precision = Precision("fp16", torch.device("cuda"))
    weight = torch.ones(3, device="cuda", requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    precision.backward((2 * weight).sum())
    precision.unscale(optimizer)
    assert weight.grad is not None
    assert weight.grad.tolist() == [2, 2, 2]


def test_seeds_depend_on_every_part_and_stay_what_they_are() -> None:
    assert derived(0, "spec", 1) != derived(0, "spec", 2) != derived(1, "spec", 2)
    assert 0 <= derived("x") < 2**63
    assert torch.equal(torch.rand(3, generator=generator(1)), torch.rand(3, generator=generator(1)))
    assert spec_rng(1).random() == spec_rng(1).random() != spec_rng(2).random()


@pytest.mark.parametrize("seeded", [cpu_seeded, layers_seeded])
def test_seeded_blocks_leave_the_generators_as_they_were(seeded: Callable[..., AbstractContextManager[None]]) -> None:
    before = torch.random.get_rng_state(), random.getstate()
    with seeded("a"):
        first = torch.rand(3)
    with seeded("a"):
        second = torch.rand(3)
    assert torch.equal(first, second)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == random.getstate()
