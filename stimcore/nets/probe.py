"""Find out which blocks are removable by running them.

A block is removable if its output has the shape of its input and its shortcut is the identity. Nothing in a module declares
that, so a block is run instead: what holds for every block of every family then also holds for a network of your own.
"""

import copy
import functools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from stimcore.nets.features import as_maps
from stimcore.nets.norms import batch_norms

FAR = 1000.0
"""Added to the inputs of a block that is searched for its branch: there a ReLU after the addition is the identity."""


@torch.no_grad()
def why_fixed(block: nn.Module, example: Tensor, *, channels_last: bool = False) -> str | None:
    """Return why a block can be neither deleted nor moved, None for a removable block.

    Args:
        block: Maps one tensor to one tensor; left as it is.
        example: A tensor that the block accepts; only its shape and device are used.
        channels_last: Whether tensors with four axes are `[B, H, W, C]` instead of `[B, C, H, W]`.

    Example:
        >>> why_fixed(nn.Conv2d(4, 4, 3, stride=2, padding=1), torch.zeros(1, 4, 8, 8))
        'it changes the resolution, so there is no skip path around it'
        >>> why_fixed(nn.Conv2d(4, 4, 3, padding=1), torch.zeros(1, 4, 8, 8))
        'it has no identity shortcut, so there is no skip path around it'
    """
    shortcut = _shortcut(block)
    # The input is positive because many blocks end with a ReLU after the addition: on positive values it is the identity, and
    # a ReLU must not make an identity shortcut look like something else.
    probe = torch.rand(example.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32) + 0.5
    out = shortcut(probe.to(example.device))
    before, after = (as_maps(tensor, channels_last=channels_last).shape for tensor in (probe, out))
    if after[2:] != before[2:]:
        return "it changes the resolution, so there is no skip path around it"
    if after != before:
        return "it changes the number of channels, so there is no skip path around it"
    if not torch.isfinite(out).all():
        return "its shortcut can't be found, as the block gives no finite numbers once its weights are zero"
    # Equality is exact: the identity adds 0 to every value, and a shortcut that scales by almost 1 is no identity.
    if not torch.equal(out.cpu(), probe):
        return "it has no identity shortcut, so there is no skip path around it"
    return None


def _shortcut(block: nn.Module) -> nn.Module:
    """Return a copy of a block, in evaluation mode, in which nothing but its shortcut is left.

    With every parameter at zero each convolution returns zeros, and so does each norm, whose scale and shift are zero too.
    """
    shortcut = copy.deepcopy(block).eval()
    # A weight that is computed from parameters, divided by their norm for example, is zero itself: 0 / 0 would be no number.
    # Parametrizations can't be removed from a copy, since torch keeps them in the class, which the block shares.
    for module in shortcut.modules():
        if isinstance(module, ParametrizationList):
            cast(Any, module).forward = functools.partial(torch.zeros_like, module())
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, WeightNorm | SpectralNorm):
                hook.remove(module)
                del module._forward_pre_hooks[key]
    for parameter in shortcut.parameters():
        parameter.zero_()
    # a batch norm without scale and shift returns zeros for zeros while its mean is zero
    for norm in batch_norms(shortcut):
        norm.reset_running_stats()
    return shortcut


@torch.no_grad()
def residual_branches(
    stem: nn.Module, blocks: Sequence[nn.Module], input_shape: tuple[int, int, int], wanted: Sequence[int]
) -> dict[int, nn.Module]:
    """Return the module whose output is the residual branch, for those of some removable blocks that have one.

    Args:
        stem: What runs before the first block, in evaluation mode.
        blocks: The blocks in order, in evaluation mode; numbered from 1.
        input_shape: `[C, H, W]` of the images.
        wanted: Numbers of the blocks that are searched.

    Returns:
        Block -> the block itself where it adds a branch to its input and does nothing more; else the module of it that ends
        the branch. Blocks for which neither is found are absent.
    """
    like = next(parameter for part in (stem, *blocks) for parameter in part.parameters())
    x = torch.zeros((1, *input_shape), device=like.device, dtype=like.dtype)
    branches: dict[int, nn.Module] = {}
    x = stem(x)
    for number, block in enumerate(blocks, 1):
        if number in wanted and (branch := _residual_branch(block, x)) is not None:
            branches[number] = branch
        x = block(x)
    return branches


def _residual_branch(block: nn.Module, example: Tensor) -> nn.Module | None:
    """Return the module whose output is a block's residual branch, None where there is no such module."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(example.shape, generator=generator, dtype=torch.float32).to(example.device)
    if torch.equal(_shortcut(block).float()(probe), probe):  # also for negative values: no activation follows the addition
        return block
    # Random weights, because the last norm of a fresh branch is often zero. In double precision the branch can still be told
    # apart from an input that is a thousand times as large.
    trial = copy.deepcopy(block).double().eval()
    for parameter in trial.parameters():
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    x = probe.double() + FAR
    out = trial(x)
    for name, module in reversed(list(trial.named_modules())[1:]):
        outputs: list[Tensor] = []

        def remove(_module: nn.Module, _inputs: object, output: Tensor, outputs: list[Tensor] = outputs) -> Tensor:
            outputs.append(output)
            return torch.zeros_like(output)

        handle = module.register_forward_hook(remove)
        without = trial(x)
        handle.remove()
        alone = len(outputs) == 1 and outputs[0].shape == x.shape and bool(outputs[0].abs().max() > 0)
        if alone and torch.allclose(without, x, rtol=1e-9) and torch.allclose(out, x + outputs[0], rtol=1e-9):
            return block.get_submodule(name)
    return None


@torch.no_grad()
def fixed_blocks(
    stem: nn.Module, blocks: Sequence[nn.Module], input_shape: tuple[int, int, int], *, channels_last: bool = False
) -> dict[int, str]:
    """Return the blocks that are not removable, each with the reason.

    All blocks run once in a row, so that each is probed with a tensor of the shape that it receives in the network. In
    evaluation mode batch norms leave their running statistics alone; the modes are restored afterwards.

    Args:
        stem: What runs before the first block.
        blocks: The blocks in order; numbered from 1.
        input_shape: `[C, H, W]` of the images.
        channels_last: As for `why_fixed`.

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
            if (why := why_fixed(block, example, channels_last=channels_last)) is not None:
                reasons[number] = why
            example = block(example)
    finally:
        for module in in_training_mode:
            module.training = True
    return reasons
