"""Find out which blocks are removable by running them.

A block is removable if its output has the shape of its input and its shortcut is the identity. Nothing in a module declares
that, so a block is run instead: what holds for every block of every family then also holds for a network of your own.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stimcore.nets.norms import batch_norms


@torch.no_grad()
def why_fixed(block: nn.Module, example: Tensor) -> str | None:
    """Return why a block can be neither deleted nor moved, None for a removable block.

    Args:
        block: Maps one tensor to one tensor; left as it is.
        example: A tensor `[B, C, H, W]` that the block accepts; only its shape and device are used.

    Example:
        >>> why_fixed(nn.Conv2d(4, 4, 3, stride=2, padding=1), torch.zeros(1, 4, 8, 8))
        'it changes the resolution, so there is no skip path around it'
        >>> why_fixed(nn.Conv2d(4, 4, 3, padding=1), torch.zeros(1, 4, 8, 8))
        'it has no identity shortcut, so there is no skip path around it'
    """
    # With every parameter at zero each convolution returns zeros, and so does each batch norm, whose scale and shift are
    # zero too. The residual branch vanishes and what is left is the shortcut.
    shortcut = copy.deepcopy(block).eval()
    for parameter in shortcut.parameters():
        parameter.zero_()
    # a batch norm without scale and shift returns zeros for zeros while its mean is zero
    for norm in batch_norms(shortcut):
        norm.reset_running_stats()
    # The input is positive because many blocks end with a ReLU after the addition: on positive values it is the identity, and
    # a ReLU must not make an identity shortcut look like something else.
    probe = torch.rand(example.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32) + 0.5
    out = shortcut(probe.to(example.device))
    if out.shape[2:] != probe.shape[2:]:
        return "it changes the resolution, so there is no skip path around it"
    if out.shape != probe.shape:
        return "it changes the number of channels, so there is no skip path around it"
    # Equality is exact: the identity adds 0 to every value, and a shortcut that scales by almost 1 is no identity.
    if not torch.equal(out.cpu(), probe):
        return "it has no identity shortcut, so there is no skip path around it"
    return None


@torch.no_grad()
def fixed_blocks(stem: nn.Module, blocks: Sequence[nn.Module], input_shape: tuple[int, int, int]) -> dict[int, str]:
    """Return the blocks that are not removable, each with the reason.

    All blocks run once in a row, so that each is probed with a tensor of the shape that it receives in the network. In
    evaluation mode batch norms leave their running statistics alone; the modes are restored afterwards.

    Args:
        stem: What runs before the first block.
        blocks: The blocks in order; numbered from 1.
        input_shape: `[C, H, W]` of the images.

    Example:
        >>> fixed_blocks(nn.Identity(), [nn.Identity(), nn.Conv2d(3, 8, 1)], (3, 8, 8))
        {2: 'it changes the number of channels, so there is no skip path around it'}
    """
    example = torch.rand((1, *input_shape), generator=torch.Generator().manual_seed(0))
    in_training_mode = [module for part in (stem, *blocks) for module in part.modules() if module.training]
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
        for module in in_training_mode:
            module.training = True
    return reasons
