"""Recipes: a run as a function that returns a complete frozen configuration.

A recipe says everything about a run but method, seed and device, so that methods are compared on the same one.
`python -m stimcore.recipes list` prints them.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from stimcore import cli
from stimcore.errors import UsageError

PAPER, STANDARD, REDUCED = "paper's settings", "standard recipe", "reduced recipe"
_FORMER_LABELS = {"paper": PAPER}
"""Labels of recipes that were written earlier; `paper` alone is the label of numbers that the paper prints."""
UNKNOWN = "not measured"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that training needs to know besides method, seed and device.

    Attributes:
        name: Its name in `RECIPES`.
        label: `paper's settings` for our runs with the settings that the paper gives, `standard recipe` where its appendix
            gives none and those of the network's authors are taken, `reduced recipe` for what finishes on a laptop.
        experiment: Folder under `exported/` that its runs belong to.
        network: A name of the catalogue.
        dataset: A name that `stimcore.data.sources.load` knows.
        epochs: Passes over the training images.
        batch_size: Over all ranks together.
        learning_rate: Peak.
        schedule: `cosine` (to 0), `step` or `one_cycle` (linear up for 30% of the steps, then linear down to 0).
        milestones: For `step`: epochs after which the rate is multiplied by `decay`.
        decay: For `step`.
        warmup_epochs: Linear from 0 before the schedule.
        momentum: Of SGD.
        nesterov: Whether momentum is Nesterov's.
        weight_decay: On every parameter.
        label_smoothing: In [0, 1).
        augmentation: `none`, `flip_crop` (4 pixels of padding) or `imagenet`.
        precision: `fp32`, `bf16` (autocast) or `fp16` (autocast with scaling, CUDA only).
        options: Method -> options that differ from the method's defaults.
        train_per_class: Training images per class, a seeded sample that is the same for every seed of a run; None for all.
        evaluate_every: Epochs between evaluations of the main network; the last epoch is always evaluated.
        watch: Ordered sub-networks whose accuracy is followed: `smallest` (one block per stage), `half` (half of every stage's
            blocks, rounded up), `ordered` (all of them), or specs such as `d1-2-3`.
        watch_every: Epochs between the measurements of these; the main network is evaluated in the same epochs.
        watch_images: Test images that they are measured on, a seeded sample with the same share of every class.
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
    momentum: float = 0.9
    nesterov: bool = True
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

    def __post_init__(self) -> None:
        allowed = {
            "schedule": ("cosine", "step", "one_cycle"),
            "augmentation": ("none", "flip_crop", "imagenet"),
            "precision": ("fp32", "bf16", "fp16"),
            "label": (PAPER, STANDARD, REDUCED),
        }
        for key, values in allowed.items():
            if getattr(self, key) not in values:
                raise UsageError(f"{key} '{getattr(self, key)}' in recipe {self.name}", allowed=", ".join(values))
        for key in ("epochs", "batch_size", "train_per_class", "evaluate_every", "watch_every", "watch_images"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise UsageError(f"{key} {value} in recipe {self.name}", allowed="1 and more")

    def evaluates(self, epoch: int) -> bool:
        """Whether the main network is evaluated after an epoch, counted from 1."""
        return epoch == self.epochs or epoch % self.evaluate_every == 0 or self.watches(epoch)

    def watches(self, epoch: int) -> bool:
        """Whether the watched sub-networks are measured after an epoch, counted from 1."""
        return bool(self.watch) and (epoch == self.epochs or epoch % self.watch_every == 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads it back."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; keys that are newer than the recipe take their defaults.

        Raises:
            UsageError: An unknown key, or one without a default that is missing.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        needed = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING}
        if wrong := (set(value) - known) | (needed - set(value)):
            raise UsageError(f"a recipe that differs in the keys {', '.join(sorted(wrong))}", allowed=", ".join(sorted(known)))
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
        values["label"] = _FORMER_LABELS.get(values["label"], values["label"])
        return cls(**values)


def _scarce(name: str, network: str, *, experiment: str | None = None, **changes: Any) -> Recipe:
    """The scarce recipe: 500 training images per class for 60 epochs, so that networks converge on two cores within an hour.

    In fp32: bf16 is twice as fast on processors that compute in it and ten times slower on those that only emulate it.
    """
    values: dict[str, Any] = {
        "dataset": "fashion-mnist",
        "epochs": 60,
        "batch_size": 128,
        "learning_rate": 0.1,
        "schedule": "one_cycle",
        "train_per_class": 500,
        "evaluate_every": 5,
        "watch": ("smallest", "half"),
        "watch_every": 5,
    }
    return Recipe(name=name, label=REDUCED, experiment=experiment or name, network=network, **(values | changes))


RESNET20_FAN = ("smallest", "half", "d1-2-3", "d3-2-1", "d2-3-2")
"""Sub-networks of ResNet-20 that are watched: three of equal depth, one between them and the main network, the smallest."""


def resnet20_fashion() -> Recipe:
    """ResNet-20 on a twelfth of Fashion-MNIST: what all methods are compared with."""
    return _scarce("resnet20-fashion", "resnet20", watch=RESNET20_FAN)


def resnet20_w2_fashion() -> Recipe:
    """The same with twice as many channels."""
    return _scarce("resnet20-w2-fashion", "resnet20-w2", watch=RESNET20_FAN)


def resnet44_fashion() -> Recipe:
    """A deeper one: 343 ordered sub-networks."""
    return _scarce("resnet44-fashion", "resnet44")


def mobilenetv3_fashion() -> Recipe:
    """MobileNetV3-Large at half width: the paper's 144 ordered sub-networks at a size that two cores can train."""
    return _scarce("mobilenetv3-fashion", "mobilenetv3-w0.5", weight_decay=3e-5)


def densenet_fashion() -> Recipe:
    """A nested family of DenseNets at a quarter of the paper's layers (Tables r5 and r6): its main network is a small 201.

    121, 169 and 201 have 6-12-24-16, 6-12-32-32 and 6-12-48-32 layers; here 2-3-6-4, 2-3-8-8 and 2-3-12-8, growth 12. The
    smaller two are its twins d2-3-6-4 and d2-3-8-8.
    """
    return _scarce("densenet-fashion", "densenet-2-3-12-8-k12", experiment="densenet-loafing")


def resnet20_cifar10() -> Recipe:
    """ResNet-20 on CIFAR-10, or on any folder of such images with `--dataset folder:PATH`."""
    return _scarce("resnet20-cifar10", "resnet20", dataset="cifar10", watch=RESNET20_FAN)


def mobilenetv3_cifar100() -> Recipe:
    """The paper's Appendix C.2, and F.1's comparisons."""
    return Recipe(
        name="mobilenetv3-cifar100",
        label=PAPER,
        experiment="mobilenetv3-cifar100",
        network="mobilenetv3",
        dataset="cifar100",
        epochs=500,
        batch_size=64,
        learning_rate=0.05,
        nesterov=False,
        weight_decay=3e-5,
        options={"stimulative": {"weight": 10.0}},
    )


def mobilenetv3_cifar10() -> Recipe:
    """The paper's settings of MobileNetV3 on CIFAR-10."""
    return dataclasses.replace(
        mobilenetv3_cifar100(),
        name="mobilenetv3-cifar10",
        experiment="mobilenetv3-cifar10",
        dataset="cifar10",
        options={"stimulative": {"weight": 5.0}},
    )


def resnet50_cifar100() -> Recipe:
    """The paper's ResNet-50 on CIFAR-100 (Table r4)."""
    return dataclasses.replace(
        mobilenetv3_cifar100(), name="resnet50-cifar100", experiment="resnet50-cifar100", network="resnet50"
    )


def densenet_cifar100(depth: int) -> Recipe:
    """The paper's Appendix F.2."""
    return Recipe(
        name=f"densenet{depth}-cifar100",
        label=PAPER,
        experiment="densenet-cifar100",
        network=f"densenet{depth}",
        dataset="cifar100",
        epochs=200,
        batch_size=128,
        learning_rate=0.1,
        schedule="step",
        milestones=(60, 120, 160),
        decay=0.2,
        weight_decay=5e-4,
    )


def cifar_resnet_cifar10(depth: int) -> Recipe:
    """He et al. 2016, section 4.2: the ResNet-d of Fig. 1, of which the paper takes trained ones (Appendix C.4)."""
    return Recipe(
        name=f"resnet{depth}-cifar10-full",
        label=STANDARD,
        experiment="resnet-family-cifar10",
        network=f"resnet{depth}",
        dataset="cifar10",
        epochs=164,
        batch_size=128,
        learning_rate=0.1,
        schedule="step",
        milestones=(82, 123),
        warmup_epochs=1.0 if depth > 56 else 0.0,
        nesterov=False,
        weight_decay=1e-4,
        options={"stimulative": {"weight": 5.0}},
    )


def resnet_imagenet(depth: int) -> Recipe:
    """ResNets on ImageNet: lambda is the paper's (Appendix E), everything else the custom of ten years."""
    return Recipe(
        name=f"resnet{depth}-imagenet",
        label=STANDARD,
        experiment=f"resnet{depth}-imagenet",
        network=f"resnet{depth}",
        dataset="imagenet",
        epochs=100,
        batch_size=256,
        learning_rate=0.1,
        warmup_epochs=5.0,
        weight_decay=1e-4,
        augmentation="imagenet",
        precision="bf16",
        options={"stimulative": {"weight": 1.0}},
    )


def resnet50_imagenet_plus() -> Recipe:
    """Two strategies of Stimulative Training++: at most 0, 1, 3, 0 blocks of a stage skipped, smaller inputs from 0.43."""
    return dataclasses.replace(
        resnet_imagenet(50),
        name="resnet50-imagenet-plus",
        experiment="resnet50-imagenet-plus",
        options={"stimulative": {"weight": 1.0, "max_skipped": (0, 1, 3, 0), "smallest_side": 0.43}},
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "resnet20-fashion": resnet20_fashion,
    "resnet20-w2-fashion": resnet20_w2_fashion,
    "resnet44-fashion": resnet44_fashion,
    "mobilenetv3-fashion": mobilenetv3_fashion,
    "densenet-fashion": densenet_fashion,
    "resnet20-cifar10": resnet20_cifar10,
    "mobilenetv3-cifar100": mobilenetv3_cifar100,
    "mobilenetv3-cifar10": mobilenetv3_cifar10,
    "resnet50-cifar100": resnet50_cifar100,
    **{f"densenet{d}-cifar100": partial(densenet_cifar100, d) for d in (121, 169, 201, 264)},
    **{f"resnet{d}-cifar10-full": partial(cifar_resnet_cifar10, d) for d in (20, 32, 44, 56, 110)},
    **{f"resnet{d}-imagenet": partial(resnet_imagenet, d) for d in (18, 34, 50, 101)},
    "resnet50-imagenet-plus": resnet50_imagenet_plus,
}
"""Name -> function."""

ALIASES = {"resnet20-fashion-lambda": "resnet20-fashion"}
"""Other names of recipes: the ablation of lambda (Fig. r3) is part of the experiment whose settings it shares."""


@dataclass(frozen=True)
class Expected:
    """What is known of a recipe before it is run. `not measured` where nobody here did, and where the paper says nothing.

    Attributes:
        two_cores: Time of common training on two cores.
        gpu: Time of common training on one GPU.
        accuracy: Of the main network, common and stimulative training, in percent; with its source.
    """

    two_cores: str = UNKNOWN
    gpu: str = UNKNOWN
    accuracy: str = UNKNOWN


EXPECTED: dict[str, Expected] = {
    "resnet20-fashion": Expected("about 9 min"),
    "resnet20-w2-fashion": Expected("about 24 min"),
    "resnet44-fashion": Expected("about 22 min"),
    "mobilenetv3-fashion": Expected("about 8 min"),
    "densenet-fashion": Expected("about 16 min"),
    "resnet20-cifar10": Expected("about 11 min"),
    "mobilenetv3-cifar100": Expected("about 33 h", "16.9 h (paper)", "77.39, 81.07 (paper)"),
    "mobilenetv3-cifar10": Expected("about 30 h", "16.8 h (paper)", "95.72, 96.88 (paper)"),
    "resnet50-cifar100": Expected("about 19 days", "15.3 h (paper)", "76.53, 81.06 (paper)"),
    "densenet121-cifar100": Expected("about 5 days", accuracy="78.84, not measured (paper)"),
    "densenet169-cifar100": Expected("about 6 days", accuracy="79.64, not measured (paper)"),
    "densenet201-cifar100": Expected("about 9 days", accuracy="79.77, not measured (paper)"),
    "densenet264-cifar100": Expected("about 14 days", accuracy="79.81, not measured (paper)"),
    "resnet20-cifar10-full": Expected("about 6 h"),
    "resnet32-cifar10-full": Expected("about 11 h"),
    "resnet44-cifar10-full": Expected("about 15 h"),
    "resnet56-cifar10-full": Expected("about 19 h"),
    "resnet110-cifar10-full": Expected("about 37 h"),
    "resnet18-imagenet": Expected("about 140 days"),
    "resnet34-imagenet": Expected("about 250 days"),
    "resnet50-imagenet": Expected("about 290 days"),
    "resnet101-imagenet": Expected("about 540 days"),
    "resnet50-imagenet-plus": Expected("about 290 days"),
}
"""Name -> what is known. `about`: from the processor time of one step in fp32, measured here on one core, halved."""


def expected(name: str) -> Expected:
    """What is known of a recipe."""
    return EXPECTED.get(name, Expected())


def recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UsageError: There is none of that name.
    """
    name = ALIASES.get(name, name)
    if name not in RECIPES:
        raise UsageError(f"there is no recipe '{name}'", allowed=", ".join(RECIPES))
    return RECIPES[name]()


def parser() -> cli.Parser:
    """The command line; its help text is frozen by a test."""
    line = cli.Parser(prog="python -m stimcore.recipes", description="The recipes that stimcore.train knows.")
    line.add_argument("what", choices=["list"], help="prints them with their costs and accuracies")
    line.add_argument("--json", metavar="FILE", help="write the recipes as JSON ('-' for standard output)")
    return line


def main(argv: Sequence[str]) -> int:
    """`python -m stimcore.recipes list`."""
    options = parser().parse_args(argv)
    rows = [make() for make in RECIPES.values()]
    if options.json != "-":
        head = f"{'recipe':24} {'network':22} {'data':13} {'epochs':>6}  {'label':16}"
        print(f"{head}  {'on two cores':24}  {'on a GPU':15}  accuracy of common, stimulative (%)")
        for row in rows:
            known = expected(row.name)
            start = f"{row.name:24} {row.network:22} {row.dataset:13} {row.epochs:>6}  {row.label:16}"
            print(f"{start}  {known.two_cores:24}  {known.gpu:15}  {known.accuracy}")
        print(
            "Times are those of common training; stimulative training takes 1.3 to 1.5 times as long.\n"
            "'about': reckoned from one step in fp32, measured on one core (AMD EPYC, Intel Xeon); the run was not made here."
        )
    cli.write_report(options.json, [row.to_dict() | {"expected": dataclasses.asdict(expected(row.name))} for row in rows])
    return 0


if __name__ == "__main__":
    cli.run(main)
