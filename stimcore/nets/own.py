"""Your own network: any `nn.Module` as stem, stages of blocks and head.

Which blocks are removable is found out by running them, not declared; that the parts make up the module is checked likewise.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from stimcore.errors import UsageError
from stimcore.nets.probe import fixed_blocks
from stimcore.nets.staged import StagedNet
from stimcore.subnets.topology import Topology


def staged(
    module: nn.Module,
    *,
    stem: nn.Module,
    stages: Sequence[Sequence[nn.Module]],
    head: nn.Module,
    input_shape: tuple[int, int, int],
    name: str = "own",
) -> StagedNet:
    """A module as stages of blocks, whose sub-networks can be trained, evaluated and exported.

    Args:
        module: The whole network, images `[B, C, H, W]` to logits `[B, K]`; it keeps its own parameter names.
        stem: What of it runs before the first block (several modules: `nn.Sequential`).
        stages: What of it are blocks; a block maps one tensor to one tensor. A stage may change the shape in its first block
            alone, so that its ordered sub-networks fit what follows.
        head: What of it runs after the last block.
        input_shape: `[C, H, W]` of its images.
        name: Of the network, in reports.

    Raises:
        UsageError: The parts do not compute what the module computes, leave parameters out, or a later block of a stage
            changes the shape.
    """
    blocks = [block for stage in stages for block in stage]
    if not stages or not all(stages):
        raise UsageError(
            f"stages with {[len(stage) for stage in stages]} blocks", allowed="at least one stage, none without blocks"
        )
    parts = [stem, *blocks, head]
    held = {id(parameter) for part in parts for parameter in part.parameters()}
    if left_out := [key for key, parameter in module.named_parameters() if id(parameter) not in held]:
        raise UsageError(
            f"no part has the parameters {', '.join(left_out[:5])} of the module",
            allowed="stem, blocks and head that make up the whole module",
        )
    example = torch.rand((2, *input_shape), generator=torch.Generator().manual_seed(0))
    shapes, logits = _run(module, parts, example)
    for number, (end, stage) in enumerate(zip(accumulate(map(len, stages)), stages, strict=True), 1):
        own = shapes[end - len(stage) : end]
        changed = [position for position in range(1, len(own)) if own[position] != own[0]]
        if changed:
            raise UsageError(
                f"block {end - len(stage) + changed[0] + 1} changes the shape in the middle of stage {number}",
                allowed="a change of shape in the first block of a stage",
                todo=f"Begin a stage with it: stages[{number - 1}][:{changed[0]}] and stages[{number - 1}][{changed[0]}:].",
            )
    return StagedNet(
        module,
        Topology.of(name, [len(stage) for stage in stages], fixed_blocks(stem, blocks, input_shape)),
        stem=stem,
        blocks=blocks,
        head=head,
        input_shape=input_shape,
        num_classes=logits.shape[1],
    )


@torch.no_grad()
def _run(module: nn.Module, parts: Sequence[nn.Module], example: Tensor) -> tuple[list[torch.Size], Tensor]:
    """Shapes behind every block, and the logits, when both the module and its parts say the same."""
    was_training = {each: each.training for part in (module, *parts) for each in part.modules()}
    for each in was_training:
        each.training = False
    try:
        expected, shapes, out = module(example.clone()), [], example
        for number, part in enumerate(parts):
            out = _sent(part, out, number, len(parts))
            shapes.append(out.shape)
    finally:
        for each, training in was_training.items():
            each.training = training
    if expected.ndim != 2:
        raise UsageError(f"a module that gives {list(expected.shape)} for 2 images", allowed="logits [B, K]")
    if out.shape != expected.shape or not torch.allclose(out, expected, rtol=1e-5, atol=1e-6):
        raise UsageError(
            "stem, blocks and head in a row do not compute what the module computes",
            allowed="parts that make up the whole module",
            todo="Put what its forward does between its sub-modules (pooling, flattening) into stem or head as modules.",
        )
    return shapes[1:-1], expected


def _sent(part: nn.Module, x: Tensor, number: int, count: int) -> Tensor:
    what = {0: "the stem", count - 1: "the head"}.get(number, f"block {number}")
    try:
        out = part(x)
    except (RuntimeError, TypeError, ValueError) as reason:
        raise UsageError(
            f"{what} does not take {list(x.shape)}, which comes before it: {str(reason).splitlines()[0]}"
        ) from reason
    if not isinstance(out, Tensor):
        raise UsageError(f"{what} gives a {type(out).__name__}", allowed="parts that map one tensor to one tensor")
    return out
