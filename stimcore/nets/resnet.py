"""torchvision's ResNet-18, -34, -50, -101 and -152: four stages, `layer1` to `layer4`.

Source: He et al. 2016, Table 1; modules, names and pretrained weights are torchvision's.
"""

from collections import OrderedDict
from typing import cast

from torch import nn
from torchvision import models

from stimcore.errors import UsageError
from stimcore.nets.probe import fixed_blocks
from stimcore.nets.staged import StagedNet
from stimcore.nets.stem import first_convolution, small_images
from stimcore.subnets.topology import Topology

DEPTHS = (18, 34, 50, 101, 152)


def resnet(
    depth: int, *, input_shape: tuple[int, int, int] = (3, 224, 224), num_classes: int = 1000, small: bool | None = None
) -> StagedNet:
    """Build ResNet-`depth` as stages of blocks, with random weights.

    Args:
        depth: One of `DEPTHS`.
        input_shape: `[C, H, W]` of the images.
        num_classes: Width of the logits.
        small: Whether the stem is a 3x3 convolution with stride 1 and no pooling, which keeps the resolution of small images;
            decided by `input_shape` when None.

    Raises:
        UsageError: There is no such depth.
    """
    if depth not in DEPTHS:
        raise UsageError(f"there is no ResNet-{depth}", allowed=", ".join(map(str, DEPTHS)))
    module = cast(models.ResNet, getattr(models, f"resnet{depth}")(weights=None, num_classes=num_classes))
    small = small_images(input_shape, small)
    module.conv1 = first_convolution(module.conv1, input_shape[0], small)
    if small:
        module.maxpool = nn.Identity()  # type: ignore[assignment]  # annotated as MaxPool2d; any module works
    stem = nn.Sequential(OrderedDict((name, getattr(module, name)) for name in ("conv1", "bn1", "relu", "maxpool")))
    layers = [cast(nn.Sequential, getattr(module, f"layer{number}")) for number in (1, 2, 3, 4)]
    blocks = [block for layer in layers for block in layer]
    fixed = fixed_blocks(stem, blocks, input_shape)
    last = "bn2" if depth < 50 else "bn3"
    return StagedNet(
        module,
        Topology.of(f"resnet{depth}", [len(layer) for layer in layers], fixed),
        stem=stem,
        blocks=blocks,
        head=nn.Sequential(OrderedDict(avgpool=module.avgpool, flatten=nn.Flatten(1), fc=module.fc)),
        input_shape=input_shape,
        num_classes=num_classes,
        branch_ends={number: getattr(block, last) for number, block in enumerate(blocks, 1) if number not in fixed},
    )
