"""torchvision's and timm's networks as stages of blocks, by their names: `torchvision:NAME`, `timm:NAME`.

An adapter per family names what runs before the blocks, the blocks, and what runs after them. Everything else is found by
running: `stimcore.nets.own.staged` checks that the parts compute what the network computes, a stage begins wherever a block
changes the shape, and a block is removable if its shortcut is the identity.
"""

import difflib
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import StochasticDepth

from stimcore.errors import Unavailable, UsageError
from stimcore.nets.densenet import of_module as densenet_of_module
from stimcore.nets.own import FAILURES, first_line, staged
from stimcore.nets.piece import Piece
from stimcore.nets.staged import StagedNet

NAME = re.compile(r"(?P<library>torchvision|timm):(?P<name>[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?)\Z")
"""Names of networks of the two libraries; a name of timm may end with that of its weights, `resnet50.a1_in1k`."""
MOST_STAGES = 4
"""Stages that a network without changes of shape is divided into, as many as ResNets, ConvNeXts and Swin Transformers have."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A network taken apart.

    Attributes:
        stem: Runs before the first block.
        blocks: The blocks in order.
        head: Runs after the last block.
        channels_last: Whether blocks exchange maps `[B, H, W, C]`.
    """

    stem: nn.Module
    blocks: Sequence[nn.Module]
    head: nn.Module
    channels_last: bool = False


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
    create = {"torchvision": _from_torchvision, "timm": _from_timm}[match["library"]]
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
        >>> widths = [models.convnext.CNBlockConfig(8, 16, 2), models.convnext.CNBlockConfig(16, None, 2)]
        >>> net = adapt(models.ConvNeXt(widths, num_classes=3), name="small", input_shape=(3, 16, 16), num_classes=3)
        >>> net.topology.sizes, net.topology.removable
        ((2, 3), (1, 2, 4, 5))
    """
    families = TIMM if type(module).__module__.startswith("timm.") else TORCHVISION
    kinds = [kind.__name__ for kind in type(module).__mro__]
    if "DenseNet" in kinds:
        return densenet_of_module(module, name=name, input_shape=input_shape, num_classes=num_classes)
    family = next((kind for kind in kinds if kind in families), None)
    if family is None and families is TIMM and _is_usual(module):
        adapter = _TIMM_USUAL
    elif family is not None:
        adapter = families[family]
    else:
        raise UsageError(
            f"{name} is a {type(module).__name__}, a family without an adapter",
            allowed=", ".join(sorted({*families, "DenseNet"}))
            + (", others with stem, stages and head" if families is TIMM else ""),
            todo="Wrap it with stimcore.nets.own.staged: docs/networks.md, 'Your own network'.",
        )
    parts = adapter(module)
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


@torch.no_grad()
def stages_by_shape(parts: Parts, input_shape: tuple[int, int, int]) -> list[list[nn.Module]]:
    """Return the blocks as stages: one begins wherever a block changes the shape.

    Blocks that all keep the shape, as in a vision transformer, are divided into up to `MOST_STAGES` stages of at least two
    blocks, as equal as can be, the later ones larger.

    Args:
        parts: The network.
        input_shape: `[C, H, W]` of the images.

    Raises:
        UsageError: They don't run one after the other.
    """
    everything = nn.ModuleList([parts.stem, *parts.blocks])
    modes = {module: module.training for module in everything.modules()}
    everything.eval()
    try:
        x = parts.stem(torch.zeros(1, *input_shape))
        stages: list[list[nn.Module]] = []
        for block in parts.blocks:
            out = block(x)
            if not stages or out.shape != x.shape:
                stages.append([])
            stages[-1].append(block)
            x = out
    except FAILURES as reason:
        raise UsageError(f"its stem and blocks don't run one after the other: {first_line(reason)}") from reason
    finally:
        for module, mode in modes.items():
            module.training = mode
    if len(stages) > 1:
        return stages
    blocks = stages[0]
    count = max(1, min(MOST_STAGES, len(blocks) // 2))
    ends = [len(blocks) * number // count for number in range(count + 1)]
    return [blocks[start:end] for start, end in pairwise(ends)]


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


def _closest(name: str, known: Sequence[str]) -> str:
    """Return in words which names there are: those that are most like a wrong one, and how many there are."""
    close = difflib.get_close_matches(name, known, n=6, cutoff=0.4)
    return f"{', '.join(close or known[:6])} and others, {len(known)} in all"


# torchvision


def _from_torchvision(name: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f"torchvision has no network '{name}'", allowed=_closest(name, known))
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


def _tv_resnet(module: Any) -> Parts:
    return Parts(
        stem=nn.Sequential(module.conv1, module.bn1, module.relu, module.maxpool),
        blocks=[*module.layer1, *module.layer2, *module.layer3, *module.layer4],
        head=nn.Sequential(module.avgpool, nn.Flatten(1), module.fc),
    )


def _tv_regnet(module: Any) -> Parts:
    blocks = [block for stage in module.trunk_output for block in stage]
    return Parts(stem=module.stem, blocks=blocks, head=nn.Sequential(module.avgpool, nn.Flatten(1), module.fc))


def _tv_convnext(module: Any) -> Parts:
    # stem, blocks, downsampling, blocks, downsampling, ...: a downsampling is the first block of its stage
    stem, *others = module.features
    blocks = [block for place, part in enumerate(others) for block in ([part] if place % 2 else part)]
    return Parts(stem=stem, blocks=blocks, head=nn.Sequential(module.avgpool, module.classifier))


def _tv_efficientnet(module: Any) -> Parts:
    stem, *stages, last = module.features
    head = nn.Sequential(last, module.avgpool, nn.Flatten(1), module.classifier)
    return Parts(stem=stem, blocks=[block for stage in stages for block in stage], head=head)


def _tv_mobilenetv2(module: Any) -> Parts:
    stem, *blocks, last = module.features
    return Parts(stem=stem, blocks=blocks, head=nn.Sequential(last, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), module.classifier))


def _tv_mobilenetv3(module: Any) -> Parts:
    stem, *blocks, last = module.features
    return Parts(stem=stem, blocks=blocks, head=nn.Sequential(last, module.avgpool, nn.Flatten(1), module.classifier))


def _tv_mnasnet(module: Any) -> Parts:
    layers = list(module.layers)
    stacks = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Sequential)]
    return Parts(
        stem=nn.Sequential(*layers[: stacks[0]]),
        blocks=[block for place in stacks for block in layers[place]],
        head=nn.Sequential(*layers[stacks[-1] + 1 :], nn.AdaptiveAvgPool2d(1), nn.Flatten(1), module.classifier),
    )


def _tv_swin(module: Any) -> Parts:
    # patches, blocks, merging, blocks, merging, ...: a merging is the first block of its stage
    stem, *others = module.features
    blocks = [block for place, part in enumerate(others) for block in ([part] if place % 2 else part)]
    head = nn.Sequential(module.norm, module.permute, module.avgpool, module.flatten, module.head)
    return Parts(stem=stem, blocks=blocks, head=head, channels_last=True)


def _tv_maxvit(module: Any) -> Parts:
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
    "ResNet": _tv_resnet,
    "RegNet": _tv_regnet,
    "ConvNeXt": _tv_convnext,
    "EfficientNet": _tv_efficientnet,
    "MobileNetV2": _tv_mobilenetv2,
    "MobileNetV3": _tv_mobilenetv3,
    "MNASNet": _tv_mnasnet,
    "SwinTransformer": _tv_swin,
    "VisionTransformer": vision_transformer,
    "MaxVit": _tv_maxvit,
}
"""Class of torchvision -> its adapter."""


# timm


def _from_timm(name: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    try:
        timm = importlib.import_module("timm")  # optional: nothing else needs it
    except ImportError as reason:
        raise Unavailable(f"timm:{name} needs timm, which is not installed", todo="Run: python -m pip install timm") from reason
    if not timm.is_model(name.partition(".")[0]):
        raise UsageError(f"timm has no network '{name}'", allowed=_closest(name, timm.list_models()))
    options: dict[str, Any] = {"in_chans": input_shape[0], "num_classes": num_classes, "pretrained": False}
    sized = {"img_size": input_shape[1:]}
    problem: Exception | None = None
    for more in (sized, {}):  # only networks whose weights depend on the size of the images accept it
        try:
            return cast(nn.Module, timm.create_model(name, **options, **more))
        except TypeError as reason:
            problem = problem or reason
        except (RuntimeError, ValueError, AssertionError, NotImplementedError, OSError) as reason:
            problem = reason
            break
    assert problem is not None
    size = "x".join(map(str, input_shape))
    raise UsageError(f"timm:{name} can't be made for images of {size}: {first_line(problem)}") from problem


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks inside a stage, or inside a sequence of stages; a downsampling counts as a block."""
    if not (isinstance(module, nn.Sequential | nn.ModuleList) or type(module).__name__.endswith("Stage")):
        yield module
        return
    for name, child in module.named_children():
        if name == "downsample" and not isinstance(child, nn.Identity):
            yield child
        elif not isinstance(child, nn.Identity):
            yield from _flat(child)


Step = Callable[[Any, Tensor], Tensor]


def _timm_family(body: Sequence[str], stem: Step, head: Step, *, channels_last: bool = False) -> Callable[[Any], Parts]:
    """Return the adapter of a family.

    Args:
        body: Names of the children that hold the blocks, in order; small networks may lack the last ones.
        stem: What the network's forward does before them.
        head: What it does after them.
        channels_last: Whether blocks exchange maps `[B, H, W, C]`.
    """

    def adapter(module: Any) -> Parts:
        present = [name for name in body if hasattr(module, name)]
        return Parts(
            stem=Piece.before(module, present, stem),
            blocks=[block for name in present for block in _flat(getattr(module, name))],
            head=Piece.after(module, present, head),
            channels_last=channels_last,
        )

    return adapter


def _beit_tokens(module: Any, images: Tensor) -> Tensor:
    """Return the tokens that enter the first block of a BEiT, the class token first."""
    patches = module.patch_embed(images)
    tokens = torch.cat([module.cls_token.expand(patches.shape[0], -1, -1), patches], 1)
    return cast(Tensor, module.pos_drop(tokens if module.pos_embed is None else tokens + module.pos_embed))


_TIMM_VIT = _timm_family(
    ["blocks"],
    lambda m, x: cast(Tensor, m.norm_pre(m.patch_drop(m._pos_embed(m.patch_embed(x))))),
    lambda m, x: cast(Tensor, m.forward_head(m.norm(x))),
)
_TIMM_SWIN = _timm_family(
    ["layers"],
    lambda m, x: cast(Tensor, m.patch_embed(x)),
    lambda m, x: cast(Tensor, m.forward_head(m.norm(x))),
    channels_last=True,
)
_USUAL = ("stem", "stages", "head")
"""Children that most networks of timm have; those that follow the stages are normalised or widened before the head."""
_TIMM_USUAL = _timm_family(
    ["stages"],
    lambda m, x: cast(Tensor, m.stem(x)),
    lambda m, x: cast(Tensor, m.forward_head(reduce(lambda out, name: getattr(m, name)(out), _tails(m), x))),
)


def _is_usual(module: nn.Module) -> bool:
    """Return whether a network of timm has the usual children; whether it also runs them in this order is found by running."""
    return all(name in module._modules for name in _USUAL) and hasattr(module, "forward_head")


def _tails(piece: nn.Module) -> list[str]:
    """Return the children of a network's end that run before its head, in the order in which they are registered."""
    return [name for name in piece._modules if name in ("norm", "norm_pre", "final_conv")]


_LAYERS = ["layer1", "layer2", "layer3", "layer4"]
_REGNET = ["s1", "s2", "s3", "s4"]

TIMM: dict[str, Callable[[Any], Parts]] = {
    "ResNet": _timm_family(
        _LAYERS,
        lambda m, x: cast(Tensor, m.maxpool(m.act1(m.bn1(m.conv1(x))))),
        lambda m, x: cast(Tensor, m.forward_head(x)),
    ),
    "ResNetV2": _timm_family(
        ["stages"], lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(m.norm(x)))
    ),
    "RegNet": _timm_family(
        _REGNET, lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(m.final_conv(x)))
    ),
    "ConvNeXt": _timm_family(
        ["stages"], lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(m.norm_pre(x)))
    ),
    "EfficientNet": _timm_family(
        ["blocks"],
        lambda m, x: cast(Tensor, m.bn1(m.conv_stem(x))),
        lambda m, x: cast(Tensor, m.forward_head(m.bn2(m.conv_head(x)))),
    ),
    "MobileNetV3": _timm_family(
        ["blocks"], lambda m, x: cast(Tensor, m.bn1(m.conv_stem(x))), lambda m, x: cast(Tensor, m.forward_head(x))
    ),
    "SwinTransformer": _TIMM_SWIN,
    "SwinTransformerV2": _TIMM_SWIN,
    "VisionTransformer": _TIMM_VIT,
    "Beit": _timm_family(["blocks"], _beit_tokens, lambda m, x: cast(Tensor, m.forward_head(m.norm(x)))),
    "Cait": _timm_family(
        ["blocks"],
        lambda m, x: cast(Tensor, m.pos_drop(m.patch_embed(x) + m.pos_embed)),
        lambda m, x: cast(Tensor, m.forward_head(m.norm(m.forward_cls(x)))),
    ),
    "MetaFormer": _timm_family(["stages"], lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(x))),
    "MlpMixer": _timm_family(
        ["blocks"], lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(m.norm(x)))
    ),
}
"""Class of timm -> its adapter."""
