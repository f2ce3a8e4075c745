"""Stimulative training: each step also pulls a random ordered sub-network toward the main network's output.

Source: paper, Algorithm 1; Stimulative Training++ for KL-, smaller inputs, sample spaces and several sub-networks. The step
shares the prefix of both forwards; `two_forward=True` runs them apart, for the benchmark and for the test that both give
the same gradients.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from stimcore.errors import UsageError
from stimcore.methods.base import Batch, Losses, Method
from stimcore.methods.losses import cross_entropy, kl_divergence, precise
from stimcore.nets.logit_norm import LogitNorm, with_normalised_logits
from stimcore.nets.norms import batch_norms, statistics_kept
from stimcore.nets.staged import Part, StagedNet, prefix_length
from stimcore.subnets.families import draw_ordered


def run(parts: Sequence[Part], x: Tensor) -> Tensor:
    """Sends `x` through parts in order."""
    return reduce(lambda out, part: part.module(out), parts, x)


@dataclass(frozen=True, kw_only=True)
class Stimulative(Method):
    """Loss = CE(main, y) + weight * mean over the step's sub-networks of KL(main || sub), main a constant in the second term.

    Attributes:
        weight: The paper's lambda, from 0; 5 for MobileNetV3 on CIFAR-10, 10 on CIFAR-100, 1 on ImageNet.
        temperature: Of the KL term, more than 0; must be 1 with an amplitude.
        max_skipped: Sample space: per stage how many blocks may be skipped at most; no cap when None.
        subnets: Sub-networks per step, from 1.
        amplitude: KL-: both logits are layer-normalised and multiplied by it before the KL, more than 0; plain KL when None.
        normalised_ce: Take the cross entropy on the normalised logits too; the exported head then carries the normalisation.
        smallest_side: Smaller inputs: the sub-networks' images have a side uniform between this share of the crop and the
            crop, in (0, 1]; 1 is off, Stimulative Training++ takes 0.43.
        two_forward: Run all forwards apart instead of sharing their prefix: same gradients, more work.
    """

    weight: float = 1.0
    temperature: float = 1.0
    max_skipped: tuple[int, ...] | None = None
    subnets: int = 1
    amplitude: float | None = None
    normalised_ce: bool = False
    smallest_side: float = 1.0
    two_forward: bool = False

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise UsageError(f"a lambda of {self.weight}", allowed="0 and more")
        if not self.temperature > 0:
            raise UsageError(f"a temperature of {self.temperature}", allowed="more than 0")
        if not isinstance(self.subnets, int) or self.subnets < 1:
            raise UsageError(f"subnets={self.subnets}", allowed="1 and more sub-networks per step")
        if not 0 < self.smallest_side <= 1:
            raise UsageError(f"a smallest_side of {self.smallest_side}", allowed="more than 0, at most 1")
        if self.amplitude is None and self.normalised_ce:
            raise UsageError("normalised_ce without an amplitude", allowed="normalised_ce=true with amplitude=A, A more than 0")
        if self.amplitude is not None and not self.amplitude > 0:
            raise UsageError(f"an amplitude of {self.amplitude}", allowed="more than 0")
        if self.amplitude is not None and self.temperature != 1:
            raise UsageError(
                f"a temperature of {self.temperature} with an amplitude", allowed="1: the amplitude takes its place"
            )

    def network(self, net: StagedNet) -> StagedNet:
        """The network itself, or with `normalised_ce` the one whose head normalises its logits."""
        return with_normalised_logits(net, self.amplitude) if self.normalised_ce and self.amplitude else net

    def sides(self, crop: int, rng: random.Random) -> tuple[int, ...]:
        """With `smallest_side` below 1 the side of every sub-network's images."""
        if self.smallest_side == 1:
            return ()
        return tuple(rng.randint(max(1, round(self.smallest_side * crop)), crop) for _ in range(self.subnets))

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: Batch) -> Losses:
        """Gradients of the whole loss, at the peak memory of common training.

        The shared prefix's graph ends in a detached leaf. Main suffix and sub-network suffixes run forward and backward one
        after the other and add their gradients up in that leaf; one backward through the prefix finishes. Smaller inputs
        share nothing.
        """
        topology = net.topology
        main = net.route(topology.full)
        subs = [net.route(draw_ordered(topology, batch.rng, self.max_skipped)) for _ in range(self.subnets)]
        shared = 0 if self.two_forward or batch.smaller else min(prefix_length(main, sub) for sub in subs)
        if shared == len(main):  # only the full network was drawn: its KL to itself is 0 with gradient 0
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
        total = torch.zeros_like(ce)
        for sub, images in zip(subs, batch.smaller or [leaf] * self.subnets, strict=True):
            norms = [norm for part in sub[shared:] for norm in batch_norms(part.module)]
            with statistics_kept(norms), batch.autocast():
                kl = self.divergence(target, run(sub[shared:], images))
            batch.backward(self.weight / self.subnets * kl)
            total += kl.detach() / self.subnets
        if leaf.grad is not None:
            cut.backward(leaf.grad)  # type: ignore[no-untyped-call]  # torch has no annotation there
        ce = ce.detach()
        return {"loss": ce + self.weight * total, "main_ce": ce, "sub_kl": total}

    def divergence(self, main: Tensor, sub: Tensor) -> Tensor:
        """KL or KL- of logits `[B, K]`, averaged over the batch."""
        if self.amplitude is None or self.normalised_ce:  # with normalised_ce the head has normalised them already
            return kl_divergence(main, sub, self.temperature)
        normalise = LogitNorm(self.amplitude)
        return kl_divergence(normalise(precise(main)), normalise(precise(sub)))
