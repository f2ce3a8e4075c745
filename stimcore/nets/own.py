"""Your own network: any `nn.Module` as stem, stages of blocks and head.

Nothing needs to be declared: the network is run once to find its removable blocks and to check that the parts make up the
module.
"""

import copy
import importlib
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from stimcore.errors import UsageError
from stimcore.nets.norms import give_running_statistics
from stimcore.nets.probe import fixed_blocks
from stimcore.nets.staged import StagedNet
from stimcore.subnets.topology import Topology

OWN_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
"""Names of definitions that a user wrote: `MODULE:NAME`."""
FAILURES = (RuntimeError, TypeError, ValueError, AssertionError, LookupError, AttributeError, ArithmeticError)
"""What foreign modules raise for a tensor of a shape that they don't accept, or where they lack something that they use."""


def import_own(what: str, name: str) -> Any:
    """Return a definition that a user wrote, imported by its name `MODULE:NAME`.

    Importing runs the module, so that only names from the command line and from trusted run folders may reach this.

    Args:
        what: What is looked for, for the error message: `network` or `method`.
        name: `MODULE:NAME`.

    Raises:
        UsageError: The module can't be imported, or has no such name.

    Example:
        >>> import_own("network", "nowhere:build")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        stimcore.errors.UsageError: there is no network 'nowhere:build': No module named 'nowhere'. Is the module on the ...
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as reason:  # importing runs the user's code, which may fail in any way
        raise UsageError(
            f"there is no {what} '{name}': {str(reason) or type(reason).__name__}",
            todo="Is the module on the import path (PYTHONPATH)?",
        ) from reason


def staged(
    module: nn.Module,
    *,
    stem: nn.Module,
    stages: Sequence[Sequence[nn.Module]],
    head: nn.Module,
    input_shape: tuple[int, int, int],
    name: str = "own",
    channels_last: bool = False,
) -> StagedNet:
    """Return a module as stages of blocks, so that its sub-networks can be trained, evaluated and exported.

    Batch norms without running statistics get some: see `stimcore.nets.norms.give_running_statistics`.

    Args:
        module: The whole network; maps images `[B, C, H, W]` to logits `[B, K]`. Its parameters keep their names.
        stem: The part of the module that runs before the first block; several modules go into an `nn.Sequential`.
        stages: The blocks of every stage; a block maps one tensor to one tensor. Only the first block of a stage may change
            the shape, so that the stage after it accepts the output of any of its ordered sub-networks.
        head: The part that runs after the last block.
        input_shape: `[C, H, W]` of the images.
        name: Name of the network in reports.
        channels_last: Whether blocks exchange maps `[B, H, W, C]` instead of `[B, C, H, W]`, as those of Swin do. Sequences of
            tokens are `[B, N, D]` in either case.

    Raises:
        UsageError: The parts do not compute what the module computes, some parameters are in no part, or a later block of a
            stage changes the shape.

    Example:
        >>> class Residual(nn.Module):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.conv = nn.Conv2d(8, 8, 3, padding=1)
        ...     def forward(self, x: Tensor) -> Tensor:
        ...         return x + self.conv(x).relu()
        >>> head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
        >>> module = nn.Sequential(nn.Conv2d(3, 8, 3), Residual(), Residual(), head)
        >>> net = staged(module, stem=module[0], stages=[[module[1], module[2]]], head=head, input_shape=(3, 8, 8))
        >>> net.topology.sizes, net.topology.removable, net.num_classes
        ((2,), (1, 2), 10)
        >>> net(torch.zeros(1, 3, 8, 8), net.topology.parse("d1")).shape
        torch.Size([1, 10])
    """
    blocks = [block for stage in stages for block in stage]
    if not stages or not all(stages):
        raise UsageError(
            f"stages with {[len(stage) for stage in stages]} blocks", allowed="at least one stage, none without blocks"
        )
    parts = [stem, *blocks, head]
    in_parts = {id(parameter) for part in parts for parameter in part.parameters()}
    if left_out := [key for key, parameter in module.named_parameters() if id(parameter) not in in_parts]:
        raise UsageError(
            f"no part has the parameters {', '.join(left_out[:5])} of the module",
            allowed="stem, blocks and head that make up the whole module",
        )
    give_running_statistics(module)
    shapes, logits = check_same(module, parts, input_shape)
    _check_shapes([len(stage) for stage in stages], shapes)
    fixed = fixed_blocks(stem, blocks, input_shape, channels_last=channels_last)
    return StagedNet(
        module,
        Topology.of(name, [len(stage) for stage in stages], fixed),
        stem=stem,
        blocks=blocks,
        head=head,
        input_shape=input_shape,
        num_classes=logits.shape[1],
        channels_last=channels_last,
    )


def _check_shapes(sizes: Sequence[int], shapes: Sequence[torch.Size]) -> None:
    """Raise if a block that is not the first of its stage changes the shape.

    Args:
        sizes: Blocks per stage.
        shapes: Shape of the output of every block.
    """
    for stage, end in enumerate(accumulate(sizes)):
        first = end - sizes[stage]  # index of the stage's first block
        changed = [place for place in range(1, sizes[stage]) if shapes[first + place] != shapes[first]]
        if changed:
            raise UsageError(
                f"block {first + changed[0] + 1} changes the shape in the middle of stage {stage + 1}",
                allowed="a change of shape in the first block of a stage",
                todo=f"Begin a stage with it: stages[{stage}][:{changed[0]}] and stages[{stage}][{changed[0]}:].",
            )


@torch.no_grad()
def check_same(
    module: nn.Module, parts: Sequence[nn.Module], input_shape: tuple[int, int, int]
) -> tuple[list[torch.Size], Tensor]:
    """Run a module and its parts in a row, and compare.

    Args:
        module: The whole network; its modes stay as they are.
        parts: Stem, blocks and head.
        input_shape: `[C, H, W]` of the images.

    Returns:
        Shape of the output of every block, and the logits.

    Raises:
        UsageError: The two do not compute the same, or the module does not return logits.
    """
    example = torch.rand((2, *input_shape), generator=torch.Generator().manual_seed(0))
    modes = {layer: layer.training for part in (module, *parts) for layer in part.modules()}
    for layer in modes:
        layer.training = False
    try:
        expected, shapes, out = _run_module(module, example), [], example
        for number, part in enumerate(parts):
            out = _run_part(part, out, number, len(parts))
            shapes.append(out.shape)
    finally:
        for layer, mode in modes.items():
            layer.training = mode
    if expected.ndim != 2:
        raise UsageError(f"a module that returns {list(expected.shape)} for 2 images", allowed="logits [B, K]")
    if out.shape != expected.shape or not torch.allclose(out, expected, rtol=1e-5, atol=1e-6):
        raise UsageError(
            "stem, blocks and head in a row do not compute what the module computes",
            allowed="parts that make up the whole module",
            todo="Put what its forward does between its sub-modules (pooling, flattening) into stem or head as modules.",
        )
    return shapes[1:-1], expected


def _run_module(module: nn.Module, example: Tensor) -> Tensor:
    """Run the whole module; a failure becomes a sentence."""
    try:
        # a copy, because a module that begins with an in-place operation would change the example
        out = module(example.clone())
    except FAILURES as reason:
        raise UsageError(f"the network does not accept images of {_size(example)}: {first_line(reason)}") from reason
    if not isinstance(out, Tensor):
        raise UsageError(f"a module that returns a {type(out).__name__}", allowed="logits [B, K]")
    return out


def check_trains(net: StagedNet, images: int) -> None:
    """Check that every part of a network runs in training mode, on a copy.

    Some networks return more then (logits of auxiliary heads), and batch norms over one position need two images.

    Args:
        net: With any weights; it stays as it is.
        images: Images at a time.

    Raises:
        UsageError: A part fails, or returns something else than a tensor; or the network has a state that no checkpoint holds.

    Example:
        >>> from stimcore.nets.catalogue import build
        >>> check_trains(build("resnet8", input_shape=(1, 8, 8), num_classes=3), images=2)
    """
    if other := [key for key, value in net.module.state_dict().items() if not isinstance(value, Tensor)]:
        raise UsageError(
            f"the network keeps {other[0]}, which is no tensor and in no checkpoint", allowed="parameters and buffers"
        )
    trial = copy.deepcopy(net).train()
    x = torch.rand((images, *net.input_shape), generator=torch.Generator().manual_seed(0))
    route = trial.route(trial.topology.full)
    try:
        with torch.no_grad():
            for number, part in enumerate(route):
                x = _run_part(part.module, x, number, len(route))
    except UsageError as reason:
        at_a_time = "1 image at a time" if images == 1 else f"{images} images at a time"
        raise UsageError(f"in training, with {at_a_time}, {reason.what}", allowed=reason.allowed, todo=reason.todo) from reason


def _size(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))


def first_line(reason: Exception) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return next(iter(str(reason).splitlines()), type(reason).__name__)


def _run_part(part: nn.Module, x: Tensor, number: int, num_parts: int) -> Tensor:
    """Run one part; a failure becomes a sentence that names the part."""
    what = {0: "the stem", num_parts - 1: "the head"}.get(number, f"block {number}")
    try:
        out = part(x)
    except FAILURES as reason:
        raise UsageError(
            f"{what} does not accept {list(x.shape)}, the output of the part before it: {first_line(reason)}"
        ) from reason
    if not isinstance(out, Tensor):
        raise UsageError(f"{what} returns a {type(out).__name__}", allowed="parts that map one tensor to one tensor")
    return out
