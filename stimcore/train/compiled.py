"""Compile the parts of a network for training, however many shapes they have."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from stimcore.nets.staged import StagedNet

# A part is compiled with and without running statistics (sampled sub-networks leave those of the main network alone), and for
# at most two sizes of a batch that is computed in several steps.
_KINDS_PER_PART = 4


def compile_parts(net: StagedNet, *, any_side: bool = False, backend: str | Callable[..., Any] = "inductor") -> None:
    """Run every whole part of a network in compiled form from now on.

    Blocks of one class share one function, and PyTorch keeps 8 compiled forms of a function; with the ninth it goes on
    uncompiled. Stimulative training of ResNet-20 needs 10 and DenseNet-121 one per layer, so the limit is raised to what the
    network can need. Every size gets a program of its own, unless the sides of images are drawn: then PyTorch makes a program
    for any size when it meets a second one.

    Args:
        net: The network; its parameters stay shared with the compiled parts.
        any_side: Whether the sides of the images differ from step to step.
        backend: What compiles, as for `torch.compile`.

    Example:
        >>> from stimcore.nets.catalogue import build
        >>> net = build("resnet8", input_shape=(1, 8, 8), num_classes=3)
        >>> compile_parts(net, backend="eager")
        >>> net(torch.zeros(2, 1, 8, 8), net.topology.full).shape
        torch.Size([2, 3])
    """
    config = torch.compiler.config
    needed = _KINDS_PER_PART * len(net.route(net.topology.full))
    config.recompile_limit = max(config.recompile_limit, needed)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, needed)
    net.compile_blocks(lambda part: cast(nn.Module, torch.compile(part, dynamic=None if any_side else False, backend=backend)))
