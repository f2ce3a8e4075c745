"""The catalogue of recipes: a function per recipe, and what is known of each before it is run."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from stimcore.errors import UsageError
from stimcore.recipes.recipe import PAPER, REDUCED, STANDARD, Recipe

UNKNOWN = "not measured"
"""Stands for a cost or an accuracy that nobody measured here and that the paper does not print."""


def _scarce(name: str, network: str, *, experiment: str | None = None, **changes: Any) -> Recipe:
    """Return a scarce recipe: 500 training images per class for 60 epochs, so that networks converge in an hour on two cores.

    It trains in fp32: bf16 is twice as fast on processors that compute in it and ten times slower on those that emulate it.
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
"""Watched sub-networks of ResNet-20: the smallest, three of equal depth, and one between these and the main network."""


def resnet20_fashion() -> Recipe:
    """Return the recipe on which all methods are compared: ResNet-20 on a twelfth of Fashion-MNIST."""
    return _scarce("resnet20-fashion", "resnet20", watch=RESNET20_FAN)


def resnet20_w2_fashion() -> Recipe:
    """Return the recipe for ResNet-20 with twice as many channels, on a twelfth of Fashion-MNIST."""
    return _scarce("resnet20-w2-fashion", "resnet20-w2", watch=RESNET20_FAN)


def resnet44_fashion() -> Recipe:
    """Return the recipe for ResNet-44, which has 343 ordered sub-networks, on a twelfth of Fashion-MNIST."""
    return _scarce("resnet44-fashion", "resnet44")


def mobilenetv3_fashion() -> Recipe:
    """Return the recipe for MobileNetV3-Large at half width: the paper's 144 ordered sub-networks on two cores."""
    return _scarce("mobilenetv3-fashion", "mobilenetv3-w0.5", weight_decay=3e-5)


def densenet_fashion() -> Recipe:
    """Return the recipe for a nested family of DenseNets with a quarter of the paper's layers (Tables r5 and r6).

    DenseNet-121, 169 and 201 have 6-12-24-16, 6-12-32-32 and 6-12-48-32 layers; the family has 2-3-6-4, 2-3-8-8 and 2-3-12-8
    with a growth rate of 12. The main network is the largest; the other two are its twins d2-3-6-4 and d2-3-8-8.
    """
    return _scarce("densenet-fashion", "densenet-2-3-12-8-k12", experiment="densenet-loafing")


def vit_tiny_fashion() -> Recipe:
    """Return the recipe for a vision transformer of 260,000 weights on a twelfth of Fashion-MNIST.

    Transformers are trained with AdamW; rate and weight decay are those in common use.
    """
    return _scarce(
        "vit-tiny-fashion",
        "vit-tiny",
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=0.05,
        watch=RESNET20_FAN,
    )


def convnext_mini_fashion() -> Recipe:
    """Return the recipe for a ConvNeXt of 240,000 weights on a twelfth of Fashion-MNIST.

    Its authors train with AdamW and this weight decay; their rate of 4e-3 is for batches of 4,096.
    """
    return _scarce("convnext-mini-fashion", "convnext-mini", optimizer="adamw", learning_rate=2e-3, weight_decay=0.05)


def elastic_finetune() -> Recipe:
    """Return the recipe that makes a trained network elastic, so that its blocks can be dropped.

    Network, data set and number of images are those of the run or bundle that `--init` names. The rate is half of that of the
    scarce recipes; the number of epochs is the largest of those that docs/scan.md measures.
    """
    return _scarce(
        "elastic-finetune",
        "resnet20",
        epochs=4,
        learning_rate=0.05,
        evaluate_every=1,
        watch_every=1,
    )


def resnet20_cifar10() -> Recipe:
    """Return the scarce recipe for ResNet-20 on CIFAR-10, or on any folder of images with `--dataset folder:PATH`."""
    return _scarce("resnet20-cifar10", "resnet20", dataset="cifar10", watch=RESNET20_FAN)


def mobilenetv3_cifar100() -> Recipe:
    """Return the paper's settings of MobileNetV3 on CIFAR-100, enlarged to 224 pixels.

    Source: Appendix C.2; the comparisons of Appendix F.1 use the same settings. Table r1 gives the size: the body's first block
    takes 112 x 112 x 16, behind a stem of stride 2.
    Differs: the appendix states neither the augmentation nor the kind of momentum. Shifts and mirror images are ours, and
    momentum is not Nesterov's, since C.2 does not name it where F.2 does. Nor does it state whether the divergence that lambda
    weighs is averaged over the classes too, as PyTorch's loss does by default; here it is: averaged over the images only, a
    lambda of 10 keeps this network from learning (docs/semantics.md, *Which lambda*).
    """
    return Recipe(
        name="mobilenetv3-cifar100",
        label=PAPER,
        experiment="mobilenetv3-cifar100",
        network="mobilenetv3",
        dataset="cifar100@224",
        epochs=500,
        batch_size=64,
        learning_rate=0.05,
        nesterov=False,
        weight_decay=3e-5,
        options={"stimulative": {"weight": 10.0, "divide_by_classes": True}},
    )


def mobilenetv3_cifar10() -> Recipe:
    """Return the paper's settings of MobileNetV3 on CIFAR-10.

    Source: Appendix C.2.
    """
    return dataclasses.replace(
        mobilenetv3_cifar100(),
        name="mobilenetv3-cifar10",
        experiment="mobilenetv3-cifar10",
        dataset="cifar10@224",
        options={"stimulative": {"weight": 5.0, "divide_by_classes": True}},
    )


def mobilenetv3_32px(classes: int) -> Recipe:
    """Return the paper's settings of MobileNetV3 on CIFAR images in their own size, which makes it another network.

    The stem keeps the resolution, and the last blocks see 2 x 2 positions where Table r1's see 7 x 7.

    Args:
        classes: 10 or 100.
    """
    paper = mobilenetv3_cifar10() if classes == 10 else mobilenetv3_cifar100()
    name = f"{paper.name}-32px"
    return dataclasses.replace(paper, name=name, label=REDUCED, experiment=name, dataset=f"cifar{classes}")


def resnet50_cifar100() -> Recipe:
    """Return the recipe for ResNet-50 on CIFAR-100, enlarged to 224 pixels.

    Source: Table r4 has its time and memory, Appendix E its lambda of 10.
    Differs: the appendix gives no other settings for it. They are those of Appendix C.2.
    """
    return dataclasses.replace(
        mobilenetv3_cifar100(),
        name="resnet50-cifar100",
        label=STANDARD,
        experiment="resnet50-cifar100",
        network="resnet50",
    )


def densenet_cifar100(depth: int) -> Recipe:
    """Return the paper's settings of DenseNets on CIFAR-100.

    Args:
        depth: 121, 169, 201 or 264.

    Source: Appendix F.2.
    """
    return Recipe(
        name=f"densenet{depth}-cifar100",
        label=PAPER,
        experiment=f"densenet{depth}-cifar100",
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
    """Return the recipe for a CIFAR ResNet on CIFAR-10 with the settings of its authors.

    Args:
        depth: 6n + 2.

    Source: He et al. 2016, section 4.2.
    Differs: the paper uses trained networks of a public repository (Fig. 1, Appendix C.4). Its lambda of 5 on CIFAR-10 is that
    of MobileNetV3 at half this rate; at a rate of 0.1 the main network collapses to guessing, while a lambda of 1 learns.
    He et al. warm up at depth 110 alone; at depth 56, too, the network is still close to guessing after 200 steps without it.
    """
    return Recipe(
        name=f"resnet{depth}-cifar10-full",
        label=STANDARD,
        experiment=f"resnet{depth}-cifar10-full",
        network=f"resnet{depth}",
        dataset="cifar10",
        epochs=164,
        batch_size=128,
        learning_rate=0.1,
        schedule="step",
        milestones=(82, 123),
        warmup_epochs=1.0 if depth >= 56 else 0.0,
        nesterov=False,
        weight_decay=1e-4,
        options={"stimulative": {"weight": 1.0}},
    )


def resnet_imagenet(depth: int) -> Recipe:
    """Return the recipe for a ResNet on ImageNet.

    Args:
        depth: 18, 34, 50 or 101.

    Source: lambda from the paper's Appendix E; the other settings are the ones in common use since He et al. 2016.
    """
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


def resnet_imagenet_script(depth: int) -> Recipe:
    """Return the settings of the authors' public script for ResNets on ImageNet, with its defaults.

    Args:
        depth: 50 or 101.

    Source: `train.py` and `configs/resnet50_randwidth.yml` of the authors' repository Sunshine-Ye/NIPS22-ST.
    Differs: images are shuffled and drawn by our seeds, and the network after the last epoch is kept, not the best one.
    """
    return dataclasses.replace(
        resnet_imagenet(depth),
        name=f"resnet{depth}-imagenet-script",
        experiment=f"resnet{depth}-imagenet-script",
        epochs=200,
        batch_size=512,
        learning_rate=0.2,
        warmup_epochs=0.0,
        augmentation="imagenet_colour",
        precision="fp32",
    )


def resnet50_imagenet_plus() -> Recipe:
    """Return the recipe for ResNet-50 on ImageNet with two strategies of Stimulative Training++.

    At most 0, 1, 3 and 0 blocks of the four stages are skipped, and sub-networks train on inputs from 0.43 of the side.
    """
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
    "vit-tiny-fashion": vit_tiny_fashion,
    "convnext-mini-fashion": convnext_mini_fashion,
    "elastic-finetune": elastic_finetune,
    "resnet20-cifar10": resnet20_cifar10,
    "mobilenetv3-cifar100": mobilenetv3_cifar100,
    "mobilenetv3-cifar10": mobilenetv3_cifar10,
    **{f"mobilenetv3-cifar{classes}-32px": partial(mobilenetv3_32px, classes) for classes in (100, 10)},
    "resnet50-cifar100": resnet50_cifar100,
    **{f"densenet{d}-cifar100": partial(densenet_cifar100, d) for d in (121, 169, 201, 264)},
    **{f"resnet{d}-cifar10-full": partial(cifar_resnet_cifar10, d) for d in (20, 32, 44, 56, 110)},
    **{f"resnet{d}-imagenet": partial(resnet_imagenet, d) for d in (18, 34, 50, 101)},
    **{f"resnet{d}-imagenet-script": partial(resnet_imagenet_script, d) for d in (50, 101)},
    "resnet50-imagenet-plus": resnet50_imagenet_plus,
}
"""Name -> function that returns the recipe."""

FINE_TUNING = frozenset({"elastic-finetune"})
"""Recipes that start from the weights of `--init`, and take network and data set from the run or bundle that it names."""

ALIASES = {"resnet20-fashion-lambda": "resnet20-fashion"}
"""Second names of recipes: the ablation of lambda (Fig. r3) belongs to the experiment whose settings it shares."""


@dataclass(frozen=True)
class Expected:
    """Cost and accuracy of a recipe, as far as they are known before it is run.

    Attributes:
        two_cores: Time of common training on two cores.
        gpu: Time of common training on one GPU.
        accuracy: Accuracy of the main network after common and after stimulative training in percent, with its source.
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
    "vit-tiny-fashion": Expected("about 5 min"),
    "convnext-mini-fashion": Expected("about 3 min"),
    "elastic-finetune": Expected("about 1 min"),
    "resnet20-cifar10": Expected("about 11 min"),
    "mobilenetv3-cifar100": Expected(gpu="16.9 h (paper)", accuracy="77.39, 81.07 (paper)"),
    "mobilenetv3-cifar10": Expected(gpu="16.8 h (paper)", accuracy="95.72, 96.88 (paper)"),
    "mobilenetv3-cifar100-32px": Expected("about 33 h"),
    "mobilenetv3-cifar10-32px": Expected("about 30 h"),
    "resnet50-cifar100": Expected(gpu="15.3 h (paper)", accuracy="76.53, 81.06 (paper)"),
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
"""Name -> cost and accuracy. `about`: half of the processor time that the steps need in fp32, from one step on one core."""


def expected(name: str) -> Expected:
    """Return cost and accuracy of a recipe by name."""
    return EXPECTED.get(name, Expected())


def recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        UsageError: There is no recipe of that name.

    Example:
        >>> recipe("resnet20-fashion").epochs
        60
    """
    name = ALIASES.get(name, name)
    if name not in RECIPES:
        raise UsageError(f"there is no recipe '{name}'", allowed=", ".join(RECIPES))
    return RECIPES[name]()
