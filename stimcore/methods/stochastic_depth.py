"""Stochastic depth: residual branches are dropped at random, deeper ones more often.

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
    """Return the blocks that may be dropped: those with a branch that can be scaled, except the first of every stage."""
    return [block for stage in net.topology.stages for block in stage[1:] if block in net.residuals]


def survival(topology: Topology, block: int, last: float) -> float:
    """Return the probability that a block's branch is kept: it falls linearly from 1 at depth 0 to `last` at the last block.

    Example:
        >>> [round(survival(Topology.of("any", (2, 2)), block, last=0.8), 2) for block in (1, 2, 3, 4)]
        [0.95, 0.9, 0.85, 0.8]
    """
    return 1 - block / topology.num_blocks * (1 - last)


@contextmanager
def scale_branches(net: StagedNet, factors: Mapping[int, float]) -> Iterator[None]:
    """Multiply residual branches by factors, before the shortcut is added, in every forward inside this context.

    Args:
        net: The network.
        factors: Block -> factor; the others stay as they are.
    """
    handles = []
    for block, factor in factors.items():
        if factor == 1:
            continue
        branch = net.residuals[block]
        scale = _multiply_change if branch is net.block(block) else _multiply_output
        handles.append(branch.register_forward_hook(scale(factor)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _multiply_output(factor: float) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """Return a forward hook; the value that a hook returns takes the place of the module's output."""
    return lambda module, inputs, output: output * factor


def _multiply_change(factor: float) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """Return a forward hook for a block that adds a branch to its input: the branch is the output minus the input."""
    return lambda module, inputs, output: inputs[0] + (output - inputs[0]) * factor


@dataclass(frozen=True, kw_only=True)
class StochasticDepth(Method):
    """Loss = CE(main network without some residual branches, y).

    Attributes:
        last_survival: Survival probability of the last block, in (0, 1].
    """

    last_survival: float = 0.9

    compilable: ClassVar[bool] = False  # compiled code does not call hooks that are registered later

    def __post_init__(self) -> None:
        if not 0 < self.last_survival <= 1:
            raise UsageError(f"a last_survival of {self.last_survival}", allowed="more than 0, at most 1")

    def make_auxiliary(self, net: StagedNet) -> None:
        """Return None: there are no extra heads.

        Raises:
            UsageError: No branch of the network can be dropped.
        """
        if any(len(stage) > 1 for stage in net.topology.stages) and not droppable(net):
            raise UsageError(f"stochastic depth of {net.topology.network}, which has no residual branch that can be dropped")

    def draw(self, net: StagedNet, rng: random.Random) -> tuple[set[int], dict[int, float]]:
        """Draw one gate per block; return the dropped blocks, and the factor 1 / p of every other block that has a gate."""
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
        """Add the gradients of the cross entropy.

        A dropped block that is removable does not run at all. Any other dropped block runs, with its branch multiplied by 0.
        """
        topology = net.topology
        dropped, factors = self.draw(net, batch.rng)
        skipped = dropped & set(topology.removable)
        spec = Spec(tuple(tuple(block for block in stage if block not in skipped) for stage in topology.stages))
        zeroed = dict.fromkeys(dropped - skipped, 0.0)
        with scale_branches(net, factors | zeroed), batch.autocast():
            loss = cross_entropy(net(batch.images, spec), batch.labels, batch.label_smoothing)
        batch.backward(loss)
        return {"loss": loss.detach(), "main_ce": loss.detach()}
