"""Parameters and multiply-accumulates of a network and of each of its parts, counted by torch's FlopCounterMode."""

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
        parameters: Numbers that are trained (batch norms' running statistics are not).
        macs: Multiply-accumulates of convolutions and linear layers for one image (FLOPs / 2).
    """

    parameters: int
    macs: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.macs + other.macs)


class Costs:
    """Costs of all parts of a network, measured once per part on an image of its own size without memory (torch's `meta`)."""

    def __init__(self, net: StagedNet) -> None:
        self.net = copy.deepcopy(net).float().to("meta").eval()
        self._parts: dict[PartName, Cost] = {}
        self._after: dict[PartName, Tensor] = {}

    @torch.no_grad()
    def of(self, spec: Spec) -> Cost:
        """Cost of a sub-network: the sum over its parts."""
        return sum(self.parts(spec).values(), Cost(0, 0))

    @torch.no_grad()
    def parts(self, spec: Spec) -> dict[PartName, Cost]:
        """Part name -> cost, in the order of the sub-network's route."""
        found, image = {}, torch.zeros(1, *self.net.input_shape, device="meta")
        for part in self.net.route(spec):
            if part.name not in self._parts:
                with FlopCounterMode(display=False) as counter:
                    self._after[part.name] = part.module(image)
                self._parts[part.name] = Cost(_parameters(part.module), counter.get_total_flops() // 2)
            image = self._after[part.name]
            found[part.name] = self._parts[part.name]
        return found

    @cached_property
    def main(self) -> Cost:
        """Cost of the main network."""
        return self.of(self.net.topology.full)


def _parameters(module: nn.Module) -> int:
    """Numbers that are trained; of a narrowed part those that remain."""
    if not isinstance(module, Narrowed):
        return sum(parameter.numel() for parameter in module.parameters())
    slices = module.slices()
    return sum(slices.get(key, parameter).numel() for key, parameter in module.module.named_parameters())
