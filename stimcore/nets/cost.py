"""Parameters and multiply-accumulates of a network and of each of its parts."""

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stimcore.nets.narrowed import Narrowed
from stimcore.nets.staged import StagedNet
from stimcore.subnets.part_name import PartName
from stimcore.subnets.spec import Spec


@dataclass(frozen=True)
class Cost:
    """What one part or one network costs.

    Attributes:
        parameters: Number of trained values; the running statistics of batch norms are not trained.
        macs: Multiply-accumulates of convolutions and linear layers for one image (half the floating-point operations).
    """

    parameters: int
    macs: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.macs + other.macs)


class Costs:
    """The costs of all parts and sub-networks of a network.

    The network runs on torch's `meta` device, where a tensor has a shape and no memory: counting the operations of a large
    network takes no time for the operations themselves. Each part is measured once and then remembered by its name, because
    parts with equal names compute the same. A sub-network that shares all parts with earlier ones costs nothing to measure.

    Args:
        net: The network; left as it is.

    Example:
        >>> from stimcore.nets.catalogue import build
        >>> net = build("resnet20", input_shape=(3, 32, 32), num_classes=10)
        >>> costs = Costs(net)
        >>> costs.main
        Cost(parameters=269722, macs=40551040)
        >>> costs.of(net.topology.parse("d1-1-1")).macs < costs.main.macs / 2
        True
    """

    def __init__(self, net: StagedNet) -> None:
        # float32 because the image of `parts` is; evaluation mode because batch norms refuse a single value per channel in
        # training mode; without gradients because torch's counter fails where a module inside a part reads a view of a
        # parameter, as the class tokens of CaiT do
        self.net = copy.deepcopy(net).float().to("meta").eval().requires_grad_(False)
        self._parts: dict[PartName, Cost] = {}
        self._outputs: dict[PartName, Tensor] = {}

    def of(self, spec: Spec) -> Cost:
        """Return the cost of a sub-network: the sum over its parts."""
        return sum(self.parts(spec).values(), Cost(0, 0))

    @torch.no_grad()
    def parts(self, spec: Spec) -> dict[PartName, Cost]:
        """Return the cost of every part of a sub-network, in the order in which they run."""
        costs: dict[PartName, Cost] = {}
        x = torch.zeros(1, *self.net.input_shape, device="meta")
        for part in self.net.route(spec):
            # A part's name fixes the shape of its output and its input's shape as well: blocks that can follow each other in
            # more than one order all keep the shape. So a remembered output serves every route through the part.
            if part.name not in self._parts:
                with FlopCounterMode(display=False) as counter:
                    self._outputs[part.name] = part.module(x)
                self._parts[part.name] = Cost(_num_parameters(part.module), counter.get_total_flops() // 2)
            x = self._outputs[part.name]
            costs[part.name] = self._parts[part.name]
        return costs

    @cached_property
    def main(self) -> Cost:
        """Cost of the main network."""
        return self.of(self.net.topology.full)


def _num_parameters(module: nn.Module) -> int:
    """Return how many values of a module are trained; for a narrowed part those that remain."""
    if not isinstance(module, Narrowed):
        return sum(parameter.numel() for parameter in module.parameters())
    slices = module.slices()
    return sum(slices.get(key, parameter).numel() for key, parameter in module.module.named_parameters())
