"""Adapters of torchvision's families."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import StochasticDepth

from stimcore.errors import UsageError
from stimcore.nets.adapters.parts import Parts, closest_names
from stimcore.nets.own import first_line


def create(name: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return a network of torchvision with random weights, which reads images `[C, H, W]`.

    Raises:
        UsageError: torchvision has no such network, or it can't be made for such images.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f"torchvision has no network '{name}'", allowed=closest_names(name, known))
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        if input_shape[1] != input_shape[2]:
            raise UsageError(f"images of {input_shape[1]}x{input_shape[2]} for torchvision:{name}", allowed="square images")
        options["image_size"] = input_shape[1]
    try:
        module = cast(nn.Module, models.get_model(name, weights=None, num_classes=num_classes, **options))
    except (RuntimeError, ValueError, TypeError, AssertionError) as reason:
        size = "x".join(map(str, input_shape))
        raise UsageError(f"torchvision:{name} can't be made for images of {size}: {first_line(reason)}") from reason
    _read_channels(module, input_shape[0])
    for layer in module.modules():
        if isinstance(layer, StochasticDepth):
            layer.p = 0.0
    return module


def _read_channels(module: nn.Module, channels: int) -> None:
    """Replace the first convolution of a network by one that reads images with another number of channels."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                if child.in_channels != channels:
                    bias = child.bias is not None
                    other = nn.Conv2d(
                        channels,
                        child.out_channels,
                        cast(Any, child.kernel_size),
                        cast(Any, child.stride),
                        cast(Any, child.padding),
                        bias=bias,
                    )
                    setattr(parent, name, other)
                return


def _resnet(module: Any) -> Parts:
    return Parts(
        stem=nn.Sequential(module.conv1, module.bn1, module.relu, module.maxpool),
        blocks=[*module.layer1, *module.layer2, *module.layer3, *module.layer4],
        head=nn.Sequential(module.avgpool, nn.Flatten(1), module.fc),
    )


def _regnet(module: Any) -> Parts:
    blocks = [block for stage in module.trunk_output for block in stage]
    return Parts(stem=module.stem, blocks=blocks, head=nn.Sequential(module.avgpool, nn.Flatten(1), module.fc))


def _convnext(module: Any) -> Parts:
    # stem, blocks, downsampling, blocks, downsampling, ...: a downsampling is the first block of its stage
    stem, *others = module.features
    blocks = [block for place, part in enumerate(others) for block in ([part] if place % 2 else part)]
    return Parts(stem=stem, blocks=blocks, head=nn.Sequential(module.avgpool, module.classifier))


def _efficientnet(module: Any) -> Parts:
    stem, *stages, last = module.features
    head = nn.Sequential(last, module.avgpool, nn.Flatten(1), module.classifier)
    return Parts(stem=stem, blocks=[block for stage in stages for block in stage], head=head)


def _mobilenetv2(module: Any) -> Parts:
    stem, *blocks, last = module.features
    return Parts(stem=stem, blocks=blocks, head=nn.Sequential(last, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), module.classifier))


def _mobilenetv3(module: Any) -> Parts:
    stem, *blocks, last = module.features
    return Parts(stem=stem, blocks=blocks, head=nn.Sequential(last, module.avgpool, nn.Flatten(1), module.classifier))


def _mnasnet(module: Any) -> Parts:
    layers = list(module.layers)
    stacks = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Sequential)]
    return Parts(
        stem=nn.Sequential(*layers[: stacks[0]]),
        blocks=[block for place in stacks for block in layers[place]],
        head=nn.Sequential(*layers[stacks[-1] + 1 :], nn.AdaptiveAvgPool2d(1), nn.Flatten(1), module.classifier),
    )


def _swin(module: Any) -> Parts:
    # patches, blocks, merging, blocks, merging, ...: a merging is the first block of its stage
    stem, *others = module.features
    blocks = [block for place, part in enumerate(others) for block in ([part] if place % 2 else part)]
    head = nn.Sequential(module.norm, module.permute, module.avgpool, module.flatten, module.head)
    return Parts(stem=stem, blocks=blocks, head=head, channels_last=True)


def _maxvit(module: Any) -> Parts:
    blocks = [layer for block in module.blocks for layer in block.layers]
    return Parts(stem=module.stem, blocks=blocks, head=module.classifier)


class Tokens(nn.Module):
    """The stem of torchvision's VisionTransformer: patches, class token, positions.

    Args:
        module: The whole network, whose weights these are.
    """

    def __init__(self, module: models.VisionTransformer) -> None:
        super().__init__()
        self.patches, self.dropout = module.conv_proj, module.encoder.dropout
        self.class_token, self.positions = module.class_token, module.encoder.pos_embedding

    def forward(self, images: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, 1 + patches, D]`."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], 1)
        return cast(Tensor, self.dropout(tokens + self.positions))


class FirstToken(nn.Module):
    """The class token of a sequence."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `[B, N, D]` to `[B, D]`."""
        return tokens[:, 0]


def vision_transformer(module: models.VisionTransformer) -> Parts:
    """Return torchvision's VisionTransformer taken apart."""
    head = nn.Sequential(module.encoder.ln, FirstToken(), module.heads)
    return Parts(stem=Tokens(module), blocks=list(module.encoder.layers), head=head)


TORCHVISION: dict[str, Callable[[Any], Parts]] = {
    "ResNet": _resnet,
    "RegNet": _regnet,
    "ConvNeXt": _convnext,
    "EfficientNet": _efficientnet,
    "MobileNetV2": _mobilenetv2,
    "MobileNetV3": _mobilenetv3,
    "MNASNet": _mnasnet,
    "SwinTransformer": _swin,
    "VisionTransformer": vision_transformer,
    "MaxVit": _maxvit,
}
"""Class of torchvision -> its adapter."""
