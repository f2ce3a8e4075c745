"""Stimulative training: each step also pulls a random sub-network toward the main network's output.

Source: paper, Algorithm 1 (ordered sub-networks, KL); Stimulative Training++ for KL-, smaller inputs, caps on the sample space
and several sub-networks; Yu & Huang 2019, "Universally slimmable networks and improved training techniques", for the sandwich
rule. The step shares the prefix of all forwards; `two_forward=True` runs them apart, for the benchmark and for the test that
both give the same gradients.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from stimcore.errors import UsageError
from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.losses import cross_entropy, kl_divergence, precise
from stimcore.nets.logit_norm import LogitNorm, with_normalised_logits
from stimcore.nets.norms import batch_norms, statistics_kept
from stimcore.nets.staged import Part, StagedNet, prefix_length
from stimcore.subnets.sampling import SAMPLE_SPACES, smallest_deletion, smallest_ordered
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

TARGETS = ("main", "labels")
"""What sub-networks learn from: the main network's logits, or the labels."""


def run(parts: Sequence[Part], x: Tensor) -> Tensor:
    """Sends `x` through parts in order."""
    return reduce(lambda out, part: part.module(out), parts, x)


@dataclass(frozen=True, kw_only=True)
class Stimulative(Method):
    """Loss = CE(main, y) + weight * mean over the step's sub-networks of KL(main || sub), main a constant in the second term.

    With `target="labels"` the second term is the mean of CE(sub, y).

    Attributes:
        weight: The paper's lambda, from 0; 5 for MobileNetV3 on CIFAR-10, 10 on CIFAR-100, 1 on ImageNet.
        temperature: Of the KL term, more than 0; must be 1 with an amplitude.
        sample: Sample space: `ordered` (the paper), `deletions`, or `deletions+permutations`; a key of `SAMPLE_SPACES`.
        max_skipped: Cap on the sample space: per stage how many blocks may be skipped at most; no cap when None.
        subnets: Random sub-networks per step, from 1.
        sandwich: Whether every step also takes the smallest sub-network of the sample space, besides the random ones.
        target: `main` for KL to the main network's logits, `labels` for cross entropy with the labels.
        amplitude: KL-: both logits are layer-normalised and multiplied by it before the KL, more than 0; plain KL when None.
        normalised_ce: Take the cross entropy on the normalised logits too; the exported head then carries the normalisation.
        smallest_side: Smaller inputs: the sub-networks' images have a side uniform between this share of the crop and the
            crop, in (0, 1]; 1 is off, Stimulative Training++ takes 0.43.
        two_forward: Run all forwards apart instead of sharing their prefix: same gradients, more work.
    """

    weight: float = 1.0
    temperature: float = 1.0
    sample: str = "ordered"
    max_skipped: tuple[int, ...] | None = None
    subnets: int = 1
    sandwich: bool = False
    target: str = "main"
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
        if self.sample not in SAMPLE_SPACES:
            raise UsageError(f"sample={self.sample}", allowed=", ".join(SAMPLE_SPACES))
        if self.target not in TARGETS:
            raise UsageError(f"target={self.target}", allowed=", ".join(TARGETS))
        if self.target == "labels" and (self.temperature != 1 or self.amplitude is not None):
            given = f"a temperature of {self.temperature}" if self.amplitude is None else f"an amplitude of {self.amplitude}"
            raise UsageError(f"{given} with target=labels", allowed="neither temperature nor amplitude: there is no KL term")
        if self.sandwich and self.max_skipped is not None and self.sample != "ordered":
            raise UsageError(
                f"sandwich with max_skipped and sample={self.sample}: several sub-networks are the smallest",
                allowed="sample=ordered, or no max_skipped",
            )

    @property
    def num_subnets(self) -> int:
        """Sub-networks that a step runs: the random ones, and with `sandwich` the smallest."""
        return self.subnets + self.sandwich

    def draw(self, topology: Topology, rng: random.Random) -> list[Spec]:
        """The sub-networks of one step: the random ones in order of their draws, then with `sandwich` the smallest.

        Raises:
            UsageError: The network does not have this sample space.
        """
        specs = [SAMPLE_SPACES[self.sample](topology, rng, self.max_skipped) for _ in range(self.subnets)]
        if self.sandwich:
            ordered = self.sample == "ordered"
            specs.append(smallest_ordered(topology, self.max_skipped) if ordered else smallest_deletion(topology))
        return specs

    def auxiliary(self, net: StagedNet) -> None:
        """Nothing besides the network; refuses a sample space that the network does not have, before the first step."""
        self.draw(net.topology, random.Random(0))

    def network(self, net: StagedNet) -> StagedNet:
        """The network itself, or with `normalised_ce` the one whose head normalises its logits."""
        return with_normalised_logits(net, self.amplitude) if self.normalised_ce and self.amplitude else net

    def sides(self, crop: int, rng: random.Random) -> tuple[int, ...]:
        """With `smallest_side` below 1 the side of every sub-network's images."""
        if self.smallest_side == 1:
            return ()
        return tuple(rng.randint(max(1, round(self.smallest_side * crop)), crop) for _ in range(self.num_subnets))

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Gradients of the whole loss, at the peak memory of common training.

        The shared prefix's graph ends in a detached leaf. Main suffix and sub-network suffixes run forward and backward one
        after the other and add their gradients up in that leaf; one backward through the prefix finishes. Smaller inputs
        share nothing.
        """
        topology = net.topology
        main = net.route(topology.full)
        subs = [net.route(spec) for spec in self.draw(topology, batch.rng)]
        shared = 0 if self.two_forward or batch.smaller else min(prefix_length(main, sub) for sub in subs)
        if shared == len(main):  # only the full network was drawn: run the head twice, so that both losses have their graph
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
        for sub, images in zip(subs, batch.smaller or [leaf] * len(subs), strict=True):
            norms = [norm for part in sub[shared:] for norm in batch_norms(part.module)]
            with statistics_kept(norms), batch.autocast():
                sub_loss = self.sub_loss(target, run(sub[shared:], images), batch)
            batch.backward(self.weight / len(subs) * sub_loss)
            total += sub_loss.detach() / len(subs)
        if leaf.grad is not None:
            cut.backward(leaf.grad)  # type: ignore[no-untyped-call]  # torch has no annotation there
        ce = ce.detach()
        return {"loss": ce + self.weight * total, "main_ce": ce, "sub_ce" if self.target == "labels" else "sub_kl": total}

    def sub_loss(self, main: Tensor, sub: Tensor, batch: StepContext) -> Tensor:
        """What a sub-network's logits `[B, K]` are trained by: the divergence from the main logits, or the batch's labels."""
        if self.target == "labels":
            return cross_entropy(sub, batch.labels, batch.label_smoothing)
        return self.divergence(main, sub)

    def divergence(self, main: Tensor, sub: Tensor) -> Tensor:
        """KL or KL- of logits `[B, K]`, averaged over the batch."""
        if self.amplitude is None or self.normalised_ce:  # with normalised_ce the head has normalised them already
            return kl_divergence(main, sub, self.temperature)
        normalise = LogitNorm(self.amplitude)
        return kl_divergence(normalise(precise(main)), normalise(precise(sub)))
