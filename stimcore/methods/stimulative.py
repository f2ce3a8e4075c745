"""Stimulative training: every step also pulls a random sub-network toward the main network's output.

The forwards of a step share the prefix that they have in common (`Stimulative.step` explains how). With `two_forward=True` they
run separately, for the benchmark and for the test that both ways have the same gradients.

Source: paper, Algorithm 1 (ordered sub-networks, KL); Stimulative Training++ for KL-, smaller inputs, caps on the sample space
and several sub-networks; Yu & Huang 2019, "Universally slimmable networks and improved training techniques", for the sandwich
rule.
"""

import copy
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from stimcore.errors import UsageError
from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.losses import at_least_float32, cross_entropy, kl_divergence
from stimcore.nets.logit_norm import LogitNorm, with_normalised_logits
from stimcore.nets.norms import batch_norms, running_statistics_frozen
from stimcore.nets.staged import Part, StagedNet, prefix_length
from stimcore.subnets.sampling import SAMPLE_SPACES, smallest_deletion, smallest_ordered
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

TARGETS = ("main", "labels", "frozen")
"""What sub-networks learn from: the main network's logits, the labels, or the main network's logits before the training."""


class Teacher(nn.Module):
    """The main network as it was before the first step; no step changes it.

    It is in evaluation mode, with the batch-norm statistics that came with its weights. Checkpoints hold it, so that a run that
    is resumed has the same teacher.

    Args:
        net: The network that is trained; it is copied.
    """

    def __init__(self, net: StagedNet) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[B, num_classes]` of images `[B, C, H, W]`."""
        logits: Tensor = self.net(images)
        return logits


def run_parts(parts: Sequence[Part], x: Tensor) -> Tensor:
    """Return the output of the last part when `x` runs through all parts in order; `x` itself if there are none."""
    return reduce(lambda out, part: part.module(out), parts, x)


@dataclass(frozen=True, kw_only=True)
class Stimulative(Method):
    """Loss = CE(main, y) + weight * mean over the step's sub-networks of KL(main || sub).

    The main logits are a constant in the second term. With `target="labels"` the second term is the mean of CE(sub, y), with
    `target="frozen"` that of KL(main before the training || sub).

    Attributes:
        weight: The paper's lambda, from 0. The paper uses 5 (MobileNetV3 on CIFAR-10), 10 (CIFAR-100) and 1 (ImageNet).
        weight_warmup: Epochs over which the weight grows linearly from 0, from 0. A large weight in the first epochs pulls the
            sub-networks to a main network that only guesses, and with their shared weights the main network too.
        divide_by_classes: Whether the KL term is averaged over the classes too, as PyTorch's `KLDivLoss` does by default: a
            weight of 10 then is one of 0.1 for 100 classes.
        temperature: Temperature of the KL term, more than 0; must be 1 with an amplitude.
        sample: Sample space: `ordered` (the paper), `deletions` or `deletions+permutations`; a key of `SAMPLE_SPACES`.
        max_skipped: Cap on the sample space: for each stage how many blocks may be skipped at most; no cap when None.
        subnets: Number of random sub-networks per step, from 1.
        sandwich: Whether every step also runs the smallest sub-network of the sample space.
        target: `main` for KL to the main network's logits, `labels` for cross entropy with the labels, `frozen` for KL to the
            logits of the main network as it was when the training started from weights (`--init`).
        amplitude: KL- of Stimulative Training++: both logits are layer-normalised and multiplied by this before the KL. More
            than 0; plain KL when None.
        normalised_ce: Whether the cross entropy uses the normalised logits too; the exported head then ends with the
            normalisation.
        smallest_side: Smaller inputs: the side of the sub-networks' images is uniform between this share of the crop and the
            crop. In (0, 1]; 1 turns it off, Stimulative Training++ uses 0.43.
        two_forward: Whether all forwards run separately instead of sharing their prefix: same gradients, more work.
    """

    added_later: ClassVar[frozenset[str]] = frozenset({"divide_by_classes"})

    weight: float = 1.0
    weight_warmup: float = 0.0
    divide_by_classes: bool = False
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
        if not 0 <= self.weight < math.inf:
            raise UsageError(f"a lambda of {self.weight}", allowed="0 and more")
        if not 0 <= self.weight_warmup < math.inf:
            raise UsageError(f"a weight_warmup of {self.weight_warmup}", allowed="0 and more epochs")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"a temperature of {self.temperature}", allowed="more than 0")
        if not isinstance(self.subnets, int) or self.subnets < 1:
            raise UsageError(f"subnets={self.subnets}", allowed="1 and more sub-networks per step")
        if not 0 < self.smallest_side <= 1:
            raise UsageError(f"a smallest_side of {self.smallest_side}", allowed="more than 0, at most 1")
        if self.amplitude is None and self.normalised_ce:
            raise UsageError("normalised_ce without an amplitude", allowed="normalised_ce=true with amplitude=A, A more than 0")
        if self.amplitude is not None and not 0 < self.amplitude < math.inf:
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
        if self.target == "labels" and self.divide_by_classes:
            raise UsageError("divide_by_classes with target=labels", allowed="divide_by_classes=false: there is no KL term")
        if self.sandwich and self.max_skipped is not None and self.sample != "ordered":
            raise UsageError(
                f"sandwich with max_skipped and sample={self.sample}: several sub-networks are the smallest",
                allowed="sample=ordered, or no max_skipped",
            )

    @property
    def num_subnets(self) -> int:
        """Number of sub-networks that a step runs: the random ones, and with `sandwich` the smallest."""
        return self.subnets + self.sandwich

    def weight_at(self, epoch: float) -> float:
        """Return the weight of the second term when so many epochs have passed."""
        return self.weight * min(1.0, epoch / self.weight_warmup) if self.weight_warmup else self.weight

    def draw(self, topology: Topology, rng: random.Random) -> list[Spec]:
        """Draw the sub-networks of one step: first the random ones, then with `sandwich` the smallest.

        Raises:
            UsageError: The network does not have this sample space.
        """
        specs = [SAMPLE_SPACES[self.sample](topology, rng, self.max_skipped) for _ in range(self.subnets)]
        if self.sandwich:
            ordered = self.sample == "ordered"
            specs.append(smallest_ordered(topology, self.max_skipped) if ordered else smallest_deletion(topology))
        return specs

    @property
    def needs_weights(self) -> bool:
        """Whether the teacher is the network before the training, which random weights would make a teacher of noise."""
        return self.target == "frozen"

    def make_auxiliary(self, net: StagedNet) -> Teacher | None:
        """Return the teacher of `target="frozen"`, otherwise None: there are no extra heads.

        Raises:
            UsageError: The network does not have the sample space.
        """
        self.draw(net.topology, random.Random(0))
        return Teacher(net) if self.target == "frozen" else None

    def wrap(self, net: StagedNet) -> StagedNet:
        """Return the network itself, with `normalised_ce` the one whose head normalises its logits."""
        return with_normalised_logits(net, self.amplitude) if self.normalised_ce and self.amplitude else net

    def draw_sides(self, crop: int, rng: random.Random) -> tuple[int, ...]:
        """Draw the side of every sub-network's images if `smallest_side` is below 1."""
        if self.smallest_side == 1:
            return ()
        return tuple(rng.randint(max(1, round(self.smallest_side * crop)), crop) for _ in range(self.num_subnets))

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        """Add the gradients of the whole loss, at the peak memory of common training.

        All forwards of a step begin with the same parts on the same images, up to the first block that one of them skips or
        moves. This prefix runs once:

            images -> prefix -> cut | leaf -> main suffix -> CE
                                    | leaf -> suffix of a sub-network -> KL    (one after the other)

        `cut` is the prefix's output and the end of its graph. `leaf` is the same tensor as the beginning of a new graph. Each
        suffix runs forward and backward on the leaf, which adds the gradient of its loss to `leaf.grad`. The chain rule is
        linear in that gradient, so one backward through the prefix with the sum has the result of one backward per suffix.

        A backward frees the graph that it ran through. At any moment only the prefix's graph and that of one suffix are alive;
        together these are at most the graph of the main network, which is what common training holds.

        With smaller inputs the sub-networks see other images than the main network, so nothing is shared.
        """
        main, subs, shared = self._routes(net, batch)
        with batch.autocast():
            cut = run_parts(main[:shared], batch.images)
        # Without a shared prefix the cut is the batch of images: no gradient is needed and `leaf.grad` stays None.
        leaf = cut.detach().requires_grad_(cut.requires_grad)

        with batch.autocast():
            logits = run_parts(main[shared:], leaf)
            ce = cross_entropy(logits, batch.labels, batch.label_smoothing)
        batch.backward(ce)
        target = self._target(logits, auxiliary, batch)
        del logits  # the last reference into the main suffix's graph

        weight = self.weight_at(batch.epoch)
        second = torch.zeros_like(ce)
        for sub, images in zip(subs, batch.smaller or [leaf] * len(subs), strict=True):
            norms = [norm for part in sub[shared:] for norm in batch_norms(part.module)]
            # The prefix has written its running statistics for the main network; the suffix of a sub-network must not
            # overwrite those of the main suffix, which has the same batch norms.
            with running_statistics_frozen(norms), batch.autocast():
                sub_loss = self.sub_loss(target, run_parts(sub[shared:], images), batch)
            batch.backward(weight / len(subs) * sub_loss)
            second += sub_loss.detach() / len(subs)

        if leaf.grad is not None:
            # Not `batch.backward`, which multiplies a loss by the scale of the precision: `leaf.grad` is scaled already.
            torch.autograd.backward(cut, leaf.grad)
        ce = ce.detach()
        return {"loss": ce + weight * second, "main_ce": ce, "sub_ce" if self.target == "labels" else "sub_kl": second}

    def loss(self, net: StagedNet, batch: StepContext, auxiliary: nn.Module | None = None) -> Tensor:
        """Return the loss of a step as one scalar, on which the caller runs backward; its gradients are those of `step`.

        The prefix that all forwards share runs once here too. The graphs of the main network and of all sub-networks are alive
        until backward, which takes more memory than `step`.

        Args:
            net: The network that `wrap` returned, in training mode.
            batch: The step's batch; its `backward` is not called.
            auxiliary: The module that `make_auxiliary` returned.
        """
        main, subs, shared = self._routes(net, batch)
        with batch.autocast():
            cut = run_parts(main[:shared], batch.images)
            logits = run_parts(main[shared:], cut)
            total = cross_entropy(logits, batch.labels, batch.label_smoothing)
        target = self._target(logits, auxiliary, batch)
        for sub, images in zip(subs, batch.smaller or [cut] * len(subs), strict=True):
            norms = [norm for part in sub[shared:] for norm in batch_norms(part.module)]
            with running_statistics_frozen(norms), batch.autocast():
                sub_loss = self.sub_loss(target, run_parts(sub[shared:], images), batch)
            total = total + self.weight_at(batch.epoch) / len(subs) * sub_loss
        return total

    def _target(self, logits: Tensor, auxiliary: nn.Module | None, batch: StepContext) -> Tensor:
        """Return the logits `[B, K]` that sub-networks learn from, a constant in their loss."""
        if self.target != "frozen":
            return logits.detach()
        assert isinstance(auxiliary, Teacher), "what `make_auxiliary` returns for this target"
        with batch.autocast():
            teacher: Tensor = auxiliary(batch.images)
        return teacher

    def _routes(self, net: StagedNet, batch: StepContext) -> tuple[list[Part], list[list[Part]], int]:
        """Return the parts of the main network, those of each drawn sub-network, and how many leading parts all share."""
        main = net.route(net.topology.full)
        subs = [net.route(spec) for spec in self.draw(net.topology, batch.rng)]
        return main, subs, self._shared_length(main, subs, batch)

    def _shared_length(self, main: Sequence[Part], subs: Sequence[Sequence[Part]], batch: StepContext) -> int:
        """Return how many leading parts all forwards of a step share."""
        if self.two_forward or batch.smaller:
            return 0
        shared = min(prefix_length(main, sub) for sub in subs)
        # If only the full network was drawn, even the head is shared. It still runs once for each loss, as in separate
        # forwards, where dropout in the head draws anew for each.
        return min(shared, len(main) - 1)

    def sub_loss(self, main: Tensor, sub: Tensor, batch: StepContext) -> Tensor:
        """Return the loss of a sub-network: its divergence from the main logits, or its cross entropy with the labels.

        Args:
            main: Logits `[B, K]` that the sub-network learns from.
            sub: Logits `[B, K]` of the sub-network.
            batch: The step's batch.
        """
        if self.target == "labels":
            return cross_entropy(sub, batch.labels, batch.label_smoothing)
        return self.divergence(main, sub)

    def divergence(self, main: Tensor, sub: Tensor) -> Tensor:
        """Return KL or KL- of the logits `[B, K]` of the main network and of a sub-network, averaged over the batch.

        With `divide_by_classes` it is averaged over the K classes too.
        """
        scale = 1 / main.shape[1] if self.divide_by_classes else 1.0
        if self.amplitude is None or self.normalised_ce:  # with normalised_ce the head has normalised the logits already
            return scale * kl_divergence(main, sub, self.temperature)
        normalise = LogitNorm(self.amplitude)
        return scale * kl_divergence(normalise(at_least_float32(main)), normalise(at_least_float32(sub)))
