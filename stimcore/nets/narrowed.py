"""A module that reads and writes only some of its channels: the same weights, seen through slices.

A narrowed part owns no weights. In every forward it slices the weights of the whole part anew and runs the part's code on the
slices, so that three things hold without any bookkeeping:

- the main network and all sub-networks train the same tensors, because autograd sends the gradient of a slice back to its
  place in the whole weight;
- an optimiser step is visible to every narrowed part at once, because no copy can be out of date;
- no sub-network is "set": two narrowed parts of one module can be in use at the same time.
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
"""State-dict key -> for each leading axis of its tensor `in` or `out` if it follows the incoming or outgoing channels."""


class Narrowed(nn.Module):
    """The part of `module` that is left when only some channels exist.

    Args:
        module: Maps one tensor to one tensor.
        axes: Which axes of its parameters and buffers follow its channels; tensors that are absent stay whole.
        kept: The channels that remain.
    """

    def __init__(self, module: nn.Module, axes: Axes, kept: KeptChannels) -> None:
        super().__init__()
        self.module, self.axes, self.kept = module, axes, kept

    def slices(self) -> dict[str, Tensor]:
        """Return what remains of every tensor that follows the channels, by state-dict key.

        Slices of parameters are differentiable. A slice is a view of the whole tensor if its channels are consecutive, a new
        tensor otherwise.
        """
        tensors = self._tensors()
        return {key: _slice(tensors[key], axes, self.kept) for key, axes in self.axes.items()}

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, remaining channels, H, W]` to the output of the narrower module.

        A batch norm in training mode updates its running statistics in place. Here the buffer that it updates is a slice, in
        general a new tensor, so the update is written back to the channels that it belongs to.
        """
        buffers = dict(self.module.named_buffers())
        # Copies of running statistics: backward refuses tensors that were written to after the forward, and a view of the whole
        # buffer is written to by every later forward.
        slices = {key: value.clone() if key in buffers else value for key, value in self.slices().items()}
        # functional_call runs the module's forward with `slices` in place of the tensors of the same keys
        out = cast(Tensor, functional_call(self.module, slices, (x,)))
        if any(norm.training and norm.track_running_stats for norm in batch_norms(self.module)):
            # `data` has a version counter of its own: the backward of the whole part also refuses buffers that were written to,
            # although in training mode it reads the statistics of the batch alone
            self._write({key: slices[key] for key in buffers if key in slices}, {key: t.data for key, t in buffers.items()})
        return out

    @torch.no_grad()
    def write(self, values: Mapping[str, Tensor]) -> None:
        """Write tensors of the narrower module's shapes into the slices that they stand for.

        Args:
            values: State-dict key -> tensor; a tensor that does not follow the channels is replaced as a whole.
        """
        self._write(values, self._tensors())

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        """Write slices into whole tensors; see `write`."""
        for key, value in values.items():
            target = tensors[key]
            index = [_indices(target.shape[axis], self._ranges(key, axis)) for axis in range(target.ndim)]
            if index:
                # clone: the value may be a view of the very place that it is written to
                target[torch.meshgrid(*index, indexing="ij")] = value.clone()
            else:
                target.copy_(value)  # a scalar such as `num_batches_tracked` has no axis to index

    @torch.no_grad()
    def to_module(self) -> nn.Module:
        """Return an ordinary module of the narrower width, with copies of the weights."""
        narrow = copy.deepcopy(self.module)
        for key, value in self.slices().items():
            owner, _, name = key.rpartition(".")
            layer = narrow.get_submodule(owner)
            value = value.detach().clone()
            setattr(layer, name, nn.Parameter(value) if isinstance(getattr(layer, name), nn.Parameter) else value)
        # the forward uses the tensors alone; these numbers are what print and the ONNX exporter report
        for layer in narrow.modules():
            if isinstance(layer, nn.Conv2d):
                layer.out_channels, layer.in_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups
            elif isinstance(layer, nn.Linear):
                layer.out_features, layer.in_features = layer.weight.shape
            elif isinstance(layer, _BatchNorm) and layer.running_mean is not None:
                layer.num_features = layer.running_mean.shape[0]
        return narrow

    def _tensors(self) -> dict[str, Tensor]:
        return dict(self.module.named_parameters()) | dict(self.module.named_buffers())

    def _ranges(self, key: str, axis: int) -> Ranges:
        """Return which indices along an axis of a tensor remain; empty if all do."""
        axes = self.axes.get(key, ())
        return self.kept.along(axes[axis]) if axis < len(axes) else ()


def _slice(tensor: Tensor, axes: tuple[str, ...], kept: KeptChannels) -> Tensor:
    for axis, follows in enumerate(axes):
        if ranges := kept.along(follows):
            pieces = [tensor.narrow(axis, start, stop - start) for start, stop in ranges]
            tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)
    return tensor


def _indices(size: int, ranges: Ranges) -> Tensor:
    """Return the index numbers of some ranges, or all of them if there are no ranges."""
    return torch.cat([torch.arange(start, stop) for start, stop in ranges or ((0, size),)])
