"""The torch reference along the tree of prefixes: the same operations as one by one, each shared prefix once.

`stimcore.reference.evaluate.evaluate` does it one by one; a test holds both together bit for bit. Batches go through the whole tree one
after the other, so memory holds one batch's activations along one path.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stimcore.data.images import Images
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.reference import calibrate as calibrating
from stimcore.reference import evaluate
from stimcore.reference.evaluate import Evaluation, as_tensor
from stimcore.subnets.part_name import PartName
from stimcore.subnets.spec import Spec


@dataclass
class _Node:
    """A prefix: a copy of its last part with statistics of its own, what goes on, and the sub-networks that end here."""

    part: nn.Module
    children: dict[PartName, "_Node"] = field(default_factory=dict)
    specs: list[Spec] = field(default_factory=list)


def reference_logits(net: StagedNet, specs: Sequence[Spec], calibration: Tensor, images: Tensor) -> dict[Spec, Tensor]:
    """Logits `[N, K]` of every spec for images `[N, C, H, W]`, batch norms re-calibrated.

    Args:
        net: In evaluation mode; left untouched.
        specs: Sub-networks.
        calibration: `[M, C, H, W]`, normalised.
        images: Normalised.
    """
    return _logits(net, specs, torch.split(calibration, calibrating.BATCH), torch.split(images, evaluate.BATCH))


def evaluate_together(
    net: StagedNet,
    specs: Sequence[Spec],
    images: Images,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    calibration: Images,
) -> dict[Spec, Evaluation]:
    """Evaluate several sub-networks on the same images; the logits are those of `stimcore.reference.evaluate.evaluate` one by one.

    Args:
        net: Left untouched.
        specs: Sub-networks, each once.
        images: What is evaluated on.
        mean: Normalisation per channel.
        std: Normalisation per channel.
        calibration: Images for the batch norms; all sub-networks start from the trained weights.
    """
    device = next(net.parameters()).device

    def batches(source: Images, size: int) -> Iterator[Tensor]:
        for start in range(0, len(source), size):
            yield as_tensor(source.pixels[start : start + size], mean, std, device)

    found = _logits(net, specs, batches(calibration, calibrating.BATCH), batches(images, evaluate.BATCH))
    return {spec: Evaluation(logits.float().numpy(), images.labels) for spec, logits in found.items()}


@torch.no_grad()
def _logits(
    net: StagedNet, specs: Sequence[Spec], calibration: Iterable[Tensor], images: Iterable[Tensor]
) -> dict[Spec, Tensor]:
    """Logits `[N, K]` of every spec, on the CPU; takes normalised batches one at a time."""
    root = _tree(net, specs)
    norms = [norm for node in _below(root) for norm in batch_norms(node.part)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in calibration:
        for _ in _through(root, batch):
            pass
    for norm in norms:
        norm.eval()
    found: dict[Spec, list[Tensor]] = {spec: [] for spec in specs}
    for batch in images:
        for spec, logits in _through(root, batch):
            found[spec].append(logits.cpu())
    return {spec: torch.cat(outputs) for spec, outputs in found.items()}


def _tree(net: StagedNet, specs: Sequence[Spec]) -> _Node:
    root = _Node(nn.Identity())
    for spec in specs:
        node = root
        for part in net.route(spec):
            if part.name not in node.children:
                node.children[part.name] = _Node(copy.deepcopy(part.module).eval())
            node = node.children[part.name]
        node.specs.append(spec)
    return root


def _below(node: _Node) -> Iterator[_Node]:
    for child in node.children.values():
        yield child
        yield from _below(child)


def _through(node: _Node, x: Tensor) -> Iterator[tuple[Spec, Tensor]]:
    """Sends one batch on from a node; yields what comes out at the ends."""
    for child in node.children.values():
        out = child.part(x)
        for spec in child.specs:
            yield spec, out
        yield from _through(child, out)
