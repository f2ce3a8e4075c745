"""The catalogue: every network that can be named, in one literal table."""

import importlib
import re
from collections.abc import Callable
from functools import partial

from stimcore.errors import UsageError
from stimcore.nets import cifar_resnet, densenet, resnet
from stimcore.nets.mobilenetv3 import mobilenetv3
from stimcore.nets.staged import StagedNet

Builder = Callable[..., StagedNet]

NETWORKS: dict[str, Builder] = {
    "mobilenetv3": mobilenetv3,
    **{f"resnet{depth}": partial(cifar_resnet.cifar_resnet, depth) for depth in cifar_resnet.DEPTHS},
    **{f"resnet{depth}": partial(resnet.resnet, depth) for depth in resnet.DEPTHS},
    **{f"densenet{depth}": partial(densenet.densenet_of, depth) for depth in densenet.SIZES},
}
"""Name -> function of `input_shape`, `num_classes` that builds it."""

PATTERNS = (
    "resnet14 for any 6n + 2 layers from 8 on, resnet20-w2 or mobilenetv3-w0.5 for a width, "
    "densenet-4-6-8-6-k12 for layers per stage and growth, MODULE:FUNCTION for your own"
)
"""Names besides those of `NETWORKS`, in words."""

_WIDTH = re.compile(r"mobilenetv3-w(?P<width>[0-9]+(\.[0-9]+)?)\Z")
_CIFAR = re.compile(r"resnet(?P<depth>[1-9][0-9]{0,3})(-w(?P<width>[1-9][0-9]?))?\Z")
_OWN = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<function>[A-Za-z_]\w*)\Z")


def native_shape(name: str) -> tuple[tuple[int, int, int], int]:
    """Image shape `[C, H, W]` and number of classes that a network was published for: CIFAR-10's or ImageNet's."""
    return ((3, 32, 32), 10) if _cifar(name) else ((3, 224, 224), 1000)


def _cifar(name: str) -> dict[str, int]:
    """Depth and width of a CIFAR ResNet; empty where the name is none of these, or that of an ImageNet ResNet (50, 152)."""
    match = _CIFAR.match(name)
    depth = 0 if match is None else int(match["depth"])
    if match is None or not cifar_resnet.exists(depth) or depth in resnet.DEPTHS:
        return {}
    return {"depth": depth, "width": int(match["width"] or 1)}


def build(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """A network of the catalogue with fresh weights.

    Args:
        name: A key of `NETWORKS`, or one of `PATTERNS`.
        input_shape: `[C, H, W]` of its images.
        num_classes: Width of the logits.

    Raises:
        UsageError: There is no such network.
    """
    shapes = {"input_shape": input_shape, "num_classes": num_classes}
    if name in NETWORKS:
        return NETWORKS[name](**shapes)
    if cifar := _cifar(name):
        return cifar_resnet.cifar_resnet(**cifar, **shapes)  # type: ignore[arg-type]  # all are of its types
    if match := _WIDTH.match(name):
        return mobilenetv3(width=float(match["width"]), **shapes)  # type: ignore[arg-type]  # both are of its types
    if (member := densenet.family_member(name, input_shape=input_shape, num_classes=num_classes)) is not None:
        return member
    if match := _OWN.match(name):
        return _own(match["module"], match["function"])(**shapes)
    raise UsageError(f"there is no network '{name}'", allowed=", ".join(NETWORKS) + "; " + PATTERNS)


def _own(module: str, function: str) -> Builder:
    """A user's function of `input_shape` and `num_classes`, found by its name on the import path."""
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as reason:
        raise UsageError(
            f"there is no network '{module}:{function}': {reason}", todo="Is the module on the import path (PYTHONPATH)?"
        ) from reason

    def checked(**shapes: object) -> StagedNet:
        net = found(**shapes)
        if not isinstance(net, StagedNet):
            raise UsageError(
                f"{module}:{function} returned a {type(net).__name__}", allowed="what stimcore.nets.own.staged makes"
            )
        return net

    return checked
