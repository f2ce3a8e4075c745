"""Stochastic depth: whole residual branches are dropped at random, deeper ones more often.

Source: Huang et al. 2016, "Deep networks with stochastic depth"; the survival rate is that of the paper, Appendix F.1.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from stimcore.errors import UsageError
from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.losses import cross_entropy
from stimcore.nets.staged import StagedNet
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


def droppable(net: StagedNet) -> list[int]:
    """Blocks with a residual branch that can be scaled, less the first of every stage."""
    return [block for stage in net.topology.stages for block in stage[1:] if block in net.branch_ends]


def survival(topology: Topology, block: int, last: float) -> float:
    """Probability that a block's branch is kept: 1 at depth 0, linearly down to `last` at the last block."""
    return 1 - block / topology.num_blocks * (1 - last)


@contextmanager
def branches_scaled(net: StagedNet, factors: Mapping[int, float]) -> Iterator[None]:
    """Inside, the residual branches of these blocks are multiplied by these factors before the shortcut is added."""
    handles = [net.branch_ends[block].register_forward_hook(_times(factor)) for block, factor in factors.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _times(factor: float) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    return lambda module, inputs, output: output * factor


@dataclass(frozen=True, kw_only=True)
class StochasticDepth(Method):
    """Loss = CE(main with some branches dropped, y).

    Attributes:
        last_survival: Survival probability of the last block, in (0, 1]; that of the others falls linearly to it.
    """

    last_survival: float = 0.9

    compilable: ClassVar[bool] = False  # compiled code does not look for hooks that come and go

    def __post_init__(self) -> None:
        if not 0 < self.last_survival <= 1:
            raise UsageError(f"a last_survival of {self.last_survival}", allowed="more than 0, at most 1")

    def auxiliary(self, net: StagedNet) -> None:
        """Nothing besides the network; a network of which nothing could ever be dropped is refused."""
        if any(len(stage) > 1 for stage in net.topology.stages) and not droppable(net):
            raise UsageError(f"stochastic depth of {net.topology.network}, which has no residual branch that can be dropped")

    def draw(self, net: StagedNet, rng: random.Random) -> tuple[set[int], dict[int, float]]:
        """One gate per block: the blocks that are dropped, and the factor 1/p of every other droppable one."""
        dropped: set[int] = set()
        factors: dict[int, float] = {}
        for block in droppable(net):
            probability = survival(net.topology, block, self.last_survival)
            if rng.random() < probability:
                factors[block] = 1 / probability
            else:
                dropped.add(block)
        return dropped, factors

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Gradients of the cross entropy; a dropped block that is removable is not even run."""
        topology = net.topology
        dropped, factors = self.draw(net, batch.rng)
        gone = dropped & set(topology.removable)
        spec = Spec(tuple(tuple(block for block in stage if block not in gone) for stage in topology.stages))
        zeroed = dict.fromkeys(dropped - gone, 0.0)
        with branches_scaled(net, factors | zeroed), batch.autocast():
            loss = cross_entropy(net(batch.images, spec), batch.labels, batch.label_smoothing)
        batch.backward(loss)
        return {"loss": loss.detach(), "main_ce": loss.detach()}
