"""Finds out by running a block whether it can go: same shape in and out, and a shortcut that is the identity."""

import copy

import torch
from torch import Tensor, nn


@torch.no_grad()
def why_fixed(block: nn.Module, example: Tensor) -> str | None:
    """None for a removable block, else the reason in words.

    A copy of the block with every parameter at zero has no residual branch left; if it then returns a positive input
    unchanged, its shortcut is the identity.

    Args:
        block: Maps one tensor to one tensor.
        example: A tensor that the block accepts, `[B, ...]`.
    """
    empty = copy.deepcopy(block).eval()
    for parameter in empty.parameters():
        parameter.zero_()
    image = torch.rand(example.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32) + 0.5
    out = empty(image.to(example.device))
    if out.shape[2:] != image.shape[2:]:
        return "it changes the resolution, so there is no skip path around it"
    if out.shape != image.shape:
        return "it changes the number of channels, so there is no skip path around it"
    if not torch.equal(out.cpu(), image):
        return "it has no identity shortcut, so there is no skip path around it"
    return None


@torch.no_grad()
def fixed_blocks(stem: nn.Module, blocks: list[nn.Module], input_shape: tuple[int, int, int]) -> dict[int, str]:
    """Block -> reason for every block that can't be removed, found by running all of them once in a row."""
    example = torch.rand((1, *input_shape), generator=torch.Generator().manual_seed(0))
    training = [m for part in (stem, *blocks) for m in part.modules() if m.training]
    for part in (stem, *blocks):
        part.eval()
    reasons: dict[int, str] = {}
    try:
        example = stem(example)
        for number, block in enumerate(blocks, 1):
            if (why := why_fixed(block, example)) is not None:
                reasons[number] = why
            example = block(example)
    finally:
        for module in training:
            module.training = True
    return reasons
