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

PAPER, STANDARD, REDUCED = "paper", "standard recipe", "reduced recipe"
UNKNOWN = "not measured"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that training needs to know besides method, seed and device.

    Attributes:
        name: Its name in `RECIPES`.
        label: `paper` for the paper's own settings, `standard recipe` where its appendix gives none and those of the network's
            authors are taken, `reduced recipe` for what finishes on a laptop.
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
        for key in ("epochs", "batch_size"):
            if getattr(self, key) < 1:
                raise UsageError(f"{key} {getattr(self, key)} in recipe {self.name}", allowed="1 and more")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads it back."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            UsageError: An unknown key, or one that is missing.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if set(value) != known:
            raise UsageError(
                f"a recipe that differs in the keys {', '.join(sorted(set(value) ^ known))}", allowed=", ".join(sorted(known))
            )
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
        return cls(**values)


def resnet20_fashion() -> Recipe:
    """What the committed experiment was trained with: minutes on two cores.

    In fp32: bf16 is twice as fast on processors that compute in it and ten times slower on those that only emulate it.
    """
    return Recipe(
        name="resnet20-fashion",
        label=REDUCED,
        experiment="resnet20-fashion",
        network="resnet20",
        dataset="fashion-mnist",
        epochs=4,
        batch_size=128,
        learning_rate=0.2,
        schedule="one_cycle",
    )


def resnet20_fashion_lambda() -> Recipe:
    """One epoch each for the ablation of lambda (Fig. r3): a peak rate that large lambdas bear."""
    return dataclasses.replace(
        resnet20_fashion(),
        name="resnet20-fashion-lambda",
        experiment="resnet20-fashion-lambda",
        epochs=1,
        learning_rate=0.05,
        warmup_epochs=0.25,
        schedule="cosine",
    )


def mobilenetv3_fashion() -> Recipe:
    """MobileNetV3-Large at half width: the paper's 144 ordered sub-networks at a size that two cores can train."""
    return Recipe(
        name="mobilenetv3-fashion",
        label=REDUCED,
        experiment="mobilenetv3-fashion",
        network="mobilenetv3-w0.5",
        dataset="fashion-mnist",
        epochs=4,
        batch_size=128,
        learning_rate=0.1,
        schedule="one_cycle",
        weight_decay=3e-5,
    )


def densenet_fashion() -> Recipe:
    """A nested family of DenseNets at a quarter of the paper's layers (Tables r5 and r6): its main network is a small 201.

    121, 169 and 201 have 6-12-24-16, 6-12-32-32 and 6-12-48-32 layers; here 2-3-6-4, 2-3-8-8 and 2-3-12-8, growth 12. The
    smaller two are its twins d2-3-6-4 and d2-3-8-8.
    """
    return dataclasses.replace(
        resnet20_fashion(),
        name="densenet-fashion",
        experiment="densenet-loafing",
        network="densenet-2-3-12-8-k12",
        epochs=1,
        learning_rate=0.1,
    )


def resnet20_cifar10() -> Recipe:
    """ResNet-20 on CIFAR-10, or on any folder of such images with `--dataset folder:PATH`: an hour on two cores."""
    return dataclasses.replace(
        resnet20_fashion(), name="resnet20-cifar10", experiment="resnet20-cifar10", dataset="cifar10", epochs=8
    )


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
    "resnet20-fashion-lambda": resnet20_fashion_lambda,
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
    "resnet20-fashion": Expected("12 min (measured on one)", accuracy="92.2, 91.7 (measured, 10,000 images, seed 0)"),
    "resnet20-fashion-lambda": Expected("4 min (measured on one)", accuracy="87.0, 86.8 (measured, 10,000 images, seed 0)"),
    "mobilenetv3-fashion": Expected("12 min (measured on one)", accuracy="90.2, 90.2 (measured, 10,000 images, seed 0)"),
    "densenet-fashion": Expected("6 min (measured on one)", accuracy="87.2, not measured (measured, 10,000 images, seed 0)"),
    "resnet20-cifar10": Expected("40 min (measured on one)", accuracy="80.6, 78.1 (measured, 10,000 images, seed 0)"),
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
        head = f"{'recipe':24} {'network':22} {'data':13} {'epochs':>6}  {'label':15}"
        print(f"{head}  {'on two cores':24}  {'on a GPU':15}  accuracy of common, stimulative (%)")
        for row in rows:
            known = expected(row.name)
            start = f"{row.name:24} {row.network:22} {row.dataset:13} {row.epochs:>6}  {row.label:15}"
            print(f"{start}  {known.two_cores:24}  {known.gpu:15}  {known.accuracy}")
        print(
            "Times are those of common training; stimulative training takes 1.3 to 1.5 times as long.\n"
            "'about': reckoned from one step in fp32, measured on one core of an AMD EPYC; the run itself was not made here."
        )
    cli.write_report(options.json, [row.to_dict() | {"expected": dataclasses.asdict(expected(row.name))} for row in rows])
    return 0


if __name__ == "__main__":
    cli.run(main)
