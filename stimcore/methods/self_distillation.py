"""Self distillation: heads behind the shallower stages learn from the labels, the main logits and the deepest features.

Source: Zhang et al. 2019, "Be your own teacher"; coefficients from the paper, Appendix F.1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from stimcore.errors import UsageError
from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.exits import ExitHead, Shape, block_shapes, forward_with_features, pool, supervised_stages
from stimcore.methods.losses import batch_feature_distance, cross_entropy, feature_distance, soft_cross_entropy
from stimcore.nets.staged import StagedNet

FEATURES = {"batch": batch_feature_distance, "image": feature_distance}
"""Value of the option `feature` -> distance of adapted and deepest features `[B, C]`."""


class Adapter(nn.Sequential):
    """Map a stage's output to features of the deepest size: a depthwise separable convolution per halving, then the mean.

    Args:
        source: `[C, H, W]` of the stage's output.
        target: `[C, H, W]` of the deepest stage's output.
    """

    def __init__(self, source: Shape, target: Shape) -> None:
        channels, height, width = source
        layers: list[nn.Module] = []
        while not layers or height > target[1] or width > target[2]:
            stride = 2 if height > target[1] or width > target[2] else 1
            height, width = -(-height // stride), -(-width // stride)
            last = height <= target[1] and width <= target[2]
            layers += [
                nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
                nn.Conv2d(channels, target[0] if last else channels, 1, bias=False),
                nn.BatchNorm2d(target[0] if last else channels),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(1))


class Students(nn.Module):
    """For every shallower stage an adapter to the deepest features and a linear layer from there to the classes."""

    def __init__(self, stages: list[tuple[int, ...]], shapes: dict[int, Shape], num_classes: int) -> None:
        super().__init__()
        self.deepest = stages[-1][-1]
        ends = [stage[-1] for stage in stages[:-1]]
        self.adapters = nn.ModuleDict({str(end): Adapter(shapes[end], shapes[self.deepest]) for end in ends})
        self.heads = nn.ModuleDict({str(end): nn.Linear(shapes[self.deepest][0], num_classes) for end in ends})

    @property
    def ends(self) -> list[int]:
        """The last blocks of the shallower stages."""
        return [int(end) for end in self.adapters]

    def forward(self, features: dict[int, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return the adapted features `[B, C]` and the logits `[B, num_classes]` of every shallower stage.

        Args:
            features: Block -> its output `[B, C, H, W]`, for the blocks in `ends`.
        """
        adapted = [self.adapters[str(end)](features[end]) for end in self.ends]
        return [(vector, self.heads[str(end)](vector)) for end, vector in zip(self.ends, adapted, strict=True)]


@dataclass(frozen=True, kw_only=True)
class SelfDistillation(Method):
    """Loss = CE(main, y) + sum over shallower stages of (1-a) CE + a * soft CE to the main logits + b * feature distance.

    Attributes:
        alpha: Weight of the main logits as the target of a shallower head, in [0, 1]; the labels have the rest. Source: paper,
            Appendix F.1.
        beta: Weight of the feature distance, from 0. Source: paper, Appendix F.1.
        temperature: Temperature of the soft cross entropy, more than 0; a choice (docs/semantics.md, "Other training methods").
        feature: `batch` is one distance over all images and features of a batch, as in the authors' code; `image` is the
            mean over the batch of each image's distance. The gradient of `image` is smaller by about the square root of the
            batch size. Where a batch is computed in parts (`accumulate`, several processes), `batch` means a part.
    """

    alpha: float = 0.2
    beta: float = 0.02
    temperature: float = 3.0
    feature: str = "batch"

    old_defaults: ClassVar[Mapping[str, Any]] = {"feature": "image"}  # the only distance before the option existed

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"an alpha of {self.alpha}", allowed="0 to 1")
        if not 0 <= self.beta < math.inf:
            raise UsageError(f"a beta of {self.beta}", allowed="0 and more")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"a temperature of {self.temperature}", allowed="more than 0")
        if self.feature not in FEATURES:
            raise UsageError(f"feature={self.feature}", allowed=", ".join(FEATURES))

    def make_auxiliary(self, net: StagedNet) -> Students:
        """Return an adapter and a head for every stage but the last."""
        shapes = block_shapes(net)
        stages = supervised_stages(net, shapes)
        if len(stages) < 2:
            raise UsageError(f"self distillation of {net.topology.network}, which has one stage", allowed="two stages and more")
        return Students(stages, shapes, net.num_classes)

    def exits(self, net: StagedNet, auxiliary: nn.Module | None) -> Mapping[int, nn.Module]:
        """Return adapter and head of every shallower stage as an exit, by the number of the stage's last block."""
        students = cast(Students, auxiliary)
        return {
            end: ExitHead(nn.Sequential(students.adapters[str(end)], students.heads[str(end)]), channels_last=net.channels_last)
            for end in students.ends
        }

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Add the gradients of the whole loss, in one forward and one backward.

        The main logits and the deepest features are constants in the terms of the shallower stages.
        """
        students = cast(Students, auxiliary)
        with batch.autocast():
            features, logits = forward_with_features(net, batch.images, [*students.ends, students.deepest])
            main = cross_entropy(logits, batch.labels, batch.label_smoothing)
            exits = students(features)  # (adapted features, logits) of every shallower stage
            stage = torch.stack([cross_entropy(out, batch.labels, batch.label_smoothing) for _, out in exits]).sum()
            distil = torch.stack([soft_cross_entropy(logits, out, self.temperature) for _, out in exits]).sum()
            deepest = pool(features[students.deepest])
            distance = torch.stack([FEATURES[self.feature](vector, deepest) for vector, _ in exits]).sum()
        loss = main + (1 - self.alpha) * stage + self.alpha * distil + self.beta * distance
        batch.backward(loss)
        return {
            "loss": loss.detach(),
            "main_ce": main.detach(),
            "stage_ce": stage.detach(),
            "distil_ce": distil.detach(),
            "feature_distance": distance.detach(),
        }
