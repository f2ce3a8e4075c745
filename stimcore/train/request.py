"""What one training run is asked to do, as a value: the entry to training from Python."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stimcore.methods.base import Method
from stimcore.methods.table import METHODS, make
from stimcore.recipes.recipe import Recipe
from stimcore.train.settings import Settings


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One run.

    Attributes:
        recipe: The recipe, with everything that was changed in it.
        method: Name of the training method.
        options: Options of the method that differ from its defaults; those of the recipe included.
        folder: The run folder.
        name: Name of the run in its experiment, without the seed.
        spec: The sub-network that is trained alone (a twin); None for the whole network.
        init: Weights to start from: a run folder, a file, or `torchvision:WEIGHTS`; None for random weights.
        averaged: Whether to start from the average of the weights over the steps, which the file also has.
        resume: Whether to continue from the newest checkpoint in the folder.
        strict_watch: Whether a watched sub-network that the network doesn't have is an error. Otherwise it is left out: the
            specs in a recipe were chosen for its network and may not exist in a twin.
        data_root: The folder that holds the data set; None for the default.
        settings: Seed, device, processes.
    """

    recipe: Recipe
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: Path
    name: str
    spec: str | None = None
    init: str | None = None
    averaged: bool = False
    resume: bool = False
    strict_watch: bool = False
    data_root: Path | None = None
    settings: Settings = Settings()

    def make_method(self) -> Method:
        """Return the training method with its options.

        Raises:
            UsageError: The method or an option doesn't exist, or an option has a wrong value.
        """
        return make(self.method, self.options)


def with_true_label(recipe: Recipe, method: str, options: Mapping[str, Any], init: str | None = None) -> Recipe:
    """Return the recipe as a changed one if the method is an own one, its options are not the recipe's, or weights are given.

    The label vouches for the options of the method too, above all for lambda, and for the random weights at the start.

    Example:
        >>> from stimcore.recipes.catalogue import recipe
        >>> paper = recipe("mobilenetv3-cifar100")
        >>> given = paper.options["stimulative"]
        >>> [with_true_label(paper, "stimulative", {**given, "weight": weight}).label for weight in (10.0, 5.0)]
        ["paper's settings", 'reduced recipe']
    """
    if make(method, options) == make(method, recipe.options.get(method, {})) and method in METHODS and init is None:
        return recipe
    return recipe.changed()


def default_name(base: str, options: Sequence[str], recipe: Recipe, original: Recipe) -> str:
    """Return a run's default name, in which everything appears that differs from the original recipe.

    Args:
        base: The method, or `twin-SPEC`.
        options: Options of the method as `NAME=VALUE`.
        recipe: The recipe with its changes.
        original: The recipe without changes.

    Example:
        >>> from stimcore.recipes.catalogue import recipe
        >>> original = recipe("resnet20-fashion")
        >>> default_name("stimulative", ["subnets=2"], original.with_changes({"epochs": 2}), original)
        'stimulative-subnets-2-epochs2'
    """
    cleaned = [re.sub(r"[^\w.,-]+", "-", option) for option in sorted(options)]
    return "-".join([base, *cleaned, *recipe.name_parts(original)])
