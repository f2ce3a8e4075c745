"""A module of which only some channels exist: the same weights, seen through slices.

Nothing is copied and nothing is set: the slices are made in every forward, so gradients reach the whole weights, and batch
norms in training mode write the statistics of the channels that remain back to where they belong.
"""

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from stimcore.nets.norms import batch_norms
from stimcore.subnets.channels import KeptChannels, Ranges

Axes = Mapping[str, tuple[str, ...]]
"""State-dict key -> per leading axis of its tensor: `in` or `out` where it follows the channels coming in or going out."""


class Narrowed(nn.Module):
    """`module` with the channels of `kept` alone.

    Args:
        module: Maps one tensor to one tensor.
        axes: Which axes of its parameters and buffers follow its channels; tensors that are absent stay whole.
        kept: The channels that remain.
    """

    def __init__(self, module: nn.Module, axes: Axes, kept: KeptChannels) -> None:
        super().__init__()
        self.module, self.axes, self.kept = module, axes, kept

    def slices(self) -> dict[str, Tensor]:
        """State-dict key -> what remains of the tensor; differentiable, for parameters."""
        tensors = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        return {key: _taken(tensors[key], axes, self.kept) for key, axes in self.axes.items()}

    def forward(self, x: Tensor) -> Tensor:
        """What the narrower module gives for `x` `[B, remaining channels, H, W]`."""
        slices = self.slices()
        out = cast(Tensor, functional_call(self.module, slices, (x,)))
        if any(norm.training and norm.track_running_stats for norm in batch_norms(self.module)):
            self.write({key: slices[key] for key, _ in self.module.named_buffers() if key in slices})
        return out

    @torch.no_grad()
    def write(self, values: Mapping[str, Tensor]) -> None:
        """Writes tensors of the narrower module's shapes into the slices they stand for.

        Args:
            values: State-dict key -> tensor; keys that are not sliced are written whole.
        """
        tensors = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        for key, value in values.items():
            index = [_index(tensors[key].shape[i], self._ranges(key, i)) for i in range(tensors[key].ndim)]
            if index:
                tensors[key][torch.meshgrid(*index, indexing="ij")] = value.clone()  # it may be a view of where it goes
            else:
                tensors[key].copy_(value)

    def _ranges(self, key: str, axis: int) -> Ranges:
        axes = self.axes.get(key, ())
        return self.kept.along(axes[axis]) if axis < len(axes) else ()

    @torch.no_grad()
    def apart(self) -> nn.Module:
        """The narrower module as one of its own, with copies of its weights."""
        own = copy.deepcopy(self.module)
        for key, value in self.slices().items():
            holder, _, name = key.rpartition(".")
            leaf = own.get_submodule(holder)
            value = value.detach().clone()
            setattr(leaf, name, nn.Parameter(value) if isinstance(getattr(leaf, name), nn.Parameter) else value)
        for leaf in own.modules():
            if isinstance(leaf, nn.Conv2d):
                leaf.out_channels, leaf.in_channels = leaf.weight.shape[0], leaf.weight.shape[1] * leaf.groups
            elif isinstance(leaf, nn.Linear):
                leaf.out_features, leaf.in_features = leaf.weight.shape
            elif isinstance(leaf, _BatchNorm) and leaf.running_mean is not None:
                leaf.num_features = leaf.running_mean.shape[0]
        return own


def _taken(tensor: Tensor, axes: tuple[str, ...], kept: KeptChannels) -> Tensor:
    for axis, follows in enumerate(axes):
        if ranges := kept.along(follows):
            pieces = [tensor.narrow(axis, start, stop - start) for start, stop in ranges]
            tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)
    return tensor


def _index(size: int, ranges: Ranges) -> Tensor:
    return torch.cat([torch.arange(start, stop) for start, stop in ranges or ((0, size),)])
