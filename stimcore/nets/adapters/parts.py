"""A network taken apart, and its division into stages: what the adapters of both libraries share."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from stimcore.errors import UsageError
from stimcore.nets.own import FAILURES, first_line

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


def closest_names(name: str, known: Sequence[str]) -> str:
    """Return in words which names there are: those that are most like a wrong one, and how many there are."""
    close = difflib.get_close_matches(name, known, n=6, cutoff=0.4)
    return f"{', '.join(close or known[:6])} and others, {len(known)} in all"
