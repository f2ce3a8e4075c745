"""Stimulative training in anybody's training loop: one function that returns the loss of a step.

The loop keeps everything else: its optimiser, schedule, precision and data. Only torch is needed.
"""

from torch import Tensor, nn

from stimcore.errors import UsageError
from stimcore.methods.base import StepContext
from stimcore.methods.stimulative import Stimulative
from stimcore.nets.logit_norm import LogitNorm
from stimcore.nets.staged import StagedNet
from stimcore.train.seeds import spec_rng

DEFAULT = Stimulative()


def stimulative_loss(
    net: StagedNet,
    batch: tuple[Tensor, Tensor],
    step: int,
    *,
    method: Stimulative = DEFAULT,
    seed: int = 0,
    epoch: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the loss of one step of stimulative training, on which the loop runs backward.

    Calls with the same seed and step draw the same sub-networks: the parts of a batch whose gradients are accumulated, and all
    processes of a run, have the number of the optimiser's step in common. Every parameter gets a gradient in every step, which
    DistributedDataParallel asks for; it wraps a `StimulativeLoss`.

    Args:
        net: The network, in training mode: from `stimcore.nets.own.staged` or `stimcore.nets.catalogue.build`.
        batch: Images `[B, C, H, W]`, normalised, and labels `[B]`, int64.
        step: Number of the optimiser's step, from 0.
        method: Lambda and the other options, such as `Stimulative(weight=5.0, sample="deletions")`.
        seed: Seed of the run.
        epoch: Epochs of the run before this step; only a `weight_warmup` reads it.
        label_smoothing: In [0, 1); 0 is off.

    Returns:
        CE(main, y) + lambda * KL(main || sub), a scalar with a graph.

    Raises:
        UsageError: The network is none of `staged`, it does not have the sample space of the method, the method needs smaller
            images, or it has `normalised_ce` and the network was not wrapped by it.

    Example:
        >>> import torch
        >>> from stimcore.nets.catalogue import build
        >>> net = build("resnet8", input_shape=(1, 8, 8), num_classes=3)
        >>> loss = stimulative_loss(net, (torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])), step=0)
        >>> loss.backward()
        >>> all(parameter.grad is not None for parameter in net.parameters())
        True
    """
    images, labels = batch
    if not isinstance(getattr(net, "_orig_mod", net), StagedNet):  # torch.compile keeps a network under this name
        raise UsageError(
            f"{type(net).__name__} in the place of a network whose sub-networks can be drawn",
            allowed="what stimcore.nets.own.staged or stimcore.nets.catalogue.build returns",
            todo="DistributedDataParallel wraps StimulativeLoss(net).",
        )
    if method.smallest_side < 1:
        raise UsageError(
            f"smallest_side={method.smallest_side} in a loop of your own, whose images have one size", allowed="smallest_side=1"
        )
    if method.needs_weights:
        raise UsageError(
            f"target={method.target} in a loop of your own, which has no teacher", allowed="target=main, target=labels"
        )
    if method.normalised_ce and not any(isinstance(module, LogitNorm) for module in net.head.modules()):
        raise UsageError(
            "normalised_ce with a network whose head does not normalise its logits",
            todo="Wrap it once, before the loop: net = method.wrap(net).",
        )
    context = StepContext(
        images=images, labels=labels, rng=spec_rng(seed, "spec", step), label_smoothing=label_smoothing, epoch=epoch
    )
    return method.loss(net, context)


class StimulativeLoss(nn.Module):
    """A module whose forward is `stimulative_loss`: what DistributedDataParallel and accelerate wrap.

    Args:
        net: The network; it is the only child, so that its weights are trained.
        method: Lambda and the other options.
        seed: Seed of the run.
        label_smoothing: In [0, 1); 0 is off.

    Example:
        >>> import torch
        >>> from stimcore.nets.catalogue import build
        >>> loss = StimulativeLoss(build("resnet8", input_shape=(1, 8, 8), num_classes=3))
        >>> loss((torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])), step=0).shape
        torch.Size([])
    """

    def __init__(self, net: StagedNet, *, method: Stimulative = DEFAULT, seed: int = 0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.net, self.method, self.seed, self.label_smoothing = net, method, seed, label_smoothing

    def forward(self, batch: tuple[Tensor, Tensor], step: int, *, epoch: float = 0.0) -> Tensor:
        """Return the loss of one step; see `stimulative_loss`."""
        return stimulative_loss(
            self.net,
            batch,
            step,
            method=self.method,
            seed=self.seed,
            epoch=epoch,
            label_smoothing=self.label_smoothing,
        )
