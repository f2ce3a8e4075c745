"""Adapters of timm's families. timm is optional: nothing else needs it."""

import importlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor, nn

from stimcore.errors import Unavailable, UsageError
from stimcore.nets.adapters.parts import Parts, closest_names
from stimcore.nets.own import first_line
from stimcore.nets.piece import Piece


def create(name: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Return a network of timm with random weights, which reads images `[C, H, W]`.

    Raises:
        UsageError: timm has no such network, or it can't be made for such images.
        Unavailable: timm is not installed.
    """
    try:
        timm = importlib.import_module("timm")  # optional: nothing else needs it
    except ImportError as reason:
        raise Unavailable(f"timm:{name} needs timm, which is not installed", todo="Run: python -m pip install timm") from reason
    if not timm.is_model(name.partition(".")[0]):
        raise UsageError(f"timm has no network '{name}'", allowed=closest_names(name, timm.list_models()))
    options: dict[str, Any] = {"in_chans": input_shape[0], "num_classes": num_classes, "pretrained": False}
    sized = {"img_size": input_shape[1:]}
    problem: Exception | None = None
    for more in (sized, {}):  # only networks whose weights depend on the size of the images accept it
        try:
            return _without_drop_path(cast(nn.Module, timm.create_model(name, **options, **more)))
        except TypeError as reason:
            problem = problem or reason
        except (RuntimeError, ValueError, AssertionError, NotImplementedError, OSError) as reason:
            problem = reason
            break
    assert problem is not None
    size = "x".join(map(str, input_shape))
    raise UsageError(f"timm:{name} can't be made for images of {size}: {first_line(problem)}") from problem


def _without_drop_path(module: nn.Module) -> nn.Module:
    """Switch off the stochastic depth that some networks of timm bring: it is a method of its own here.

    As an option of `create_model` it would have to be known for every family, and reach blocks that are made in other ways.
    """
    for part in module.modules():
        if type(part).__name__ == "DropPath" and hasattr(part, "drop_prob"):
            cast(Any, part).drop_prob = 0.0
    return module


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


def _family(
    body: Sequence[str], stem: Step, head: Step, *, channels_last: bool = False, head_parameters: Collection[str] = ()
) -> Callable[[Any], Parts]:
    """Return the adapter of a family.

    Args:
        body: Names of the children that hold the blocks, in order; small networks may lack the last ones.
        stem: What the network's forward does before them.
        head: What it does after them.
        channels_last: Whether blocks exchange maps `[B, H, W, C]`.
        head_parameters: Names of the network's own parameters that the head uses; the stem has all others.
    """

    def adapter(module: Any) -> Parts:
        present = [name for name in body if hasattr(module, name)]
        return Parts(
            stem=Piece.before(module, present, stem, without=head_parameters),
            blocks=[block for name in present for block in _flat(getattr(module, name))],
            head=Piece.after(module, present, head, parameters=head_parameters),
            channels_last=channels_last,
        )

    return adapter


def _beit_tokens(module: Any, images: Tensor) -> Tensor:
    """Return the tokens that enter the first block of a BEiT, the class token first."""
    patches = module.patch_embed(images)
    tokens = torch.cat([module.cls_token.expand(patches.shape[0], -1, -1), patches], 1)
    return cast(Tensor, module.pos_drop(tokens if module.pos_embed is None else tokens + module.pos_embed))


_VIT = _family(
    ["blocks"],
    lambda m, x: cast(Tensor, m.norm_pre(m.patch_drop(m._pos_embed(m.patch_embed(x))))),
    lambda m, x: cast(Tensor, m.forward_head(m.norm(x))),
)
_SWIN = _family(
    ["layers"],
    lambda m, x: cast(Tensor, m.patch_embed(x)),
    lambda m, x: cast(Tensor, m.forward_head(m.norm(x))),
    channels_last=True,
)
_USUAL_CHILDREN = ("stem", "stages", "head")
"""Children that most networks of timm have; those that follow the stages are normalised or widened before the head."""
USUAL = _family(
    ["stages"],
    lambda m, x: cast(Tensor, m.stem(x)),
    lambda m, x: cast(Tensor, m.forward_head(reduce(lambda out, name: getattr(m, name)(out), _tails(m), x))),
)


def is_usual(module: nn.Module) -> bool:
    """Return whether a network of timm has the usual children; whether it also runs them in this order is found by running."""
    return all(name in module._modules for name in _USUAL_CHILDREN) and hasattr(module, "forward_head")


def _tails(piece: nn.Module) -> list[str]:
    """Return the children of a network's end that run before its head, in the order in which they are registered."""
    return [name for name in piece._modules if name in ("norm", "norm_pre", "final_conv")]


_LAYERS = ["layer1", "layer2", "layer3", "layer4"]
_REGNET = ["s1", "s2", "s3", "s4"]
TIMM: dict[str, Callable[[Any], Parts]] = {
    "ResNet": _family(
        _LAYERS,
        lambda m, x: cast(Tensor, m.maxpool(m.act1(m.bn1(m.conv1(x))))),
        lambda m, x: cast(Tensor, m.forward_head(x)),
    ),
    "ResNetV2": _family(["stages"], lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(m.norm(x)))),
    "RegNet": _family(
        _REGNET, lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(m.final_conv(x)))
    ),
    "ConvNeXt": _family(
        ["stages"], lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(m.norm_pre(x)))
    ),
    "EfficientNet": _family(
        ["blocks"],
        lambda m, x: cast(Tensor, m.bn1(m.conv_stem(x))),
        lambda m, x: cast(Tensor, m.forward_head(m.bn2(m.conv_head(x)))),
    ),
    "MobileNetV3": _family(
        ["blocks"], lambda m, x: cast(Tensor, m.bn1(m.conv_stem(x))), lambda m, x: cast(Tensor, m.forward_head(x))
    ),
    "SwinTransformer": _SWIN,
    "SwinTransformerV2": _SWIN,
    "VisionTransformer": _VIT,
    "Beit": _family(["blocks"], _beit_tokens, lambda m, x: cast(Tensor, m.forward_head(m.norm(x)))),
    "Cait": _family(
        ["blocks"],
        lambda m, x: cast(Tensor, m.pos_drop(m.patch_embed(x) + m.pos_embed)),
        lambda m, x: cast(Tensor, m.forward_head(m.norm(m.forward_cls(x)))),
        head_parameters=["cls_token"],  # the class token joins the patches after the last block
    ),
    "MetaFormer": _family(["stages"], lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(x))),
    "MlpMixer": _family(["blocks"], lambda m, x: cast(Tensor, m.stem(x)), lambda m, x: cast(Tensor, m.forward_head(m.norm(x)))),
}
"""Class of timm -> its adapter."""
