"""Every number that the paper's appendix prints, in literal tables, each with its place in the paper.

Source: Ye et al., Stimulative Training of Residual Networks: A Social Psychology Perspective of Loafing (NeurIPS 2022),
appendix. Figures r1 and r3 to r8 are pictures without printed numbers: nothing is read off them. `FIGURES` describes what they
show and the numbers that the text quotes from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LABEL = "paper"
"""Label of the paper's numbers in tables that also hold numbers measured here."""


@dataclass(frozen=True)
class MethodRow:
    """A row of Table r3: MobileNetV3 on CIFAR-100.

    Attributes:
        method: Name as in `stimcore.methods`.
        printed: Name as printed in the paper.
        hours: Training time.
        memory_mib: Memory of the training in MiB.
        main_pct: Accuracy of the main network.
        all_mean_pct: Mean accuracy over all 144 ordered sub-networks.
        all_std_pct: Their standard deviation, in points.
    """

    method: str
    printed: str
    hours: float
    memory_mib: int
    main_pct: float
    all_mean_pct: float
    all_std_pct: float


TABLE_R3 = (
    MethodRow("common", "CT", 16.91, 3291, 77.39, 55.26, 13.37),
    MethodRow("layer_supervision", "CT+layer supervision", 23.3, 7193, 78.77, 59.18, 11.12),
    MethodRow("stage_supervision", "CT+stage supervision", 19.3, 5197, 78.59, 54.82, 13.31),
    MethodRow("self_distillation", "Self distillation", 26.8, 3887, 79.59, 50.39, 14.22),
    MethodRow("stochastic_depth", "Stochastic depth", 16.9, 3291, 78.43, 70.72, 3.76),
    MethodRow("stimulative", "ST", 24.08, 3291, 81.07, 80.01, 0.59),
)
"""Table r3, in its order."""


@dataclass(frozen=True)
class CostColumn:
    """A column of Table r4: time in hours and memory in MiB of common (CT) and stimulative training (ST).

    Attributes:
        printed: Name as printed in the paper.
        network: Network.
        dataset: Data set.
        common_hours: Time of common training.
        stimulative_hours: Time of stimulative training.
        common_mib: Memory of common training.
        stimulative_mib: Memory of stimulative training.
    """

    printed: str
    network: str
    dataset: str
    common_hours: float
    stimulative_hours: float
    common_mib: int
    stimulative_mib: int


TABLE_R4 = (
    CostColumn("MBV3_C10", "MobileNetV3", "CIFAR-10", 16.77, 23.64, 3361, 3361),
    CostColumn("MBV3_C100", "MobileNetV3", "CIFAR-100", 16.91, 24.08, 3291, 3291),
    CostColumn("Res50_C100", "ResNet-50", "CIFAR-100", 15.28, 21.52, 4647, 4647),
)
"""Table r4, in its order."""

TIME_RATIO, TIME_RATIO_BELOW = 1.4, 2.0
"""Appendix F.3: stimulative training takes about 1.4 times, and less than 2 times, as long as common training."""


@dataclass(frozen=True)
class Matrix:
    r"""Table r5 or r6: accuracies of sub-networks inside main networks.

    The printed corner reads "Main-net \ Sub-net"; only the reverse fits an upper triangle whose row is the smaller network.
    The diagonal is each network trained alone.

    Attributes:
        dataset: Data set.
        networks: Names, from the smallest network to the largest.
        cells: (sub-network, main network) -> accuracy in percent.
    """

    dataset: str
    networks: tuple[str, ...]
    cells: Mapping[tuple[str, str], float]


TABLE_R5 = Matrix(
    "ImageNet",
    ("DenseNet121", "DenseNet169", "DenseNet201"),
    {
        ("DenseNet121", "DenseNet121"): 74.86,
        ("DenseNet121", "DenseNet169"): 20.91,
        ("DenseNet121", "DenseNet201"): 11.57,
        ("DenseNet169", "DenseNet169"): 76.46,
        ("DenseNet169", "DenseNet201"): 51.18,
        ("DenseNet201", "DenseNet201"): 77.44,
    },
)
TABLE_R6 = Matrix(
    "CIFAR-100",
    ("DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264"),
    {
        ("DenseNet121", "DenseNet121"): 78.84,
        ("DenseNet121", "DenseNet169"): 43.64,
        ("DenseNet121", "DenseNet201"): 31.51,
        ("DenseNet121", "DenseNet264"): 10.01,
        ("DenseNet169", "DenseNet169"): 79.64,
        ("DenseNet169", "DenseNet201"): 70.78,
        ("DenseNet169", "DenseNet264"): 48.41,
        ("DenseNet201", "DenseNet201"): 79.77,
        ("DenseNet201", "DenseNet264"): 62.29,
        ("DenseNet264", "DenseNet264"): 79.81,
    },
)


@dataclass(frozen=True)
class MainBlock:
    """A column of Table r1: a block of MobileNetV3's main body at 224 pixels.

    Attributes:
        index: Number of the block, from 1.
        side: Height and width of its input.
        channels_in: Channels of its input.
        channels_out: Channels of its output.
        stride: Stride.
    """

    index: int
    side: int
    channels_in: int
    channels_out: int
    stride: int


TABLE_R1 = tuple(
    MainBlock(*row)
    for row in (
        (1, 112, 16, 24, 2),
        (2, 56, 24, 24, 1),
        (3, 56, 24, 40, 2),
        (4, 28, 40, 40, 1),
        (5, 28, 40, 40, 1),
        (6, 28, 40, 80, 2),
        (7, 14, 80, 80, 1),
        (8, 14, 80, 80, 1),
        (9, 14, 80, 80, 1),
        (10, 14, 80, 112, 1),
        (11, 14, 112, 112, 1),
        (12, 14, 112, 160, 2),
        (13, 7, 160, 160, 1),
        (14, 7, 160, 160, 1),
    )
)
"""Table r1, column by column."""

TABLE_R2: Mapping[int, tuple[str, ...]] = {
    1: (
        "1-2.3-5-4.6-7-8-9.10-11.12-13-14",
        "1-2.3-4-5.6-8-7-9.10-11.12-13-14",
        "1-2.3-4-5.6-7-9-8.10-11.12-13-14",
        "1-2.3-4-5.6-9-8-7.10-11.12-13-14",
        "1-2.3-4-5.6-7-8-9.10-11.12-14-13",
    ),
    2: (
        "1-2.3-5-4.6-8-7-9.10-11.12-13-14",
        "1-2.3-5-4.6-7-9-8.10-11.12-13-14",
        "1-2.3-5-4.6-9-8-7.10-11.12-13-14",
        "1-2.3-4-5.6-8-7-9.10-11.12-14-13",
        "1-2.3-4-5.6-7-9-8.10-11.12-14-13",
        "1-2.3-4-5.6-9-8-7.10-11.12-14-13",
        "1-2.3-4-5.6-8-9-7.10-11.12-13-14",
        "1-2.3-4-5.6-9-7-8.10-11.12-13-14",
        "1-2.3-5-4.6-7-8-9.10-11.12-14-13",
    ),
    3: (
        "1-2.3-5-4.6-8-7-9.10-11.12-14-13",
        "1-2.3-5-4.6-7-9-8.10-11.12-14-13",
        "1-2.3-5-4.6-9-8-7.10-11.12-14-13",
        "1-2.3-5-4.6-8-9-7.10-11.12-13-14",
        "1-2.3-5-4.6-9-7-8.10-11.12-13-14",
        "1-2.3-4-5.6-8-9-7.10-11.12-14-13",
        "1-2.3-4-5.6-9-7-8.10-11.12-14-13",
    ),
    4: (
        "1-2.3-5-4.6-8-9-7.10-11.12-14-13",
        "1-2.3-5-4.6-9-7-8.10-11.12-14-13",
    ),
}
"""Table r2: number of permuting operations -> arrangements, as specs."""


@dataclass(frozen=True)
class Figure:
    """A figure of the paper.

    Attributes:
        shows: What is drawn.
        quoted: Every number that the text quotes from it; empty where it quotes none.
    """

    shows: str
    quoted: str = ""


FIGURES: Mapping[str, Figure] = {
    "r1": Figure("accuracy of residual networks and of all their sub-networks, common and stimulative training"),
    "r2": Figure(
        "training loss and test accuracy over the epochs, common and stimulative training",
        "highest accuracies, stimulative vs common: 96.88% vs 95.72%, 81.07% vs 77.39%, 81.06% vs 76.53%",
    ),
    "r3": Figure(
        "accuracy of stimulative training over lambda, next to common training",
        "best lambda: 5 (MobileNetV3, CIFAR-10), 10 (MobileNetV3 and ResNet-50, CIFAR-100), 1 (ResNets, ImageNet)",
    ),
    "r4": Figure("accuracy drop when blocks are deleted or permuted: stimulative, common, self distillation"),
    "r5": Figure("accuracy drop when blocks are deleted or permuted: stimulative, common, stochastic depth"),
    "r6": Figure("accuracy drop when blocks are deleted or permuted: stimulative, common, layer supervision"),
    "r7": Figure("accuracy drop when blocks are deleted or permuted: stimulative, common, stage supervision"),
    "r8": Figure("accuracy of MobileNetV3's sub-networks, all six methods"),
}
"""Figure -> what it shows. No figure prints numbers, and the text quotes numbers of r2 and r3 only."""

DAMAGE_FIGURES: Mapping[str, str] = {
    "r4": "self_distillation",
    "r5": "stochastic_depth",
    "r6": "layer_supervision",
    "r7": "stage_supervision",
}
"""Figure -> the method that it compares with common and stimulative training."""

QUOTED_R2 = ((96.88, 95.72), (81.07, 77.39), (81.06, 76.53))
"""Appendix D: highest accuracy of stimulative and of common training in percent, for three settings.

The text does not name the settings. The second pair is that of Table r3 (MobileNetV3 on CIFAR-100); Table r4 lists its settings
in the order MobileNetV3 on CIFAR-10, MobileNetV3 on CIFAR-100, ResNet-50 on CIFAR-100.
"""

BEST_LAMBDA = {
    ("MobileNetV3", "CIFAR-10"): 5.0,
    ("MobileNetV3", "CIFAR-100"): 10.0,
    ("ResNet-50", "CIFAR-100"): 10.0,
    ("ResNets", "ImageNet"): 1.0,
}
"""Appendix E: the best lambda of Fig. r3 per network and data set."""

SETTING_C2: Mapping[str, str] = {
    "network": "MobileNetV3",
    "data": "CIFAR-100",
    "epochs": "500",
    "batch": "64",
    "learning rate": "0.05, cosine",
    "weight decay": "3e-05",
    "momentum": "0.9",
    "lambda": "10",
    "seeds": "not stated",
}
"""Appendix C.2 (with lambda from E): the settings behind Table r3 and Figs r4 to r8."""

SETTING_F2: Mapping[str, str] = {
    "network": "DenseNet121, 169, 201, 264",
    "data": "CIFAR-100",
    "epochs": "200",
    "batch": "128",
    "learning rate": "0.1, divided by 5 at epochs 60, 120, 160",
    "weight decay": "0.0005",
    "momentum": "0.9, Nesterov",
    "lambda": "none: common training only",
    "seeds": "not stated",
}
"""Appendix F.2: the settings behind Table r6."""
