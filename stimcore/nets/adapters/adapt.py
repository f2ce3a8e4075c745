"""Networks of torchvision and timm, by their names or as modules, as stages of blocks."""

import re

import torch
from torch import nn

from stimcore.errors import UsageError
from stimcore.nets.adapters import timm, torchvision
from stimcore.nets.adapters.parts import stages_by_shape
from stimcore.nets.densenet import of_module as densenet_of_module
from stimcore.nets.own import FAILURES, first_line, staged
from stimcore.nets.staged import StagedNet

NAME = re.compile(r"(?P<library>torchvision|timm):(?P<name>[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?)\Z")
"""Names of networks of the two libraries; a name of timm may end with that of its weights, `resnet50.a1_in1k`."""


def build_named(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Build a network of torchvision or timm as stages of blocks, with random weights.

    The network is the library's, unchanged but for the number of classes, the number of channels that its first convolution
    reads, and its own stochastic depth, which is off: it is a training method here.

    Args:
        name: `torchvision:NAME` or `timm:NAME`.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.

    Raises:
        UsageError: There is no such network, no adapter for its family, or it does not accept such images.
        Unavailable: timm is not installed.

    Example:
        >>> net = build_named("torchvision:resnext50_32x4d", input_shape=(3, 64, 64), num_classes=10)
        >>> net.topology.sizes, net.topology.fixed[1]
        ((3, 4, 6, 3), 'it changes the number of channels, so there is no skip path around it')
    """
    match = NAME.match(name)
    assert match is not None
    create = {"torchvision": torchvision.create, "timm": timm.create}[match["library"]]
    return adapt(create(match["name"], input_shape, num_classes), name=name, input_shape=input_shape, num_classes=num_classes)


def adapt(module: nn.Module, *, name: str, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Return a network of torchvision or timm, of any size, as stages of blocks.

    Args:
        module: The network.
        name: Name of the network in reports.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.

    Raises:
        UsageError: There is no adapter for its family, or it does not accept such images.

    Example:
        >>> from torchvision import models
        >>> widths = [models.convnext.CNBlockConfig(8, 16, 2), models.convnext.CNBlockConfig(16, None, 2)]
        >>> net = adapt(models.ConvNeXt(widths, num_classes=3), name="small", input_shape=(3, 16, 16), num_classes=3)
        >>> net.topology.sizes, net.topology.removable
        ((2, 3), (1, 2, 4, 5))
    """
    families = timm.TIMM if type(module).__module__.startswith("timm.") else torchvision.TORCHVISION
    kinds = [kind.__name__ for kind in type(module).__mro__]
    if "DenseNet" in kinds:
        return densenet_of_module(module, name=name, input_shape=input_shape, num_classes=num_classes)
    family = next((kind for kind in kinds if kind in families), None)
    if family is None and families is timm.TIMM and timm.is_usual(module):
        adapter = timm.USUAL
    elif family is not None:
        adapter = families[family]
    else:
        raise UsageError(
            f"{name} is a {type(module).__name__}, a family without an adapter",
            allowed=", ".join(sorted({*families, "DenseNet"}))
            + (", others with stem, stages and head" if families is timm.TIMM else ""),
            todo="Wrap it with stimcore.nets.own.staged: docs/networks.md, 'Your own network'.",
        )
    try:
        parts = adapter(module)
    except (
        FAILURES
    ) as reason:  # another version of the library, or a class derived from the family's, may name its children anew
        raise UsageError(
            f"{name} is a {type(module).__name__}, which lacks what its family has: {first_line(reason)}",
            todo="Wrap it with stimcore.nets.own.staged: docs/networks.md, 'Your own network'.",
        ) from reason
    try:
        stages = stages_by_shape(parts, input_shape)
        return staged(
            module,
            stem=parts.stem,
            stages=stages,
            head=parts.head,
            input_shape=input_shape,
            name=name,
            channels_last=parts.channels_last,
        )
    except UsageError as reason:
        raise UsageError(f"{name}: {_why_not(module, input_shape) or reason.what}", allowed=reason.allowed) from reason


@torch.no_grad()
def _why_not(module: nn.Module, input_shape: tuple[int, int, int]) -> str:
    """Return in words why a network, put into evaluation mode here, does not accept images; nothing if it does."""
    try:
        module.eval()(torch.zeros(2, *input_shape))
    except FAILURES as reason:
        return f"the network does not accept images of {'x'.join(map(str, input_shape))}: {first_line(reason)}"
    return ""
