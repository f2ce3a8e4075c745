"""Learning rates as a function of the global step, so that resuming needs no state."""

import math

from stimcore.recipes.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of one step.

    Args:
        recipe: Says peak, schedule and warm-up.
        step: Global step from 0.
        steps_per_epoch: At least 1.
    """
    total = recipe.epochs * steps_per_epoch
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if recipe.schedule == "one_cycle":
        return recipe.learning_rate * (done / 0.3 if done < 0.3 else max(0.0, (1 - done) / 0.7))
    passed = sum(step >= milestone * steps_per_epoch for milestone in recipe.milestones)
    return float(recipe.learning_rate * recipe.decay**passed)
