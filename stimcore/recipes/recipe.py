"""A recipe: one training configuration, complete and frozen.

A recipe defines everything about a run except the method, the seed and the device, so that methods can be compared on the same
recipe. `stimcore.recipes.catalogue` lists the recipes that have a name.
"""

import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from stimcore.errors import UsageError

PAPER, STANDARD, REDUCED, OWN = "paper's settings", "standard recipe", "reduced recipe", "own recipe"
"""Labels of a recipe; `Recipe.label` explains them."""
FORMER_LABELS = {"paper": PAPER}
"""Labels in older run folders and bundles; `paper` alone is now the label of numbers that the paper prints."""
CHOICES = {
    "schedule": ("cosine", "step", "one_cycle"),
    "augmentation": ("none", "flip_crop", "imagenet", "imagenet_colour"),
    "precision": ("fp32", "bf16", "fp16"),
    "optimizer": ("sgd", "adamw"),
    "label": (PAPER, STANDARD, REDUCED, OWN),
}
"""Settings that are a word, and the words that are allowed."""
MOST = 10**9
"""Largest value of a setting that is a whole number."""
COUNTS = ("epochs", "batch_size", "accumulate", "train_per_class", "evaluate_every", "watch_every", "watch_images")
"""Settings that are whole numbers from 1."""
LARGEST = 3e38
"""Numbers from here on are none in the format of weights."""
RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (lambda value: 0 < value < LARGEST, "more than 0"),
    "decay": (lambda value: 0 < value <= 1, "more than 0, at most 1"),
    "warmup_epochs": (lambda value: value >= 0, "0 and more"),
    "momentum": (lambda value: 0 <= value < 1, "from 0 to less than 1"),
    "weight_decay": (lambda value: value >= 0, "0 and more"),
    "label_smoothing": (lambda value: 0 <= value < 1, "from 0 to less than 1"),
    "betas": (lambda value: 0 <= value < 1, "two numbers from 0 to less than 1"),
    "milestones": (lambda value: value >= 1, "whole numbers from 1"),
}
"""Settings that are numbers -> which values are allowed, as a test of each number and in words."""
LABELLED_SETTINGS = (
    "epochs",
    "batch_size",
    "accumulate",
    "learning_rate",
    "optimizer",
    "weight_decay",
    "betas",
    "precision",
    "dataset",
    "network",
    "train_per_class",
)
"""Settings that the label vouches for: a recipe in which one of them was changed is a reduced recipe."""
NAME_WORDS = {
    "epochs": "epochs",
    "batch_size": "batch",
    "accumulate": "accumulate",
    "learning_rate": "rate",
    "optimizer": "",
    "weight_decay": "decay",
    "betas": "betas",
    "precision": "",
    "train_per_class": "perclass",
}
"""Settings that appear in the name of a run when they were changed, and the word before the value."""


_NO_FOLDER_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f]+')
"""What names of recipes and experiments can't have in them, since they become names of folders."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a run except the method, the seed and the device.

    Attributes:
        name: Key of the recipe in the catalogue.
        label: `paper's settings` for our recipe with the settings that the paper gives, `standard recipe` for the settings of
            the network's authors where the paper gives none, `reduced recipe` for a recipe that finishes on a laptop and for
            one of the others in which something was changed, `own recipe` for one that a user's file describes.
        experiment: Name of the folder under `exported/` to which runs of this recipe are exported.
        network: A name in the catalogue of networks.
        dataset: A name that `stimcore.data.sources.load` accepts.
        epochs: Passes over the training images.
        batch_size: Images per step, over all processes together.
        accumulate: Equal parts in which each process computes its share of a batch, one after the other, so that a large batch
            fits into memory. The gradients are those of the whole batch, but batch norms use the statistics of a part, and self
            distillation's distance over a batch (`feature=batch`) is that over a part.
        learning_rate: Peak learning rate.
        schedule: `cosine` (to 0), `step` or `one_cycle` (linear up for 30% of the steps, then linear down to 0).
        milestones: For `step`: epochs after which the rate is multiplied by `decay`.
        decay: For `step`: factor at every milestone.
        warmup_epochs: Epochs of linear warm-up from 0 before the schedule begins.
        optimizer: `sgd` or `adamw`.
        momentum: Momentum of SGD; AdamW has `betas` instead.
        nesterov: Whether the momentum is Nesterov's; for SGD.
        betas: For AdamW: how much of the averages of gradients and of squared gradients stays after a step.
        weight_decay: Weight decay of every parameter; AdamW decouples it from the gradients.
        label_smoothing: In [0, 1).
        augmentation: `none`, `flip_crop` (4 pixels of padding), `imagenet` (random crops, mirrored), or `imagenet_colour`,
            which adds jitter of brightness, contrast and saturation, and lighting.
        precision: `fp32`, `bf16` (autocast) or `fp16` (autocast with loss scaling, CUDA only).
        options: Method -> options that differ from the method's defaults.
        train_per_class: Training images per class, a seeded sample that is the same for every seed of a run; None for all.
        evaluate_every: Epochs between evaluations of the main network; the last epoch is always evaluated.
        watch: Ordered sub-networks whose accuracy is recorded during training: `smallest` (one block per stage), `half` (half
            of the blocks of every stage, rounded up), `ordered` (every ordered sub-network), or specs such as `d1-2-3`.
        watch_every: Epochs between measurements of the watched sub-networks; the main network is evaluated in the same epochs.
        watch_images: Number of test images for the watched sub-networks, a seeded sample with the same share of every class.

    Raises:
        UsageError: A setting has a value that is not allowed.
    """

    name: str
    label: str
    experiment: str
    network: str
    dataset: str
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    warmup_epochs: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    augmentation: str = "flip_crop"
    precision: str = "fp32"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    train_per_class: int | None = None
    evaluate_every: int = 1
    watch: tuple[str, ...] = ()
    watch_every: int = 1
    watch_images: int = 2000
    accumulate: int = 1

    def __post_init__(self) -> None:
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise UsageError(f"{key} '{getattr(self, key)}' in recipe {self.name}", allowed=", ".join(allowed))
        for key in COUNTS:
            value = getattr(self, key)
            if value is not None and not 1 <= value <= MOST:
                bound = "1 and more" if value < 1 else f"at most {MOST:,}"
                raise UsageError(f"{key} {value} in recipe {self.name}", allowed=bound)
        for key, (allows, words) in RANGES.items():
            value = getattr(self, key)
            numbers = value if isinstance(value, tuple) else (value,)
            # NaN compares false with everything, so that it is refused too
            if not all(allows(number) and number < math.inf for number in numbers) or (key == "betas" and len(numbers) != 2):
                shown = " ".join(f"{number:g}" for number in numbers)
                raise UsageError(f"{key} {shown} in recipe {self.name}", allowed=words)
        for key in ("name", "experiment"):
            value = getattr(self, key)
            if not value or value.startswith(".") or _NO_FOLDER_NAME.search(value):
                raise UsageError(f"{key} '{value}' of a recipe", allowed="a name of a folder, not beginning with a dot")

    def evaluates(self, epoch: int) -> bool:
        """Return whether the main network is evaluated after an epoch, counted from 1."""
        return epoch == self.epochs or epoch % self.evaluate_every == 0 or self.watches(epoch)

    def watches(self, epoch: int) -> bool:
        """Return whether the watched sub-networks are measured after an epoch, counted from 1."""
        return bool(self.watch) and (epoch == self.epochs or epoch % self.watch_every == 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain JSON types; `from_dict` is the inverse."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the recipe that `to_dict` wrote; keys that did not exist when it was written take their defaults.

        Raises:
            UsageError: A key is unknown, or a key without a default is missing.
        """
        allowed = {f.name for f in dataclasses.fields(cls)}
        required = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING}
        if wrong := (set(value) - allowed) | (required - set(value)):
            raise UsageError(
                f"a recipe that differs in the keys {', '.join(sorted(wrong))}", allowed=", ".join(sorted(allowed))
            )
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
        values["label"] = FORMER_LABELS.get(values["label"], values["label"])
        return cls(**values)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Return the recipe with other settings, and with the label and the experiment that follow from them.

        A change of a setting that the label vouches for makes it a reduced recipe. Another network or data set makes it another
        experiment, because the networks of one experiment are compared with each other.

        Args:
            changes: Setting -> value. None keeps the recipe's value; a `train_per_class` of 0 means all images.

        Raises:
            UsageError: A setting has a value that is not allowed.

        Example:
            >>> from stimcore.recipes.catalogue import recipe
            >>> changed = recipe("mobilenetv3-cifar100").with_changes({"network": "resnet20", "dataset": "folder:birds@32"})
            >>> changed.label, changed.experiment
            ('reduced recipe', 'resnet20-birds')
        """
        values = {key: value for key, value in changes.items() if value is not None and value != getattr(self, key)}
        if values.get("train_per_class") == 0:
            values["train_per_class"] = None
        values |= {key: tuple(values[key]) for key in ("watch", "betas") if key in values}
        if "dataset" in values or "network" in values:
            folder = values.get("dataset", self.dataset).removeprefix("folder:").partition("@")[0]
            network = values.get("network", self.network).rpartition(":")[2]
            values["experiment"] = _NO_FOLDER_NAME.sub("-", f"{network}-{os.path.basename(folder.rstrip('/'))}")
        if any(key in values and values[key] != getattr(self, key) for key in LABELLED_SETTINGS):
            return dataclasses.replace(self, **values).changed()
        return dataclasses.replace(self, **values)

    def changed(self) -> Self:
        """Return the recipe with the label of one in which something was changed; an own recipe stays one."""
        return self if self.label == OWN else dataclasses.replace(self, label=REDUCED)

    def name_parts(self, base: "Recipe") -> list[str]:
        """Return the words for the settings that differ from those of `base`, for the name of a run.

        Example:
            >>> from stimcore.recipes.catalogue import recipe
            >>> base = recipe("resnet20-fashion")
            >>> base.with_changes({"epochs": 2, "train_per_class": 0}).name_parts(base)
            ['epochs2', 'perclassall']
        """
        values = {key: getattr(self, key) for key in NAME_WORDS if getattr(self, key) != getattr(base, key)}
        texts = {key: "-".join(map(str, value)) if isinstance(value, tuple) else value for key, value in values.items()}
        return [f"{NAME_WORDS[key]}{'all' if value is None else value}" for key, value in texts.items()]
