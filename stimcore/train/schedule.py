"""Learning rates as a function of the global step, so that resuming needs no state."""

import math

from stimcore.recipes.recipe import Recipe

RISING_FRAC = 0.3
"""Share of the steps in which `one_cycle` rises."""


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step.

    Args:
        recipe: Has the peak rate, the schedule and the warm-up.
        step: Global step, counted from 0.
        steps_per_epoch: At least 1.

    Example:
        >>> from stimcore.recipes.catalogue import recipe
        >>> plan = recipe("mobilenetv3-cifar100")
        >>> [round(learning_rate(plan, step, 10), 4) for step in (0, 2500, 4999)]
        [0.05, 0.025, 0.0]
    """
    total = recipe.epochs * steps_per_epoch
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup  # a first rate of 0 would waste a step
    progress = (step - warmup) / max(1, total - warmup)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if recipe.schedule == "one_cycle":
        falling = max(0.0, (1 - progress) / (1 - RISING_FRAC))
        return recipe.learning_rate * (progress / RISING_FRAC if progress < RISING_FRAC else falling)
    passed = sum(step >= milestone * steps_per_epoch for milestone in recipe.milestones)
    return float(recipe.learning_rate * recipe.decay**passed)
