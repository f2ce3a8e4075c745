"""The catalogue: every network that can be named, in one literal table."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from stimcore.errors import UsageError
from stimcore.nets.cifar_resnet import DEPTHS, cifar_resnet
from stimcore.nets.mobilenetv3 import mobilenetv3
from stimcore.nets.staged import StagedNet

Builder = Callable[..., StagedNet]

NETWORKS: dict[str, Builder] = {
    "mobilenetv3": mobilenetv3,
    **{f"resnet{depth}": partial(cifar_resnet, depth) for depth in DEPTHS},
}
"""Name -> function of `input_shape`, `num_classes` that builds it; `mobilenetv3-w0.5` names a width."""

_WIDTH = re.compile(r"(?P<base>[a-z0-9]+)-w(?P<width>[0-9]+(\.[0-9]+)?)\Z")


def build(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """A network of the catalogue with fresh weights.

    Args:
        name: A key of `NETWORKS`, for MobileNetV3 with a width behind `-w`.
        input_shape: `[C, H, W]` of its images.
        num_classes: Width of the logits.

    Raises:
        UsageError: There is no such network.
    """
    options: dict[str, Any] = {}
    base = name
    if (match := _WIDTH.match(name)) and match["base"] == "mobilenetv3":
        base, options = match["base"], {"width": float(match["width"])}
    if base not in NETWORKS:
        raise UsageError(f"there is no network '{name}'", allowed=", ".join(NETWORKS) + "; mobilenetv3-w0.5 for a width")
    return NETWORKS[base](input_shape=input_shape, num_classes=num_classes, **options)
