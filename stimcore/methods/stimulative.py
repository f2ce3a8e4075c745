"""Stimulative training: each step also pulls a random ordered sub-network toward the main network's output.

Source: paper, Algorithm 1. The step shares the prefix of both forwards; `two_forward=True` runs them apart, for the
benchmark and for the test that both give the same gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from torch import Tensor, nn

from stimcore.enumerate import draw_ordered
from stimcore.errors import UsageError
from stimcore.methods.base import Batch, Losses, Method
from stimcore.methods.losses import cross_entropy, kl_divergence
from stimcore.nets.norms import batch_norms, statistics_kept
from stimcore.nets.staged import Part, StagedNet, prefix_length


def run(parts: Sequence[Part], x: Tensor) -> Tensor:
    """Sends `x` through parts in order."""
    return reduce(lambda out, part: part.module(out), parts, x)


@dataclass(frozen=True, kw_only=True)
class Stimulative(Method):
    """Loss = CE(main, y) + weight * KL(main || sub), main a constant in the second term.

    Attributes:
        weight: The paper's lambda, from 0; 5 for MobileNetV3 on CIFAR-10, 10 on CIFAR-100, 1 on ImageNet.
        temperature: Of the KL term, more than 0.
        max_skipped: Sample space: per stage how many blocks may be skipped at most; no cap when None.
        two_forward: Run both forwards apart instead of sharing their prefix: same gradients, more work.
    """

    weight: float = 1.0
    temperature: float = 1.0
    max_skipped: tuple[int, ...] | None = None
    two_forward: bool = False

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise UsageError(f"a lambda of {self.weight}", allowed="0 and more")
        if not self.temperature > 0:
            raise UsageError(f"a temperature of {self.temperature}", allowed="more than 0")

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: Batch) -> Losses:
        """Gradients of the whole loss, at the peak memory of common training.

        The prefix's graph ends in a detached leaf. Main suffix and sub-network suffix run forward and backward one after
        the other and add their gradients up in that leaf; one backward through the prefix finishes.
        """
        topology = net.topology
        main = net.route(topology.full)
        sub = net.route(draw_ordered(topology, batch.rng, self.max_skipped))
        shared = 0 if self.two_forward else prefix_length(main, sub)
        if shared == len(main):  # the full network was drawn: its KL to itself is 0 with gradient 0
            shared = len(main) - 1
        with batch.autocast():
            cut = run(main[:shared], batch.images)
        leaf = cut.detach().requires_grad_(cut.requires_grad)
        with batch.autocast():
            logits = run(main[shared:], leaf)
            ce = cross_entropy(logits, batch.labels, batch.label_smoothing)
        batch.backward(ce)
        target = logits.detach()
        del logits
        norms = [norm for part in sub[shared:] for norm in batch_norms(part.module)]
        with statistics_kept(norms), batch.autocast():
            kl = kl_divergence(target, run(sub[shared:], leaf), self.temperature)
        batch.backward(self.weight * kl)
        if leaf.grad is not None:
            cut.backward(leaf.grad)  # type: ignore[no-untyped-call]  # torch has no annotation there
        ce, kl = ce.detach(), kl.detach()
        return {"loss": ce + self.weight * kl, "main_ce": ce, "sub_kl": kl}
